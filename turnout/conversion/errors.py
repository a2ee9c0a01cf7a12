"""`ConversionError`: a model that cannot be fetched, converted or proved equal."""

from __future__ import annotations

from turnout.problems import TurnoutError


class ConversionError(TurnoutError):
    """The model cannot become a version.

    Args:
        message: what is wrong, without a full stop.
        hint: the remedy.
        code: the command's exit code: 2 for invalid input, 1 for an operation that failed.
    """

    def __init__(self, message: str, hint: str = "", *, code: int = 2) -> None:
        super().__init__(message, hint)
        self.code = code

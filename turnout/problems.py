"""Errors that users can fix: `Problem`, one error in their files, and `TurnoutError`, a message with a remedy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One error at one place.

    Args:
        message: the error and the correct values: `must be 128-10240, got 64`.
        path: keys of the place in the document: `("models", "iris", "versions", "v1", "memory_mb")`.
        source: the file's name as the user wrote it.
        line: 1-based, 0 if unknown.
        column: 1-based, 0 if unknown.
        hint: the remedy as a separate sentence, or empty.
    """

    message: str
    path: tuple[str | int, ...] = ()
    source: str = "models.yaml"
    line: int = 0
    column: int = 0
    hint: str = ""

    def __str__(self) -> str:
        """Return `models.yaml:12:9: models.iris.versions.v1.memory_mb: must be 128-10240, got 64`, and the hint."""
        place = f"{self.source}:{self.line}:{self.column}" if self.line else self.source
        dotted = ".".join(str(key) for key in self.path)
        text = f"{place}: {dotted}: {self.message}" if dotted else f"{place}: {self.message}"
        return f"{text}\n    {self.hint}" if self.hint else text


class TurnoutError(Exception):
    """The base of errors with a remedy.

    Args:
        message: the error.
        hint: how to fix it as a separate sentence, or empty.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ProblemsError(Exception):
    """The user's files cannot be used; `problems` has all reasons, in the order of the file."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.source, problem.line, problem.column)))
        super().__init__("\n".join(str(problem) for problem in self.problems))

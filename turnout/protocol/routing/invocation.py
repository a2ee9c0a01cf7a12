"""One call of a function by a router, and its outcome.

The router's own Lambda implements it with Lambda's Invoke API, the local gateway with its own functions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Answered:
    """The outcome of one call.

    Args:
        answer: the function's proxy answer; None if it failed, and for an asynchronous call.
        error: empty, or the kind of failure: `failed`, `timed_out`, `throttled`, `too_large`, `unknown_function`.
        message: a message for the log, never for the caller.
    """

    answer: Mapping[str, Any] | None
    error: str = ""
    message: str = ""


class Invoke(Protocol):
    """Calls a function by its alias."""

    def __call__(
        self, function: str, alias: str, event: Mapping[str, Any], *, deadline_s: float, asynchronous: bool = False
    ) -> Awaitable[Answered]:
        """Call it, and wait for its answer; failures are returned, not raised.

        Args:
            function: name of the function.
            alias: `live` or `next`.
            event: a JSON value.
            deadline_s: when the caller stops waiting, in the time of `time.monotonic()`.
            asynchronous: whether only the call's acceptance matters; its outcome is discarded.
        """
        ...

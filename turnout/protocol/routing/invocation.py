"""One call of a function by a router, and its outcome.

Implemented over Lambda's Invoke API in the router's own Lambda and over its own functions by the local gateway; called
by the routers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Answered:
    """The outcome of one call.

    Args:
        answer: the proxy answer that the function gave; None where it failed, and for an asynchronous call.
        error: empty, or why there is no answer: `failed`, `timed_out`, `throttled`, `too_large`, `unknown_function`.
        message: for the log, never for the caller.
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
            function: its name.
            alias: `live` or `next`.
            event: JSON.
            deadline_s: when the caller gives up, a moment of `time.monotonic()`.
            asynchronous: only have the call accepted; its outcome is dropped.
        """
        ...

"""Estimates how long a call of one function would wait, so that a hopeless one is rejected immediately.

Otherwise an overloaded function would work on calls whose callers have given up before the answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

WEIGHT = 0.2
"""Weight of the newest run in the moving mean: about the last ten runs count."""

SHARE_OF_DEADLINE = 0.8
"""The estimate is a mean, so a call that needs all of its remaining time would be late half of the time."""


GRACE_S = 0.2
"""How long a hopeless call is kept before it is rejected. Callers ahead of it may just have disconnected, which takes a
moment to be noticed.
"""

MOST_GRACED = 64
"""Most hopeless calls that are kept at once. More are rejected immediately."""


class Waiting(Protocol):
    """A call that waits.

    Attributes:
        deadline: on the clock of `find_hopeless`.
        kept_until: when it may be rejected; 0 for one that was not hopeless on arrival.
    """

    deadline: float
    kept_until: float


W = TypeVar("W", bound=Waiting)


class WaitingTime:
    """A moving mean of a function's run times, by the clock.

    On a busy machine runs take longer, and calls wait longer.
    """

    __slots__ = ("_runs", "run_s")

    def __init__(self) -> None:
        self.run_s = 0.0
        self._runs = 0

    def learn(self, run_s: float) -> None:
        """Record how long one run took.

        The first run also allocates memory that later ones reuse, so it counts only until the second has ended.
        """
        self._runs += 1
        if self._runs <= 2:
            self.run_s = run_s
        else:
            self.run_s += (run_s - self.run_s) * WEIGHT

    def is_hopeless(self, ahead: int, at_once: int, remaining_s: float) -> bool:
        """Whether a new call is likely to miss its deadline. As many calls as run may always wait, because runs differ.

        Args:
            ahead: number of calls that already wait.
            at_once: number of runs in progress, each of which makes room for one call when it ends.
            remaining_s: time until the deadline.
        """
        if ahead < at_once:
            return False
        needed_s = ((ahead + 1) / max(1, at_once) + 1) * self.run_s
        return needed_s > remaining_s * SHARE_OF_DEADLINE

    def find_hopeless(self, latest_first: Iterable[W], count: int, at_once: int, now: float) -> list[W]:
        """Yield the calls at the end of a queue that will not be answered in time and must be rejected.

        Args:
            latest_first: all waiting calls.
            count: their number.
            at_once: see `is_hopeless`.
            now: time of the clock.
        """
        hopeless: list[W] = []
        for call in latest_first:
            count -= 1
            if not self.is_hopeless(count, at_once, call.deadline - now):
                break
            if call.kept_until <= now:
                hopeless.append(call)
        return hopeless

"""Estimates how long a call of one function would wait, so that a hopeless one is refused at once.

Without it an overloaded function works on calls whose callers have given up by the time that it is done.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

WEIGHT = 0.2
"""Of the newest run in the moving mean: the last ten or so count."""

SHARE_OF_DEADLINE = 0.8
"""The estimate is a mean, so a call that needs its whole time by it comes too late every second time."""


GRACE_S = 0.2
"""A hopeless call is kept for so long before it is refused. Of those ahead some callers may have gone away just now,
which takes a moment to be noticed."""

MOST_GRACED = 64
"""Hopeless calls that are kept at once. More are refused immediately."""


class Waiting(Protocol):
    """A call that waits.

    Attributes:
        deadline: of the clock that `find_hopeless` is given.
        kept_until: when it may be refused; 0 for one that was not hopeless when it came.
    """

    deadline: float
    kept_until: float


W = TypeVar("W", bound=Waiting)


class WaitingTime:
    """A moving mean of a function's runs, by the clock: on a busy machine they take longer, and calls wait longer."""

    __slots__ = ("_runs", "run_s")

    def __init__(self) -> None:
        self.run_s = 0.0
        self._runs = 0

    def learn(self, run_s: float) -> None:
        """Take in how long one run took.

        The first one pays for memory that later ones find ready, so it counts until the second has ended.
        """
        self._runs += 1
        if self._runs <= 2:
            self.run_s = run_s
        else:
            self.run_s += (run_s - self.run_s) * WEIGHT

    def is_hopeless(self, ahead: int, at_once: int, remaining_s: float) -> bool:
        """Whether a new call is likely to miss its deadline. As many as run may always wait: runs differ.

        Args:
            ahead: calls that wait already.
            at_once: runs that are under way, each of which makes room for one call when it ends.
            remaining_s: until the deadline.
        """
        if ahead < at_once:
            return False
        needed_s = ((ahead + 1) / max(1, at_once) + 1) * self.run_s
        return needed_s > remaining_s * SHARE_OF_DEADLINE

    def find_hopeless(self, latest_first: Iterable[W], count: int, at_once: int, now: float) -> list[W]:
        """The calls at a queue's end that will not be answered in time, and are to be refused.

        Args:
            latest_first: all calls that wait.
            count: how many they are.
            at_once: see `is_hopeless`.
            now: the clock's.
        """
        hopeless: list[W] = []
        for call in latest_first:
            count -= 1
            if not self.is_hopeless(count, at_once, call.deadline - now):
                break
            if call.kept_until <= now:
                hopeless.append(call)
        return hopeless

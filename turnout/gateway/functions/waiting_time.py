"""Estimates how long a call of one function would wait, so that a hopeless one is refused at once.

Without it an overloaded function works on calls whose callers have given up by the time that it is done.
"""

from __future__ import annotations

WEIGHT = 0.2
"""Of the newest run in the moving mean: the last ten or so count."""

SHARE_OF_DEADLINE = 0.8
"""The estimate is a mean, so a call that needs its whole time by it comes too late every second time."""


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
        """Whether a new call is likely to miss its deadline.

        Args:
            ahead: calls that wait already.
            at_once: runs that are under way, each of which makes room for one call when it ends.
            remaining_s: until the deadline.
        """
        needed_s = ((ahead + 1) / max(1, at_once) + 1) * self.run_s
        return needed_s > remaining_s * SHARE_OF_DEADLINE

"""When a worker that ended is restarted: immediately at first, then with growing delays."""

from __future__ import annotations

SOUND_AFTER_S = 10.0
"""A worker that ran this long is considered healthy."""

FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 30.0


class Restarts:
    """One worker's ends, counted while they follow each other quickly."""

    __slots__ = ("in_a_row",)

    def __init__(self) -> None:
        self.in_a_row = 0

    def delay_s(self, lived_s: float) -> float:
        """Return how long to wait after a run of this many seconds.

        There is no wait the first time; then the wait doubles each time.
        """
        self.in_a_row = 1 if lived_s >= SOUND_AFTER_S else self.in_a_row + 1
        if self.in_a_row == 1:
            return 0.0
        doublings = min(self.in_a_row - 2, 30)
        return min(FIRST_DELAY_S * 2.0**doublings, LONGEST_DELAY_S)

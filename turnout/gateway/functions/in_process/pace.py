"""Run times of a function by body size: short runs may use the event loop."""

from __future__ import annotations

from dataclasses import dataclass

WARM_UP_RUNS = 1
"""The first runs after a session opens allocate memory and prepare kernels, so they are ignored."""

LONG_RUN_S = 0.003
"""After a run on the event loop that took this long, similar runs use threads for a while, whatever the others took."""

FIRST_PENALTY = 32
LARGEST_PENALTY = 4096
FORGIVEN_AFTER = 1000
"""Consecutive short runs that halve the penalty: one long run in thousands is caused by the machine, not the
function.
"""


TRUSTED_AFTER = 100
"""Consecutive short runs after which only every eighth is measured: querying a thread's processor time twice takes a
tenth as long as a very short run.
"""
TRUSTED_RUNS = 7
DOUBTED_RUNS = 8


@dataclass(slots=True)
class Band:
    """Run times of bodies between two powers of two.

    Args:
        cost_s: a moving mean of about the last ten runs.
        owed: number of runs below `LONG_RUN_S` that must still be seen before such bodies may use the loop again.
        penalty: how many were owed last time; it doubles with each long run on the loop.
        short_runs: consecutive short runs that were measured.
        trusted: number of runs that need not be measured.
    """

    cost_s: float
    owed: int = 0
    penalty: int = 0
    short_runs: int = 0
    trusted: int = 0


class Pace:
    """A function's costs in bands of body sizes, estimated pessimistically.

    The cost is the processor time of the thread, not elapsed time: on a busy machine the elapsed time includes the wait
    for the interpreter's lock, and a function that was moved to a thread would never be moved back.

    Args:
        limit_s: the longest expected run on the event loop.
    """

    __slots__ = ("_bands", "_limit_s", "_unlearned")

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._bands: dict[int, Band] = {}
        self._unlearned = WARM_UP_RUNS

    def is_short(self, size: int) -> bool:
        """Whether a run with a body of `size` characters is expected to stay under the limit.

        An unknown size is judged by the next larger known one; without one, by the next smaller band, assumed to cost
        four times as much; anything beyond that is not short.
        """
        number = size.bit_length()
        band = self._bands.get(number)
        if band is not None:
            return band.owed == 0 and band.cost_s <= self._limit_s
        larger = min((known for known in self._bands if known > number), default=0)
        if larger:
            band = self._bands[larger]
            return band.owed == 0 and band.cost_s <= self._limit_s
        band = self._bands.get(number - 1)
        return band is not None and band.owed == 0 and 4 * band.cost_s <= self._limit_s

    def is_trusted(self, size: int) -> bool:
        """Whether the next run on the loop need not be measured; called once for each."""
        band = self._bands.get(size.bit_length())
        if band is None or not band.trusted:
            return False
        band.trusted -= 1
        return True

    def doubt(self, size: int) -> None:
        """Measure the next runs, because one seemed long by the clock, which a busy machine may also cause."""
        band = self._bands[size.bit_length()]
        band.trusted = 0
        band.short_runs = TRUSTED_AFTER - DOUBTED_RUNS

    def learn(self, size: int, cost_s: float, *, on_loop: bool) -> None:
        """Record the cost of one run."""
        if self._unlearned:
            self._unlearned -= 1
            return
        number = size.bit_length()
        band = self._bands.get(number)
        if band is None:
            band = self._bands[number] = Band(cost_s)
        else:
            band.cost_s += (cost_s - band.cost_s) / 5
        if cost_s <= LONG_RUN_S:
            if band.owed:
                band.owed -= 1
            band.short_runs += 1
            if band.short_runs >= TRUSTED_AFTER and 2 * band.cost_s <= self._limit_s:
                band.trusted = TRUSTED_RUNS
            if band.penalty and band.short_runs >= FORGIVEN_AFTER:
                band.short_runs = 0
                band.penalty //= 2
            return
        band.short_runs = band.trusted = 0
        if on_loop:
            band.penalty = min(max(2 * band.penalty, FIRST_PENALTY), LARGEST_PENALTY)
        band.owed = band.penalty

"""The calls that each worker runs at this moment, for the supervisor that finds it dead.

A worker that a run ended cannot say which run that was, so each writes down what begins before it begins.
"""

from __future__ import annotations

import hashlib

PLACES = 64
"""Runs of one worker at once that are written down; what comes beyond them is not."""

FULL = -1

MOST_DEATHS = 2
"""Workers that a function may crash before it is no longer served."""


def key_of(name: str) -> int:
    """A function's name as one number, never 0."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") | 1


class SharedRunning:
    """The places of all workers.

    Args:
        memory: `size_of(workers)` bytes, zero at first.

    Attributes:
        worker: which one this process is.
    """

    def __init__(self, memory: memoryview) -> None:
        self._places = memory.cast("Q")
        self.worker = 0
        self._last = 0

    @staticmethod
    def size_of(workers: int) -> int:
        """Bytes for so many workers."""
        return workers * PLACES * 8

    def begin(self, key: int) -> int:
        """Write down that a function runs; where, for `end`. Called on the event loop alone."""
        start = self.worker * PLACES
        if not self._places[start + self._last]:
            self._places[start + self._last] = key
            return self._last
        for place in range(PLACES):
            if not self._places[start + place]:
                self._places[start + place] = key
                self._last = place
                return place
        return FULL

    def end(self, place: int) -> None:
        """Cross it out."""
        if place != FULL:
            self._places[self.worker * PLACES + place] = 0

    def of(self, worker: int) -> frozenset[int]:
        """The keys of all that a worker runs, or ran when it ended."""
        return frozenset(self._places[worker * PLACES : (worker + 1) * PLACES]) - {0}

    def forget(self, worker: int) -> None:
        """A worker is about to be started: it runs nothing."""
        for place in range(worker * PLACES, (worker + 1) * PLACES):
            self._places[place] = 0

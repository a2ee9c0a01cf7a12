"""The running calls of each worker, which the supervisor reads if the worker dies.

A worker that was ended by a run cannot report that run, so each worker records runs before they start.
"""

from __future__ import annotations

import hashlib

PLACES = 64
"""Most recorded concurrent runs of one worker; further runs are not recorded."""

FULL = -1

MOST_DEATHS = 2
"""Number of workers that a function may crash before it is no longer served."""


def key_of(name: str) -> int:
    """Return a function's name as one number, never 0."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") | 1


class SharedRunning:
    """The records of all workers.

    Args:
        memory: `size_of(workers)` bytes, initially zero.

    Attributes:
        worker: number of this process's worker.
    """

    def __init__(self, memory: memoryview) -> None:
        self._places = memory.cast("Q")
        self.worker = 0
        self._last = 0

    @staticmethod
    def size_of(workers: int) -> int:
        """Return the number of bytes for this number of workers."""
        return workers * PLACES * 8

    def begin(self, key: int) -> int:
        """Record that a function runs; return the slot for `end`. Called only on the event loop."""
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
        """Delete the record."""
        if place != FULL:
            self._places[self.worker * PLACES + place] = 0

    def of(self, worker: int) -> frozenset[int]:
        """Return the keys of everything that a worker runs, or ran when it ended."""
        return frozenset(self._places[worker * PLACES : (worker + 1) * PLACES]) - {0}

    def forget(self, worker: int) -> None:
        """Reset a worker that is about to be started."""
        for place in range(worker * PLACES, (worker + 1) * PLACES):
            self._places[place] = 0

"""Counts the spans that each worker exported and dropped, and whether the collector accepts them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

_FAILING = 0
_FIRST = 1
_PER_WORKER = 2


class SharedSpanCounts:
    """The numbers of all workers. Each writes its own, which are kept when it is restarted.

    Args:
        memory: `size_of(workers)` bytes, initially zero.
        hold: held while a worker records whether the collector accepts spans.
        workers: number of workers.

    Attributes:
        worker: number of this process's worker.
    """

    def __init__(
        self, memory: memoryview, hold: Callable[[], AbstractContextManager[None]] = nullcontext, *, workers: int
    ) -> None:
        self._words = memory.cast("Q")
        self._hold = hold
        self._workers = workers
        self.worker = 0

    @staticmethod
    def size_of(workers: int) -> int:
        """Return the number of bytes for this number of workers."""
        return 8 * (_FIRST + workers * _PER_WORKER)

    def count_exported(self, number: int) -> None:
        """Count spans that the collector accepted."""
        self._words[_FIRST + self.worker * _PER_WORKER] += number

    def count_dropped(self, number: int) -> None:
        """Count dropped spans."""
        self._words[_FIRST + self.worker * _PER_WORKER + 1] += number

    def exported(self) -> int:
        """Return the count of all workers."""
        return sum(self._words[_FIRST::_PER_WORKER])

    def dropped(self) -> int:
        """Return the count of all workers."""
        return sum(self._words[_FIRST + 1 :: _PER_WORKER])

    def note_failing(self, *, failing: bool) -> bool:
        """Record whether the collector accepts spans; return whether that has changed, to only one worker."""
        if self._words[_FAILING] == failing:
            return False
        with self._hold():
            has_changed = bool(self._words[_FAILING] != failing)
            self._words[_FAILING] = failing
            return has_changed

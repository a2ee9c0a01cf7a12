"""Limits the concurrent calls of a function across all workers: its reserved concurrency.

Each worker counts its own calls; the count of a killed one is reset when it is restarted.
"""

from __future__ import annotations

from turnout.gateway.shared.directory import Directory
from turnout.gateway.shared.lock import SharedLock

CAPACITY = 1024
"""Most functions with a reserved concurrency since the start."""


class SharedSlots:
    """The counts of all functions with a reserved concurrency.

    Args:
        memory: `size_of(workers)` bytes, initially zero.
        lock: shared by all workers.
        number: the lock's number.
        workers: number of workers.
    """

    def __init__(self, memory: memoryview, lock: SharedLock, number: int, *, workers: int) -> None:
        end = Directory.size_of(CAPACITY)
        self._directory = Directory(memory[:end], lock, number)
        self._taken = memory[end : self.size_of(workers)].cast("Q")
        self._lock = lock
        self._number = number
        self._workers = workers
        self.worker = 0

    @staticmethod
    def size_of(workers: int) -> int:
        """Return the number of bytes for this number of workers."""
        return Directory.size_of(CAPACITY) + workers * CAPACITY * 8

    def slots_of(self, function: str, count: int) -> FunctionSlots:
        """Return the slots of one function; raise DirectoryFullError if too many functions have had slots."""
        return FunctionSlots(self, self._directory.number_of(function), count)

    def forget(self, worker: int) -> None:
        """Reset the counts of a worker that is being started."""
        for row in range(CAPACITY):
            at = worker * CAPACITY + row
            if self._taken[at]:
                self._taken[at] = 0

    def take(self, row: int, count: int) -> bool:
        """Take one of a function's slots, for this worker."""
        with self._lock.hold(self._number):
            if sum(self._taken[row::CAPACITY]) >= count:
                return False
            self._taken[self.worker * CAPACITY + row] += 1
            return True

    def give(self, row: int) -> None:
        """Release a slot that this worker took."""
        self._taken[self.worker * CAPACITY + row] -= 1


class FunctionSlots:
    """The slots of one function; see `turnout.gateway.functions.isolated.limits.Slots`."""

    __slots__ = ("_count", "_row", "_slots")

    def __init__(self, slots: SharedSlots, row: int, count: int) -> None:
        self._slots, self._row, self._count = slots, row, count

    def take(self) -> bool:
        """Count one call; return False if the limit is reached."""
        return self._slots.take(self._row, self._count)

    def give(self) -> None:
        """Count the end of a call."""
        self._slots.give(self._row)

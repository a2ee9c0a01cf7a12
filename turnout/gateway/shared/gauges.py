"""Gauges of each worker, and counts of restarts and reloads, for `/metrics`.

Each worker writes its own numbers once a second and no other process does, so no lock is needed; only the supervisor
counts restarts and reloads.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from enum import IntEnum


@dataclass(frozen=True, slots=True)
class Load:
    """Gauges of one worker.

    Args:
        sessions: number of open functions: sessions in process, environments with `--isolated`.
        running: number of running calls.
        waiting: number of calls that wait for a thread, an environment or a session.
        memory_bytes: resident memory of the worker's process.
    """

    sessions: int = 0
    running: int = 0
    waiting: int = 0
    memory_bytes: int = 0


class Event(IntEnum):
    """Events that the supervisor counts."""

    RESTART = 0
    RELOAD = 1
    FAILED_RELOAD = 2


_FIELDS = len(fields(Load))
_EVENTS = len(Event)


class SharedGauges:
    """The numbers of all workers.

    Args:
        memory: `size_of(workers)` bytes, initially zero.
        workers: number of workers.
    """

    def __init__(self, memory: memoryview, *, workers: int) -> None:
        self._words = memory.cast("Q")
        self._workers = workers

    @staticmethod
    def size_of(workers: int) -> int:
        """Return the number of bytes for this number of workers."""
        return 8 * (_EVENTS + workers * _FIELDS)

    def write(self, worker: int, load: Load) -> None:
        """Replace the numbers of one worker."""
        for place, value in enumerate(astuple(load), _EVENTS + worker * _FIELDS):
            self._words[place] = value

    def read(self) -> list[Load]:
        """Return the numbers of every worker, in order."""
        starts = range(_EVENTS, _EVENTS + self._workers * _FIELDS, _FIELDS)
        return [Load(*self._words[start : start + _FIELDS]) for start in starts]

    def forget(self, worker: int) -> None:
        """Reset a worker that is about to be started."""
        self.write(worker, Load())

    def count(self, event: Event) -> None:
        """Count one event; only the supervisor calls this."""
        self._words[event] += 1

    def counted(self, event: Event) -> int:
        """Return the count since the start."""
        number: int = self._words[event]
        return number

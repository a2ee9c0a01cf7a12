"""Memory of each worker's loaded versions, and counts of loads and unloads.

Each worker writes its own numbers and reads those of the others, without a lock: `--max-memory` is shared by all.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields


@dataclass(frozen=True, slots=True)
class SessionUse:
    """Memory of one worker's loaded versions.

    Args:
        used_bytes: memory of loaded versions and of those being loaded.
        loads: number of versions loaded since the worker started.
        evictions: number of versions unloaded because others needed their memory.
    """

    used_bytes: int = 0
    loads: int = 0
    evictions: int = 0


_FIELDS = len(fields(SessionUse))


class SharedSessions:
    """The numbers of all workers.

    Args:
        memory: `size_of(workers)` bytes, initially zero.
        workers: number of workers.

    Attributes:
        worker: number of this process's worker; None in a process that serves nothing.
    """

    def __init__(self, memory: memoryview, *, workers: int) -> None:
        self._words = memory.cast("Q")
        self.workers = workers
        self.worker: int | None = None

    @staticmethod
    def size_of(workers: int) -> int:
        """Return the number of bytes for this number of workers."""
        return 8 * workers * _FIELDS

    def write(self, use: SessionUse) -> None:
        """Replace this worker's numbers."""
        if self.worker is not None:
            self._write(self.worker, use)

    def others_bytes(self) -> int:
        """Return the memory of the other workers' loaded versions."""
        own = -1 if self.worker is None else self.worker
        return sum(self._words[at * _FIELDS] for at in range(self.workers) if at != own)

    def read(self) -> list[SessionUse]:
        """Return the numbers of every worker, in order."""
        return [SessionUse(*self._words[at : at + _FIELDS]) for at in range(0, self.workers * _FIELDS, _FIELDS)]

    def forget(self, worker: int) -> None:
        """Reset a worker that is about to be started."""
        self._write(worker, SessionUse())

    def _write(self, worker: int, use: SessionUse) -> None:
        for place, value in enumerate(astuple(use), worker * _FIELDS):
            self._words[place] = value

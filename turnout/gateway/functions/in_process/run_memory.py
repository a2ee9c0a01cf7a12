"""Limits the memory of runs whose size follows a client's values: `Pad`, `OneHot`, `ConstantOfShape`, loops.

Such a run may allocate gigabytes for a request of forty bytes. It cannot be stopped while it fills them, and in the end
the kernel would kill this process or another one. As on Lambda, a run gets no more memory than its function has: while
such runs last, the kernel's limit on the process's data is lowered, so that allocations beyond it fail. The limit holds
for the whole process: while such runs take all that they may, others can fail, too. Loading a model suspends it.
"""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MARGIN_BYTES = 256 * 1024 * 1024
"""What the rest of the process may allocate while limited runs last."""

_PAGE_BYTES = resource.getpagesize()
_DATA_FIELD = 5
"""Pages of data and stacks. Source: proc_pid_statm(5)."""


class RunMemory:
    """The limit of one process, from its first run on; its runs may overlap.

    Args:
        statm: where Linux reports the process's memory; without this file there is no limit.
    """

    def __init__(self, statm: Path = Path("/proc/self/statm")) -> None:
        self._statm = statm
        self._soft, self._hard = resource.getrlimit(resource.RLIMIT_DATA)
        self._lock = threading.Lock()
        self._allowed_bytes = 0
        self._loads = 0
        self._base_bytes: int | None = None
        self._file: int | None = None

    @contextmanager
    def limited(self, limit_bytes: int) -> Iterator[None]:
        """Allow the block at most this many bytes; allocations beyond that fail."""
        self._change(limit_bytes, 0)
        try:
            yield
        finally:
            self._change(-limit_bytes, 0)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Suspend the limit during the block, which loads a model."""
        self._change(0, 1)
        try:
            yield
        finally:
            self._change(0, -1)

    def _change(self, more_bytes: int, more_loads: int) -> None:
        with self._lock:
            was_limited = self._allowed_bytes and not self._loads
            self._allowed_bytes += more_bytes
            self._loads += more_loads
            limit = self._soft
            if self._allowed_bytes and not self._loads:
                # Measured again while runs overlap, the base would contain what these runs have taken.
                if not was_limited:
                    self._base_bytes = self._read_used()
                if self._base_bytes is not None:
                    lowered = self._base_bytes + self._allowed_bytes + MARGIN_BYTES
                    limit = lowered if self._soft == resource.RLIM_INFINITY else min(lowered, self._soft)
            with suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_DATA, (limit, self._hard))

    def _read_used(self) -> int | None:
        """Return the bytes of the process's data, or None if they are unknown."""
        try:
            if self._file is None:  # not before: after a fork, it would be another process's
                self._file = os.open(self._statm, os.O_RDONLY | os.O_CLOEXEC)
            return int(os.pread(self._file, 256, 0).split()[_DATA_FIELD]) * _PAGE_BYTES
        except OSError:
            return None

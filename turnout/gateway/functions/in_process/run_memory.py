"""Limits the memory of runs whose size follows a client's values: `Pad`, `OneHot`, `ConstantOfShape`, loops.

Such a run may allocate gigabytes for a request of forty bytes. It cannot be stopped while it fills them, and in the end
the kernel would kill this process or another one. As on Lambda, a run gets no more memory than its function has: while
such runs last, the kernel's limit on the process's data is lowered, so that allocations beyond it fail. The limit holds
for the whole process: if such a run takes exactly as much as it may, others can fail in that time.
"""

from __future__ import annotations

import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MARGIN_BYTES = 256 * 1024 * 1024
"""What the rest of the process may allocate in that time."""

_PAGE_BYTES = resource.getpagesize()
_DATA_FIELD = 5
"""Pages of data and stacks. Source: proc_pid_statm(5)."""


class RunMemory:
    """The limit of one process; its runs may overlap.

    Args:
        statm: where Linux reports the process's memory; on systems without this file there is no limit.
    """

    def __init__(self, statm: Path = Path("/proc/self/statm")) -> None:
        self._statm = statm
        self._is_known = statm.exists()
        self._soft, self._hard = resource.getrlimit(resource.RLIMIT_DATA)
        self._lock = threading.Lock()
        self._allowed = 0

    @contextmanager
    def limited(self, limit_bytes: int) -> Iterator[None]:
        """Let the block allocate this number of bytes. Allocations beyond fail with an exception."""
        if not self._is_known:
            yield
            return
        self._allow(limit_bytes)
        try:
            yield
        finally:
            self._allow(-limit_bytes)

    def _allow(self, more_bytes: int) -> None:
        with self._lock:
            self._allowed += more_bytes
            limit = self._soft
            if self._allowed:
                used = int(self._statm.read_bytes().split()[_DATA_FIELD]) * _PAGE_BYTES
                lowered = used + self._allowed + MARGIN_BYTES
                limit = lowered if self._soft == resource.RLIM_INFINITY else min(lowered, self._soft)
            resource.setrlimit(resource.RLIMIT_DATA, (limit, self._hard))

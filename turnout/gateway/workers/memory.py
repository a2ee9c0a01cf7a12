"""A worker's memory: what is freed is kept for the next request, and how much there is."""

from __future__ import annotations

import contextlib
import ctypes
import resource
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_STATM = Path("/proc/self/statm")
_SMAPS_ROLLUP = Path("/proc/self/smaps_rollup")

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

LARGEST_KEPT_BYTES = 32 * 1024 * 1024
"""A block from this size on is given back at once."""

KEPT_BYTES = 64 * 1024 * 1024
"""Free memory that a worker keeps at most, at the end of its heap."""


def keep_freed_memory() -> None:
    """Let large blocks come from the heap, and keep what is freed there.

    By default glibc asks the system for each large block and gives it back with the request: a JSON body of 1.6 MB cost
    1,250 page faults, 3 of 7.6 ms. Another C library than glibc goes on as it does.
    Source: mallopt(3).
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, LARGEST_KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)


def resident_bytes() -> int:
    """Resident memory of this process; 0 where the system does not say."""
    try:
        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return 0


def proportional_bytes() -> int:
    """Memory of this process, what it shares with others counted in part; its resident memory where that is unknown."""
    try:
        lines = _SMAPS_ROLLUP.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    except (OSError, ValueError, StopIteration):
        return resident_bytes()


def trim_memory() -> None:
    """Give what is free in the allocator's heaps back to the system; nothing with another C library than glibc."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def find_memory_limit(root: Path = Path("/")) -> int:
    """Memory that this process may use: its container's limit, or else what the machine has; 0 where neither is known.

    Args:
        root: where `proc` and `sys` are.
    """
    limits = [_read_number(file) for file in _cgroup_files(root)]
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = (root / "proc/meminfo").read_text().splitlines()
        limits.append(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:")))
    return min((limit for limit in limits if limit > 0), default=0)


def _cgroup_files(root: Path) -> Iterator[Path]:
    """The files with the limits of this process's control group and its parents."""
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            base, name = (
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes") if controllers else ("sys/fs/cgroup", "memory.max")
            )
            path = PurePosixPath(group.lstrip("/"))
            yield from (root / base / parent / name for parent in (path, *path.parents))


def _read_number(file: Path) -> int:
    """The number in a file; 0 where there is none, as for `max`."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return 0

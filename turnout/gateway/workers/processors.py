"""The processors that this process may use, by the machine, its affinity and its container's limit.

Called when `turnout serve` decides how many workers it starts.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Linux's file with a control group's CPU quota: `200000 100000` is two processors, `max 100000` all of them."""


def processors(quota: Path = QUOTA) -> int:
    """Return the number of processors, at least one."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        share, period = quota.read_text().split()
        paid = math.ceil(int(share) / int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return allowed
    return max(1, min(allowed, paid))

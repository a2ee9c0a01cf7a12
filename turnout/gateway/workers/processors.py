"""How many processors this process may use: what the machine has, what it is allowed, what its container pays for.

Called where `turnout serve` decides how many workers it starts.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Where Linux has a control group's share of time: `200000 100000` is two processors, `max 100000` all of them."""


def processors(quota: Path = QUOTA) -> int:
    """At least one."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        share, period = quota.read_text().split()
        paid = math.ceil(int(share) / int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return allowed
    return max(1, min(allowed, paid))

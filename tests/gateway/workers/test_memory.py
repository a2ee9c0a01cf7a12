from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from turnout.gateway.workers.memory import find_memory_limit, proportional_bytes, resident_bytes

BLOCKS = """
import resource
from turnout.gateway.workers.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        b'x' * 4_000_000
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

import ctypes
ctypes.CDLL(None).mallopt(-3, 131072)  # as a process starts: large blocks come from the system
by_default = faults()
keep_freed_memory()
faults()
print(by_default, faults())
"""


def test_memory_of_large_blocks_is_kept() -> None:
    said = subprocess.run([sys.executable, "-c", BLOCKS], check=True, capture_output=True, text=True).stdout

    by_default, kept = map(int, said.split())
    assert kept < by_default / 10


MEMINFO = {"proc/meminfo": "MemTotal:       16000 kB\nMemFree: 1 kB\n"}
OWN_GROUP = {"proc/self/cgroup": "0::/app/web\n"}
OLD_GROUP = {"proc/self/cgroup": "9:cpu:/x\n4:memory:/docker/1\n0::/\n"}


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, 0),
        (MEMINFO, 16_000 * 1024),
        ({**MEMINFO, **OWN_GROUP, "sys/fs/cgroup/app/web/memory.max": "max\n"}, 16_000 * 1024),
        ({**MEMINFO, **OWN_GROUP, "sys/fs/cgroup/app/web/memory.max": "1000000\n"}, 1_000_000),
        ({**MEMINFO, **OWN_GROUP, "sys/fs/cgroup/app/memory.max": "2000000\n"}, 2_000_000),
        ({**MEMINFO, **OWN_GROUP, "sys/fs/cgroup/memory.max": "3000000\n"}, 3_000_000),  # as seen from within
        ({**MEMINFO, **OLD_GROUP, "sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes": "4000000\n"}, 4_000_000),
        ({**MEMINFO, **OLD_GROUP, "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2**63 - 4096}\n"}, 16_000 * 1024),
    ],
)
def test_the_lowest_limit_applies(tmp_path: Path, files: Mapping[str, str], limit: int) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert find_memory_limit(tmp_path) == limit


def test_this_machine_has_a_memory_limit_and_this_process_uses_memory() -> None:
    assert 0 < proportional_bytes() <= resident_bytes() < find_memory_limit()

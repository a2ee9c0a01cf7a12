from __future__ import annotations

import subprocess
import sys

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

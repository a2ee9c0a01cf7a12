"""uv as the builder of layers calls it, from several threads."""

from __future__ import annotations

import subprocess
import sys

RACE = """
import sys, sysconfig, threading
from turnout.packaging.layer import find_uv

def find():
    ready.wait()
    try:
        find_uv()
    except Exception as error:
        failures.append(error)

failures = []
sys.setswitchinterval(1e-6)
for _ in range(20):
    # as in a process that has not used sysconfig yet
    sysconfig._CONFIG_VARS = None
    sysconfig._CONFIG_VARS_INITIALIZED = False
    ready = threading.Barrier(4)
    threads = [threading.Thread(target=find) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
print(failures)
"""


def test_several_threads_find_uv_at_the_same_time() -> None:
    done = subprocess.run([sys.executable, "-c", RACE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""A separate process that ends environments: those that use too much memory, and all when the gateway ends.

It reads lines `watch PID KILOBYTES` and `forget PID` from standard input, where PID is an environment's keeper. It
writes `PID KILOBYTES` to standard output for an environment that used too much, just before it is killed. The end of
the input means the end of the gateway, which holds the other end of the pipe however it ends.

`warden_client.py` runs it as a script, without site-packages; it imports none of our modules except the keeper's file
next to it. It is a separate process, because checking takes time that the event loop does not have, and because a
killed gateway cannot clean up.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Iterable

if not __package__:  # run as a script, without an installed package
    sys.path.append(os.path.abspath(f"{__file__}/../../../../.."))  # noqa: PTH100

from turnout.gateway.functions.isolated.keeper import children_of, descendants_of, end_descendants

LOOK_S = 0.1
"""Seconds between two checks of the functions' processes."""

LOOKS_PER_SCAN = 10
"""Number of checks between two scans for the processes that they started."""

PATIENCE_S = 2.0
"""Time for keepers to end all their descendants after the gateway has ended."""

PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024


def leader_kb(pid: int) -> int:
    """Return the peak resident memory of a process; 0 for one that has ended.

    The peak is used because a process may allocate and free memory between two checks for which Lambda would have
    killed it.
    """
    try:
        with open(f"/proc/{pid}/status", "rb") as stream:  # noqa: PTH123 - runs ten times a second for each process
            text = stream.read()
    except OSError:
        return 0
    start = text.find(b"VmHWM:")
    return int(text[start + 6 : text.index(b"kB", start)]) if start >= 0 else 0  # a zombie has no such line


def function_kb(keeper: int) -> int:
    """Return the peak resident memory of a function's process."""
    children = children_of(keeper)
    return leader_kb(children[0]) if children else 0


def children_kb(keepers: Iterable[int]) -> dict[int, int]:
    """Return keeper -> resident memory of the processes that its function has started, in any session."""
    sizes_kb = {}
    for keeper in keepers:
        function = next(iter(children_of(keeper)), 0)
        used_kb = sum(resident_kb(pid) for pid in descendants_of(keeper) if pid != function)
        if used_kb:
            sizes_kb[keeper] = used_kb
    return sizes_kb


def resident_kb(pid: int) -> int:
    """Return the resident memory of a process; 0 for one that has ended."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as stream:  # noqa: PTH123
            return int(stream.read().split()[1]) * PAGE_KB
    except (OSError, IndexError):
        return 0


def kill(keeper: int) -> None:
    """End a function and what it has started: immediately, and completely through its keeper."""
    end_descendants(keeper)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(keeper, signal.SIGTERM)


def kill_all(keepers: Iterable[int]) -> None:
    """End every environment, including keepers that do not react."""
    left = list(keepers)
    for keeper in left:
        kill(keeper)
    deadline = time.monotonic() + PATIENCE_S
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left = [keeper for keeper in left if is_running(keeper)]
    for keeper in left:
        end_descendants(keeper)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(keeper, signal.SIGKILL)


def is_running(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:  # noqa: PTH123
            return stream.read().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


class Warden:
    """The watched environments and their last measurements."""

    def __init__(self) -> None:
        self.limits_kb: dict[int, int] = {}
        self._children_kb: dict[int, int] = {}
        self._looks = 0

    def obey(self, line: bytes) -> None:
        """Execute one line of the input."""
        verb, pid, *rest = line.split()
        if verb == b"watch":
            self.limits_kb[int(pid)] = int(rest[0])
        else:
            self.limits_kb.pop(int(pid), None)

    def look(self) -> dict[int, int]:
        """Return environments that are over their limit, with their memory; they are no longer watched."""
        self._looks += 1
        if self._looks % LOOKS_PER_SCAN == 0:
            self._children_kb = children_kb(self.limits_kb)
        over = {}
        for pid, limit_kb in self.limits_kb.items():
            used_kb = function_kb(pid) + self._children_kb.get(pid, 0)
            if used_kb > limit_kb:
                over[pid] = used_kb
        for pid in over:
            del self.limits_kb[pid]
        return over


def run(commands: int, reports: int) -> None:
    """Watch until the input ends, then kill what is left."""
    warden = Warden()
    rest = b""
    next_look = 0.0
    while True:
        wait_s = max(0.0, next_look - time.monotonic()) if warden.limits_kb else None
        if select.select([commands], [], [], wait_s)[0]:
            data = os.read(commands, 65_536)
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                warden.obey(line)
        if time.monotonic() < next_look:
            continue
        for pid, used_kb in warden.look().items():
            with contextlib.suppress(BrokenPipeError):
                os.write(reports, b"%d %d\n" % (pid, used_kb))
            kill(pid)
        next_look = time.monotonic() + LOOK_S
    kill_all(warden.limits_kb)


if __name__ == "__main__":
    # A signal to the gateway's group or service does not stop the warden: only the end of the pipe does.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    run(0, 1)

"""A process beside the gateway that ends environments: those that take too much memory, and all when the gateway dies.

Comes in, on standard input: lines `watch PID KILOBYTES` and `forget PID`, where PID leads a process group. Goes out, on
standard output: `PID KILOBYTES` for a group that took too much, written just before it is killed. The input's end
is the gateway's: it holds the other end of the pipe however it dies.

Run as a script by `turnout.gateway.functions.isolated.warden_client`, without site-packages; imports nothing of ours. A
process of its own, since looking takes time that the event loop has not, and since a killed gateway cannot clean up.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Collection

LOOK_S = 0.1
"""Between two looks at the groups' leaders."""

LOOKS_PER_SCAN = 10
"""Their children are looked for this seldom: it takes a walk over all processes."""

PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024


def leader_kb(pid: int) -> int:
    """The most memory, resident, that a process has had at a time; 0 for one that is gone.

    The peak, because a process may take and free between two looks what Lambda would have killed it for.
    """
    try:
        with open(f"/proc/{pid}/status", "rb") as stream:  # noqa: PTH123 - ten times a second for each
            text = stream.read()
    except OSError:
        return 0
    start = text.find(b"VmHWM:")
    return int(text[start + 6 : text.index(b"kB", start)]) if start >= 0 else 0  # a zombie has none


def children_kb(groups: Collection[int]) -> dict[int, int]:
    """Group -> resident memory of its members beside the leader."""
    found: dict[int, int] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if not name.isdigit() or int(name) in groups:
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as stream:  # noqa: PTH123
                fields = stream.read().rpartition(b")")[2].split()
        except OSError:
            continue
        # proc(5), fields 5 and 24, counted from behind the name
        group, pages = int(fields[2]), int(fields[21])
        if group in groups:
            found[group] = found.get(group, 0) + pages * PAGE_KB
    return found


def kill(group: int) -> None:
    """End every process of a group that is still there."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


class Warden:
    """What is watched, and what was seen of it."""

    def __init__(self) -> None:
        self.limits_kb: dict[int, int] = {}
        self._children_kb: dict[int, int] = {}
        self._looks = 0

    def obey(self, line: bytes) -> None:
        """One line of the input."""
        verb, pid, *rest = line.split()
        if verb == b"watch":
            self.limits_kb[int(pid)] = int(rest[0])
        else:
            self.limits_kb.pop(int(pid), None)

    def look(self) -> dict[int, int]:
        """Groups that are over their limit, with what they take; they are watched no more."""
        self._looks += 1
        if self._looks % LOOKS_PER_SCAN == 0:
            self._children_kb = children_kb(self.limits_kb.keys())
        over = {}
        for pid, limit_kb in self.limits_kb.items():
            used_kb = leader_kb(pid) + self._children_kb.get(pid, 0)
            if used_kb > limit_kb:
                over[pid] = used_kb
        for pid in over:
            del self.limits_kb[pid]
        return over


def run(commands: int, reports: int) -> None:
    """Watch until the commands end, then kill what is left."""
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
    for pid in warden.limits_kb:
        kill(pid)


if __name__ == "__main__":
    # Whoever stops the gateway's group or service does not stop this one: the pipe's end does.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    run(0, 1)

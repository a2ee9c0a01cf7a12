"""The parent of one environment's process, which ensures that no descendant survives it.

A function may fork twice and start its own session; then no process group contains the processes that it left. The
kernel reparents such orphans to the nearest ancestor that asked for them (PR_SET_CHILD_SUBREAPER), which is this
process. It ends them all when the function's process ends, when it gets SIGTERM, or when the gateway is gone: standard
input is a pipe whose other end the gateway holds.

It runs as the gateway's user, without the function's limits, so that a function cannot signal it if it has its own user
or if Landlock blocks signals. Imports none of our modules, because the bootstrap loads it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
from collections.abc import Iterator
from typing import NoReturn

_SET_CHILD_SUBREAPER = 36
_ROUNDS = 100
"""Rounds of searching for new processes while their parents are stopped; each round stops those that the last one
missed.
"""


def fork_kept(scratch: str) -> None:
    """Fork; return only in the child. The parent stays until the child and all of its descendants are gone.

    Args:
        scratch: a folder that the parent removes at the end.
    """
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    reader, writer = os.pipe()
    for handle in (reader, writer):
        os.set_blocking(handle, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    terminated: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: terminated.append(number))
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    child = os.fork()
    if child:
        _keep(child, reader, terminated, scratch)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    os.close(reader)
    os.close(writer)
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)


def _keep(child: int, reader: int, terminated: list[int], scratch: str) -> NoReturn:
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watched = [reader, 0]
    status = None
    while status is None:
        ready = select.select(watched, [], [])[0]
        if reader in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(reader, 4096)
        if terminated or 0 in ready:
            watched = [reader]
            end_descendants(os.getpid())
        status = _reap().get(child)
    _end_all()
    import shutil  # imported late, because it imports many modules itself

    shutil.rmtree(scratch, ignore_errors=True)
    _end_as(status)


def _reap() -> dict[int, int]:
    """Wait for ended processes; return process -> its status."""
    ended = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            ended[pid] = status
    return ended


def end_descendants(pid: int) -> None:
    """Kill every descendant, including those forked in the meantime: first all are stopped, then all are killed."""
    stopped: set[int] = set()
    for _ in range(_ROUNDS):
        new = set(descendants_of(pid)) - stopped
        if not new:
            break
        for child in new:
            _signal(child, signal.SIGSTOP)
        stopped |= new
    for child in stopped:
        _signal(child, signal.SIGKILL)


def descendants_of(pid: int) -> Iterator[int]:
    """Return the descendants of a process, parents first."""
    pending = [pid]
    while pending:
        for child in children_of(pending.pop()):
            yield child
            pending.append(child)


def children_of(pid: int) -> list[int]:
    """Return the children of a process, oldest first; none if it is gone."""
    children: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as stream:  # noqa: PTH123
                children += map(int, stream.read().split())
    except OSError:
        return children
    return children


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _end_all() -> None:
    """Kill descendants until there are none: the kernel makes every orphan a child of this process."""
    with contextlib.suppress(ChildProcessError):
        while True:
            end_descendants(os.getpid())
            os.waitpid(-1, 0)


def _end_as(status: int) -> NoReturn:
    """End as the child did, so that the gateway sees how it ended."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)

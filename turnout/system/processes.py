"""Child processes that must not outlive their parent, however it ends.

Linux signals the end of a process to its children (prctl(2), PR_SET_PDEATHSIG) and assigns orphans to the next ancestor
that requested them (PR_SET_CHILD_SUBREAPER). On other systems, these two calls do nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD})
"""Signals that are blocked during a fork: the child must not run its parent's handlers."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

_LAUNCH = f"""
import ctypes, os, sys
parent, program = int(sys.argv[1]), sys.argv[2:]
try:
    ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, {int(signal.SIGKILL)}, 0, 0, 0)
except (OSError, AttributeError):
    pass
if os.getppid() == parent:
    os.execvp(program[0], program)
"""
"""Runs in the child, where no other thread holds a lock, unlike a function in `preexec_fn`."""

_running: set[subprocess.Popen[str]] = set()

_state = {"is_ending": False}


class EndingError(Exception):
    """This process is ending: it starts no other process, and packs no more files."""


def run_child(
    program: Sequence[str],
    *,
    stdin: str | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program and return its output; it ends with this process, and at once after `end_children`.

    Args:
        program: the program and its arguments.
        stdin: its standard input.
        cwd: its working directory.
        env: its environment variables.
        on_line: called with each line of its standard error at once; its standard output is discarded then.

    Raises:
        EndingError: this process is ending.
        OSError: the system cannot start another process.
    """
    check_ending()
    launch = [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid())]
    process = subprocess.Popen(
        [*launch, *program],
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE if on_line is None else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=None if env is None else dict(env),
        start_new_session=True,  # its own process group, which can be ended as a whole
    )
    _running.add(process)
    try:
        check_ending()
        lines = [] if on_line is None else list(_pass_lines(process, on_line))
        stdout, stderr = process.communicate(stdin if on_line is None else None)
        stdout, stderr = stdout or "", "".join([*lines, stderr])
    finally:
        _running.discard(process)
        if process.returncode is None:
            kill_group(process.pid)
            process.communicate()
    check_ending()
    return subprocess.CompletedProcess(list(program), process.returncode, stdout, stderr)


def end_children() -> None:
    """End the processes of `run_child` and process pools, and start no more; safe in a signal's handler."""
    _state["is_ending"] = True
    for process in tuple(_running):
        kill_group(process.pid)
    pools = sys.modules.get("multiprocessing")
    for child in pools.active_children() if pools is not None else ():
        child.kill()


@contextlib.contextmanager
def ended_tracker() -> Iterator[None]:
    """At the end, end `multiprocessing`'s process for tracking semaphores; a later pool starts another one."""
    try:
        yield
    finally:
        module: Any = sys.modules.get("multiprocessing.resource_tracker")
        with contextlib.suppress(AttributeError, OSError):
            module._resource_tracker._stop()


def _pass_lines(process: subprocess.Popen[str], on_line: Callable[[str], None]) -> Iterator[str]:
    """Yield the lines of a process's standard error, after `on_line` got each."""
    assert process.stderr is not None
    for line in process.stderr:
        on_line(line)
        yield line


def check_ending() -> None:
    """Raise EndingError after `end_children`."""
    if _state["is_ending"]:
        raise EndingError("interrupted")


def allow_children() -> None:
    """Undo `end_children`, for a process that continues after all."""
    _state["is_ending"] = False


def join_parent(parent: int) -> None:
    """Prepare a process of a pool: it ends with its parent, and ignores a terminal's Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(parent)


def die_with_parent(parent: int) -> None:
    """Tell the kernel to kill this process when the thread that started it ends.

    Args:
        parent: the process that started this one. If it has ended already, this process ends now.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, so that `end_descendants` finds it."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def reap_orphans(known: Collection[int]) -> None:
    """Reap adopted processes that have ended; `known` ones are reaped elsewhere."""
    for pid in _children():
        if pid not in known:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def end_descendants(patience_s: float = 5.0) -> None:
    """Kill all children, including those that become children meanwhile, and wait for their end."""
    until = time.monotonic() + patience_s
    while (children := _children()) and time.monotonic() < until:
        for pid in children:
            kill_process(pid)
        for pid in children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.002)


def kill_process(pid: int) -> None:
    """Kill one process, if it still exists."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def kill_group(pid: int) -> None:
    """Kill a process and the group that it leads."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    kill_process(pid)  # it may not lead a group yet


def _children() -> list[int]:
    try:
        return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    except OSError:
        return []


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)

"""Processes of ours that must not outlive the one that started them, however it ends.

Linux notifies a process of its parent's end by a signal (prctl(2), PR_SET_PDEATHSIG) and hands orphans to the next
ancestor that asked for them (PR_SET_CHILD_SUBREAPER). Elsewhere these two calls do nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD})
"""Held back while a process is forked: the child must not run its parent's handlers."""

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
"""Run in the child, where no other thread holds a lock, unlike what `preexec_fn` runs."""

_running: set[subprocess.Popen[str]] = set()

_state = {"is_ending": False}


class EndingError(Exception):
    """This process is ending: it starts no other process, and packs no more files."""


def run_child(
    program: Sequence[str], *, stdin: str | None = None, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, with its output; it ends with this process, and at once after `end_children`.

    Raises:
        EndingError: this process is ending.
        OSError: the system has no room for another process.
    """
    check_ending()
    launch = [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid())]
    process = subprocess.Popen(
        [*launch, *program],
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=None if env is None else dict(env),
        start_new_session=True,  # its own process group, which can be ended as a whole
    )
    _running.add(process)
    try:
        check_ending()
        stdout, stderr = process.communicate(stdin)
    finally:
        _running.discard(process)
        if process.returncode is None:
            kill_group(process.pid)
            process.communicate()
    check_ending()
    return subprocess.CompletedProcess(list(program), process.returncode, stdout, stderr)


def end_children() -> None:
    """End what `run_child` and process pools run, and start nothing more; safe in a signal's handler."""
    _state["is_ending"] = True
    for process in tuple(_running):
        kill_group(process.pid)
    pools = sys.modules.get("multiprocessing")
    for child in pools.active_children() if pools is not None else ():
        child.kill()


@contextlib.contextmanager
def ended_tracker() -> Iterator[None]:
    """At the end, end the process by which `multiprocessing` tracks semaphores; a later pool starts another."""
    try:
        yield
    finally:
        module: Any = sys.modules.get("multiprocessing.resource_tracker")
        with contextlib.suppress(AttributeError, OSError):
            module._resource_tracker._stop()


def check_ending() -> None:
    """Raise EndingError after `end_children`."""
    if _state["is_ending"]:
        raise EndingError("interrupted")


def allow_children() -> None:
    """Undo `end_children`, for a process that goes on after all."""
    _state["is_ending"] = False


def join_parent(parent: int) -> None:
    """Prepare a process of a pool: it ends with its parent, and leaves a terminal's Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(parent)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends.

    Args:
        parent: the process that started this one. If it is gone already, this process ends now.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, so that `end_descendants` finds it."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def reap_orphans(known: Collection[int]) -> None:
    """Bury adopted processes that have ended; those that are `known` are waited for elsewhere."""
    for pid in _children():
        if pid not in known:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def end_descendants(patience_s: float = 5.0) -> None:
    """Kill every child, those that become children meanwhile too, and wait for their end."""
    until = time.monotonic() + patience_s
    while (children := _children()) and time.monotonic() < until:
        for pid in children:
            kill_process(pid)
        for pid in children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.002)


def kill_process(pid: int) -> None:
    """Kill one process; one that is gone already is as good."""
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

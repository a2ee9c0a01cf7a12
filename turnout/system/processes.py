"""Processes of ours that must not outlive the one that started them, however it ends.

Linux tells a process of its parent's end by a signal (prctl(2), PR_SET_PDEATHSIG) and hands orphans to the next
ancestor that asked for them (PR_SET_CHILD_SUBREAPER). Elsewhere these calls do nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends.

    Args:
        parent: the process that started this one. If it is gone already, this process ends now.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def kill_process(pid: int) -> None:
    """Kill one process; one that is gone already is as good."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)

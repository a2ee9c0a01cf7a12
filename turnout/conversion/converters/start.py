"""The first code in a job's process: it sets limits, disables the network, then imports its module.

It is run as a file, by the environment's own Python. Only this folder of Turnout is importable: modules of the
installation that starts it must not replace packages that the environment lacks.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import resource
import signal
import sys
import traceback
import types
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000

CUT_OFF = "has no network"
AUDITED = "has no network through Python"


class RefusedJob(Exception):  # noqa: N818 - not an error of the program
    """The job cannot be done; the user reads both sentences.

    Args:
        message: what is wrong, without a full stop.
        hint: the remedy.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def disable_telemetry() -> None:
    """Turn off onnxruntime's reports to its vendor; call it before `import onnxruntime`."""
    os.environ["ORT_DISABLE_TELEMETRY"] = os.environ.get("ORT_DISABLE_TELEMETRY") or "1"


def cut_network() -> str:
    """Disable the network; return how: a network namespace without addresses, or a hook on Python's sockets."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNET) == 0 or libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0:
            return CUT_OFF

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.connect" and isinstance(arguments[1], tuple):
            raise PermissionError("this process has no network")

    sys.addaudithook(refuse)
    return AUDITED


def _package(name: str, folder: Path) -> None:
    module = types.ModuleType(name)
    module.__path__ = [str(folder)]
    sys.modules[name] = module


def main() -> None:
    """Do the job that standard input describes; report progress and result as lines of JSON."""
    reports = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # keep what libraries print out of the reports
    job = json.loads(sys.stdin.readline())
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != job["parent"]:
        os._exit(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if job["memory_bytes"]:
        resource.setrlimit(resource.RLIMIT_DATA, (job["memory_bytes"], job["memory_bytes"]))

    def report(**row: Any) -> None:
        reports.write(json.dumps(row).encode() + b"\n")

    network = cut_network() if job["offline"] else "has the network"
    here = Path(__file__).resolve().parent
    _package("turnout", here.parent.parent)
    _package("turnout.conversion", here.parent)
    _package("turnout.conversion.converters", here)
    # This file runs as `__main__`; importing it under its own name must return the same module, so that `RefusedJob` is
    # one class.
    sys.modules["turnout.conversion.converters.start"] = sys.modules["__main__"]
    try:
        module = importlib.import_module(f"turnout.conversion.converters.{job['module']}")
        report(done=module.main(job["arguments"], lambda text: report(progress=text)), network=network)
    except RefusedJob as refusal:
        report(refused=refusal.message, hint=refusal.hint)
    except MemoryError:
        report(failed="MemoryError", text="")
    except Exception as error:
        report(failed=f"{type(error).__name__}: {error}", text=traceback.format_exc())
    sys.stderr.flush()
    os._exit(0)  # skip the libraries' exit handlers: everything is written


if __name__ == "__main__":
    main()

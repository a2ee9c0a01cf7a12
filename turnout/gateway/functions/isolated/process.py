"""One awslambdaric process, from its start to its end: what it may see of this machine, and how it is killed.

Comes in: a function's unpacked packages and the address of its Runtime API. Goes out: a process that leads its own
group, one pipe with all that it prints, and at last a sentence that says how it ended. Used by `environment`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from turnout.gateway.functions.isolated.output import Drain, Lines
from turnout.plan.values import Function
from turnout.protocol.telemetry import TELEMETRY_OFF

BOOTSTRAP = Path(__file__).with_name("bootstrap.py")

HEADROOM_MB = 1024
"""What a process may have of writable memory beyond its memory size: stacks and buffers that are reserved and never
touched (onnxruntime and numpy: 50 MB with one processor). The warden looks at what is touched; this is for what would
be taken between two of its looks."""

MEMORY_PER_VCPU_MB = 1769
LEAST_VCPUS = 2
"""What Lambda shows at any memory size."""


@dataclass(frozen=True, slots=True)
class Code:
    """What an environment of one function runs.

    Args:
        function: of the plan.
        handler: as `_HANDLER` names it.
        task: the function's unpacked zip, Lambda's `/var/task`.
        layer: the layer's unpacked zip, Lambda's `/opt`; None for none.
        runtime: awslambdaric, Lambda's `/var/runtime`.
    """

    function: Function
    handler: str
    task: Path
    layer: Path | None
    runtime: Path


def make_variables(
    code: Code, runtime_api: str, log_stream: str, more: Mapping[str, str] = MappingProxyType({})
) -> dict[str, str]:
    """The whole environment of a process: Lambda's variables, the function's, and nothing of the gateway's own.

    `AWS_EXECUTION_ENV` is left out: with Python 3.12 and newer it makes awslambdaric ask for each event in a thread of
    its own, at twice the time per call. There are no credentials: nothing here may act for anybody.

    Args:
        code: what it runs.
        runtime_api: host and port.
        log_stream: the environment's name.
        more: what else the process is told.
    """
    function = code.function
    # On a machine with many more processors numpy would reserve memory for each.
    threads = str(max(LEAST_VCPUS, -(-function.memory_mb // MEMORY_PER_VCPU_MB)))
    return {
        **TELEMETRY_OFF,
        **function.environment,
        "AWS_DEFAULT_REGION": "local",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_VERSION": "1",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": log_stream,
        "AWS_LAMBDA_RUNTIME_API": runtime_api,
        "AWS_REGION": "local",
        "LAMBDA_RUNTIME_DIR": str(code.runtime),
        "LAMBDA_TASK_ROOT": str(code.task),
        "LANG": "en_US.UTF-8",
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "TZ": ":UTC",
        "_HANDLER": code.handler,
        **more,
    }


class Process:
    """A running environment's process.

    Args:
        code: what it runs.
        variables: its whole environment.
        tell: called with each line that it prints.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, code: Code, variables: dict[str, str], tell: Callable[[str], None]) -> None:
        loop = asyncio.get_running_loop()
        data_bytes = (code.function.memory_mb + HEADROOM_MB) * 1024 * 1024
        self._loop = loop
        # Isolated, without site-packages and .pyc files, in UTF-8 whatever locales this machine has.
        options = ("-I", "-S", "-B", "-X", "utf8")
        layers = () if code.layer is None else (str(code.layer / "python"),)
        self._popen = subprocess.Popen(
            [sys.executable, *options, str(BOOTSTRAP), str(data_bytes), *layers],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            cwd=code.task,
            env=variables,
            start_new_session=True,
        )
        assert self._popen.stdout is not None
        self.pid = self._popen.pid
        self.exited: asyncio.Future[None] = loop.create_future()
        self._pipe = self._popen.stdout.fileno()
        self._nowhere = self._handle = -1
        try:
            self._nowhere = os.open(os.devnull, os.O_WRONLY)
            self._handle = os.pidfd_open(self.pid)
        except OSError:
            self.kill()
            self._popen.wait()
            self._close_files()
            raise
        self._lines = Lines(tell, loop.time)
        self._drain = Drain(self._pipe, self._lines, self._nowhere)
        os.set_blocking(self._pipe, False)
        loop.add_reader(self._pipe, self._read)
        loop.add_reader(self._handle, self._exit)

    def kill(self) -> None:
        """End the process and all that it started in its group; not to be called after `close`."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> str:
        """Kill what is left, take the rest of its output and say how it ended.

        Until here the leader's number is its own, dead or alive; from here on it may come again.
        """
        self.kill()
        code = self._popen.wait()
        if not self._loop.is_closed():
            self._loop.remove_reader(self._handle)
            self._loop.remove_reader(self._pipe)
        self._drain.finish()
        self._close_files()
        return describe_exit(code)

    def _close_files(self) -> None:
        for handle in (self._handle, self._nowhere):
            if handle >= 0:
                os.close(handle)
        assert self._popen.stdout is not None
        self._popen.stdout.close()

    def _read(self) -> None:
        if not self._drain.read():
            self._loop.remove_reader(self._pipe)

    def _exit(self) -> None:
        self._loop.remove_reader(self._handle)
        if not self.exited.done():
            self.exited.set_result(None)


def describe_exit(code: int) -> str:
    """`exit status 3`, or `signal: killed`, in the words of Lambda's log."""
    if code >= 0:
        return f"exit status {code}"
    try:
        name = signal.strsignal(-code) or str(-code)
    except ValueError:
        name = str(-code)
    return f"signal: {name.lower()}"

"""One awslambdaric process, from its start to its end: its access to this machine, and how it is killed.

The started process is the keeper (`keeper.py`); the function's own process is its child, confined (`confinement.py`).
The keeper ends when the function and everything that it started has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from turnout.gateway.functions.isolated.keeper import end_descendants
from turnout.gateway.functions.isolated.output import Drain, Lines
from turnout.plan.values import Function
from turnout.protocol.telemetry import TELEMETRY_OFF

BOOTSTRAP = Path(__file__).with_name("bootstrap.py")

HEADROOM_MB = 1024
"""Writable memory of a process beyond its memory size: stacks and buffers that are reserved and never used (onnxruntime
and numpy: 50 MB with one processor). The warden checks used memory; this limit applies between two of its checks.
"""

KILL_PATIENCE_S = 5.0
"""Time between asking a keeper to end and killing it with all of its descendants: a stopped keeper does not react."""

OUTGOING_PORTS = (443,)
"""TCP ports to which functions may connect besides their own Runtime API: HTTPS, on which no machine offers private
services (on port 80, clouds return credentials to any process).
"""

MEMORY_PER_VCPU_MB = 1769
LEAST_VCPUS = 2
"""Lambda's number of processors at any memory size."""


@dataclass(frozen=True, slots=True)
class FunctionCode:
    """The code of one function's environments.

    Args:
        function: the function from the plan.
        handler: the value of `_HANDLER`.
        task: the function's unpacked zip, Lambda's `/var/task`.
        layer: the layer's unpacked zip, Lambda's `/opt`; None for none.
        runtime: awslambdaric, Lambda's `/var/runtime`.
        ports: TCP ports to which it may connect.
        models: folder with the models of a pool's versions, one folder for each digest; None for other functions.
        choices: folder with tables of choices, which routers read; None for none.
    """

    function: Function
    handler: str
    task: Path
    layer: Path | None
    runtime: Path
    ports: tuple[int, ...] = OUTGOING_PORTS
    models: Path | None = None
    choices: Path | None = None


def make_variables(
    code: FunctionCode, runtime_api: str, log_stream: str, more: Mapping[str, str] = MappingProxyType({})
) -> dict[str, str]:
    """Return the whole environment of a process: Lambda's variables, the function's, and none of the gateway's own.

    `AWS_EXECUTION_ENV` is left out: with Python 3.12 and newer it makes awslambdaric request each event in a separate
    thread, which doubles the time per call. There are no credentials, because nothing here may act for anybody.

    Args:
        code: the code that it runs.
        runtime_api: host and port of its Runtime API.
        log_stream: the environment's name.
        more: further variables for the process.
    """
    function = code.function
    # On a machine with many more processors, numpy would reserve memory for each of them.
    threads = str(max(LEAST_VCPUS, -(-function.settings.memory_mb // MEMORY_PER_VCPU_MB)))
    return {
        **TELEMETRY_OFF,
        **function.settings.environment,
        "AWS_DEFAULT_REGION": "local",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.settings.memory_mb),
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
        **({} if code.models is None else {"TURNOUT_MODELS": str(code.models)}),
        **({} if code.choices is None else {"TURNOUT_CHOICES": str(code.choices)}),
        **more,
    }


def make_settings(code: FunctionCode, variables: Mapping[str, str], scratch: str) -> str:
    """Return the bootstrap's instructions on its command line, as JSON.

    Args:
        code: the code that it runs.
        variables: its environment variables.
        scratch: the only folder that it may write to; it is deleted with the process.
    """
    layers = () if code.layer is None else (code.layer,)
    data = [folder for folder in (code.models, code.choices) if folder is not None]
    own = (variables["AWS_LAMBDA_RUNTIME_API"], variables.get("AWS_ENDPOINT_URL_LAMBDA", ""))
    ports = [int(address.rpartition(":")[2]) for address in own if address]
    return json.dumps(
        {
            "data_bytes": (code.function.settings.memory_mb + HEADROOM_MB) * 1024 * 1024,
            "code": [str(folder) for folder in (code.task, *layers, code.runtime, *data)],
            "layers": [str(layer / "python") for layer in layers],
            "scratch": scratch,
            "ports": sorted({*ports, *code.ports}),
        }
    )


class Process:
    """A running environment's process.

    Args:
        code: the code that it runs.
        variables: all of its environment variables.
        notify: called with each line that it prints.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, code: FunctionCode, variables: dict[str, str], notify: Callable[[str], None]) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._scratch = tempfile.mkdtemp(prefix="turnout-")
        # Isolated mode, without site-packages and .pyc files, in UTF-8 regardless of this machine's locales.
        options = ("-I", "-S", "-B", "-X", "utf8")
        try:
            self._popen = subprocess.Popen(
                [sys.executable, *options, str(BOOTSTRAP), make_settings(code, variables, self._scratch)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                cwd=code.task,
                env={**variables, "HOME": self._scratch, "TMPDIR": self._scratch},
                start_new_session=True,
            )
        except OSError:
            shutil.rmtree(self._scratch, ignore_errors=True)
            raise
        assert self._popen.stdout is not None
        self.pid = self._popen.pid
        self.exited: asyncio.Future[None] = loop.create_future()
        self._pipe = self._popen.stdout.fileno()
        self._nowhere = self._handle = -1
        self._hard_kill: asyncio.TimerHandle | None = None
        try:
            self._nowhere = os.open(os.devnull, os.O_WRONLY)
            self._handle = os.pidfd_open(self.pid)
        except OSError:
            self.kill()
            self._popen.wait()
            self._close_files()
            raise
        self._lines = Lines(notify, loop.time)
        self._drain = Drain(self._pipe, self._lines, self._nowhere)
        os.set_blocking(self._pipe, False)
        loop.add_reader(self._pipe, self._read)
        loop.add_reader(self._handle, self._exit)

    def kill(self) -> None:
        """End the process and all that it started; must not be called after `close`."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGTERM)
        if self._hard_kill is None and not self._loop.is_closed():
            self._hard_kill = self._loop.call_later(KILL_PATIENCE_S, self._kill_hard)

    def _kill_hard(self) -> None:
        end_descendants(self.pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGKILL)

    def close(self) -> str:
        """Kill what is left, read the rest of its output and return how it ended.

        Until here the keeper's process id is its own, dead or alive; afterwards it may be reused.
        """
        self.kill()
        if self._hard_kill is not None:
            self._hard_kill.cancel()
        try:
            code = self._popen.wait(KILL_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._kill_hard()
            code = self._popen.wait()
        if not self._loop.is_closed():
            self._loop.remove_reader(self._handle)
            self._loop.remove_reader(self._pipe)
        self._drain.finish()
        self._close_files()
        # A keeper ends by SIGTERM itself only while it has nothing to keep.
        return describe_exit(-signal.SIGKILL if code == -signal.SIGTERM else code)

    def _close_files(self) -> None:
        for handle in (self._handle, self._nowhere):
            if handle >= 0:
                os.close(handle)
        for stream in (self._popen.stdin, self._popen.stdout):
            assert stream is not None
            stream.close()
        shutil.rmtree(self._scratch, ignore_errors=True)  # exists only if the keeper was killed

    def _read(self) -> None:
        if not self._drain.read():
            self._loop.remove_reader(self._pipe)

    def _exit(self) -> None:
        self._loop.remove_reader(self._handle)
        if not self.exited.done():
            self.exited.set_result(None)


def describe_exit(code: int) -> str:
    """Return `exit status 3`, or `signal: killed`, in the words of Lambda's log."""
    if code >= 0:
        return f"exit status {code}"
    try:
        name = signal.strsignal(-code) or str(-code)
    except ValueError:
        name = str(-code)
    return f"signal: {name.lower()}"

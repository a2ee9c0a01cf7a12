"""One execution environment: a process, the Runtime API that it talks to, and the watch over its memory.

Comes in: a function's code. Goes out: how its life ended. Made by `isolated_function`, which gives it calls.
"""

from __future__ import annotations

import asyncio
import datetime
import socket
import uuid
from collections.abc import Callable

from turnout.gateway.functions import LARGEST_ANSWER_BYTES
from turnout.gateway.http import Limits, serve_http
from turnout.gateway.isolated.process import Code, Process, make_variables
from turnout.gateway.isolated.runtime_api import Owner, RuntimeApi
from turnout.gateway.isolated.warden import leader_kb
from turnout.gateway.isolated.watch import Watch

_LIMITS = Limits(
    max_body_bytes=LARGEST_ANSWER_BYTES,
    max_header_bytes=1_100_000,  # awslambdaric sends a traceback in a header, up to a megabyte
    max_connections=16,
)


class Environment:
    """One process and its Runtime API.

    Args:
        code: what it runs.
        owner: hears what becomes of its calls.
        watch: kills it when it takes too much memory.
        tell: called with each line that it prints.

    Attributes:
        api: takes its calls.
        since: when it was started, or was last given something to do or free; the loop's clock.
        reason: why it was killed, if it was.
    """

    def __init__(self, code: Code, owner: Owner, watch: Watch, tell: Callable[[str], None]) -> None:
        self.api = RuntimeApi(owner)
        self.since = asyncio.get_running_loop().time()
        self.reason = ""
        self._code = code
        self._watch = watch
        self._tell = tell
        self._process: Process | None = None

    async def live(self) -> str:
        """From the process's start to its end, whoever ends it: a sentence that says how it ended."""
        bound = socket.create_server(("127.0.0.1", 0), backlog=16)
        port = bound.getsockname()[1]
        stop = asyncio.Event()
        server = asyncio.create_task(
            serve_http(
                self.api.handle,
                host="127.0.0.1",
                port=port,
                stop=stop,
                limits=_LIMITS,
                sockets=[bound],
                log=self.api.refused,
            )
        )
        try:
            return await self._run(f"127.0.0.1:{port}")
        finally:
            server.cancel()
            await asyncio.gather(server, return_exceptions=True)
            bound.close()

    async def _run(self, runtime_api: str) -> str:
        if self.reason:
            return self.reason
        try:
            process = Process(self._code, make_variables(self._code, runtime_api, make_log_stream()), self._tell)
        except OSError as error:
            return f"cannot be started: {error}"
        self._process = process
        self._watch.add(process.pid, self._code.function.memory_mb)
        try:
            await process.exited
        finally:
            ending = self._close(process)
        return ending

    def _close(self, process: Process) -> str:
        """Let go of the process, dead or not."""
        self._process = None
        self._watch.remove(process.pid)
        used_mb = self._watch.used_mb(process.pid)
        exit_text = process.close()
        if self.reason:
            return self.reason
        return self._out_of_memory(used_mb) if used_mb else f"Runtime.ExitError: {exit_text}"

    def check_memory(self) -> str:
        """Why the process must be killed for what it has taken so far; empty where it need not."""
        used_mb = -(-leader_kb(self._process.pid) // 1024) if self._process is not None else 0
        return self._out_of_memory(used_mb) if used_mb > self._code.function.memory_mb else ""

    def _out_of_memory(self, used_mb: int) -> str:
        return f"Runtime.OutOfMemory: {used_mb:,} MB taken, {self._code.function.memory_mb:,} MB allowed; killed"

    def kill(self, reason: str) -> None:
        """End it soon, with all that it started; `live` returns the reason."""
        self.reason = self.reason or reason
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """End it now; for when the event loop is gone."""
        if self._process is not None:
            self._close(self._process)


def make_log_stream() -> str:
    """A name as Lambda gives it: `2026/11/22/[1]0123456789abcdef0123456789abcdef`."""
    today = datetime.datetime.now(datetime.UTC)
    return f"{today:%Y/%m/%d}/[1]{uuid.uuid4().hex}"

"""One execution environment: a process, its Runtime API, and the monitoring of its memory.

`isolated_function` makes it and assigns calls to it.
"""

from __future__ import annotations

import asyncio
import datetime
import socket
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial

from turnout.gateway.functions.isolated.process import FunctionCode, Process, make_variables
from turnout.gateway.functions.isolated.runtime_api import Owner, RuntimeApi
from turnout.gateway.functions.isolated.runtime_connection import RuntimeConnection
from turnout.gateway.functions.isolated.warden import function_kb
from turnout.gateway.functions.isolated.warden_client import ProcessGuard

Sidecar = Callable[[], AbstractAsyncContextManager[Mapping[str, str]]]


def no_sidecar() -> AbstractAsyncContextManager[Mapping[str, str]]:
    """The default: only events are served."""
    return nullcontext({})


class Environment:
    """One process and its Runtime API.

    Args:
        code: the code that it runs.
        owner: receives the outcome of its calls.
        guard: kills it when it uses too much memory.
        notify: called with each line that it prints.
        beside: serves it something while it lives; returns the environment variables with the address.

    Attributes:
        api: assigns its calls.
        since: when it was started, or last became busy or idle; on the loop's clock.
        reason: why it was killed, if it was.
    """

    def __init__(
        self,
        code: FunctionCode,
        owner: Owner,
        guard: ProcessGuard,
        notify: Callable[[str], None],
        beside: Sidecar = no_sidecar,
    ) -> None:
        self.api = RuntimeApi(owner)
        self.since = asyncio.get_running_loop().time()
        self.reason = ""
        self._code = code
        self._guard = guard
        self._notify = notify
        self._beside = beside
        self._process: Process | None = None
        self._connections: set[RuntimeConnection] = set()

    async def live(self) -> str:
        """Run from the process's start to its end; return a sentence about how it ended."""
        bound = socket.create_server(("127.0.0.1", 0), backlog=16)
        try:
            loop = asyncio.get_running_loop()
            server = await loop.create_server(
                partial(RuntimeConnection, self.api, self._connections), sock=bound, backlog=16
            )
            try:
                async with self._beside() as variables:
                    return await self._run("{}:{}".format(*bound.getsockname()), variables)
            finally:
                server.close()
                for connection in tuple(self._connections):
                    connection.check_unread()
                    connection.abort()
        finally:
            bound.close()

    async def _run(self, runtime_api: str, more: Mapping[str, str]) -> str:
        if self.reason:
            return self.reason
        variables = make_variables(self._code, runtime_api, make_log_stream(), more)
        try:
            process = Process(self._code, variables, self._notify)
        except OSError as error:
            return f"cannot be started: {error}"
        self._process = process
        try:
            self._guard.add(process.pid, self._code.function.settings.memory_mb)
            await process.exited
        except OSError as error:
            self.reason = self.reason or f"cannot be watched: {error}"
        finally:
            ending = self._close()
        return ending

    def _close(self) -> str:
        """Release the process, whether or not it has ended."""
        process, self._process = self._process, None
        if process is None:
            return self.reason
        self._guard.remove(process.pid)
        used_mb = self._guard.used_mb(process.pid)
        exit_text = process.close()
        if used_mb:
            return self._out_of_memory(used_mb)
        return self.reason or f"Runtime.ExitError: {exit_text}"

    @property
    def used_bytes(self) -> int:
        """Return the memory of its processes; 0 before they start."""
        return 0 if self._process is None else 1024 * function_kb(self._process.pid)

    def check_memory(self) -> str:
        """Return why the process must be killed for the memory it has used so far; empty if it need not be."""
        used_mb = -(-function_kb(self._process.pid) // 1024) if self._process is not None else 0
        return self._out_of_memory(used_mb) if used_mb > self._code.function.settings.memory_mb else ""

    def _out_of_memory(self, used_mb: int) -> str:
        return (
            f"Runtime.OutOfMemory: {used_mb:,} MB taken, {self._code.function.settings.memory_mb:,} MB allowed; killed"
        )

    def kill(self, reason: str) -> None:
        """End it soon, with all processes that it started; `live` returns the reason."""
        self.reason = self.reason or reason
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """End it immediately; for use after the event loop has ended."""
        self.reason = self.reason or "the gateway stops"
        self._close()


def make_log_stream() -> str:
    """Return a name in Lambda's format: `2026/11/22/[1]0123456789abcdef0123456789abcdef`."""
    today = datetime.datetime.now(datetime.UTC)
    return f"{today:%Y/%m/%d}/[1]{uuid.uuid4().hex}"

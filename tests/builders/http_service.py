"""The HTTP server with a listening socket of its own; workers get their connections from the supervisor instead."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping, Sequence
from socket import socket
from typing import Any

from turnout.http_server.messages import Handler, Response
from turnout.http_server.reader import Limits
from turnout.http_server.server import BACKLOG, allow_open_files, new_event_loop, serving
from turnout.http_server.service import Admit, Log, Service
from turnout.http_server.wire import REFUSALS

_OTHER_FILES = 1024
"""Number of open files of the process besides connections."""


async def serve_http(
    handle: Handler,
    *,
    host: str,
    port: int,
    stop: asyncio.Event,
    limits: Limits | None = None,
    refusals: Mapping[int, Response] = REFUSALS,
    sockets: Sequence[socket] = (),
    on_ready: Callable[[str, int], None] | None = None,
    log: Log | None = None,
    admit: Admit | None = None,
) -> None:
    """Serve until `stop` is set, then finish the requests in flight and return.

    Args:
        handle: answers each request; an exception is logged and answered with a 500.
        host: the address to listen on.
        port: the port to listen on, 0 for any free port.
        stop: ends the service.
        limits: limits for one client.
        refusals: the server's own error responses, by status.
        sockets: bound sockets to listen on instead of `host` and `port`.
        on_ready: called with the address once clients can connect.
        log: called for every response and refusal; for a request that could not be read, unknown parts are `-`.
        admit: called before a body is read.

    Raises:
        OSError: the address cannot be listened on.
    """
    loop = asyncio.get_running_loop()
    listeners: list[asyncio.Server] = []
    async with serving(Service(handle, limits or Limits(), refusals, log, admit)) as make_connection:
        try:
            for listening in sockets:
                listener = await loop.create_server(make_connection, sock=listening, backlog=BACKLOG)
                listeners.append(listener)
            if not sockets:
                listeners.append(await loop.create_server(make_connection, host, port, backlog=BACKLOG))
            if on_ready is not None:
                address = listeners[0].sockets[0].getsockname()
                on_ready(address[0], address[1])
            await stop.wait()
        finally:
            for listener in listeners:
                listener.close()
    for listener in listeners:
        await listener.wait_closed()


def run(handle: Handler, *, host: str, port: int, limits: Limits | None = None, **options: Any) -> None:
    """Run `serve_http` on uvloop until SIGTERM or SIGINT; a second signal ends the process immediately.

    Args:
        handle: see `serve_http`.
        host: the address to listen on.
        port: the port to listen on.
        limits: limits for one client; the process's limit of open files is raised to match.
        options: `refusals`, `sockets`, `on_ready` and `log`, see `serve_http`.
    """

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        signals = (signal.SIGTERM, signal.SIGINT)

        def set_stop() -> None:
            stop.set()
            for number in signals:
                loop.remove_signal_handler(number)

        for number in signals:
            loop.add_signal_handler(number, set_stop)
        await serve_http(handle, host=host, port=port, limits=limits, stop=stop, **options)

    allow_open_files((limits or Limits()).max_connections + _OTHER_FILES)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve())

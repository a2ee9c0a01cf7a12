"""The HTTP/1.1 server: `serve_http` listens, serves and stops; `run` does so on uvloop until a signal comes.

Comes in: a handler, an address, limits. Goes out: nothing. Called by the gateway's server, which imports nothing else
of HTTP: `http_connection` answers a client, `http_reader` makes requests out of bytes, `http_wire` bytes of answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from email.utils import formatdate
from functools import partial
from socket import socket
from typing import Any

from turnout.gateway.http_connection import Connection, Log, Service
from turnout.gateway.http_reader import Limits
from turnout.gateway.http_wire import REFUSALS
from turnout.gateway.messages import Handler, Response

__all__ = ["REFUSALS", "Limits", "Log", "run", "serve_http"]

logger = logging.getLogger(__name__)

_BACKLOG = 2048
_OTHER_FILES = 1024


def sweep(service: Service, now: float) -> None:
    """Set the clock and the date, and end what took too long: one pass over all connections, no timer for each."""
    service.now = now
    service.date = f"Date: {formatdate(usegmt=True)}\r\n"
    for connection in tuple(service.connections):
        connection.check_time()


async def sweep_forever(service: Service) -> None:
    """Sweep each second, or more often where a limit is shorter."""
    limits = service.limits
    shortest_s = min(
        limits.header_timeout_s, limits.body_timeout_s, limits.keep_alive_s, limits.write_timeout_s, limits.linger_s
    )
    while True:
        await asyncio.sleep(min(1.0, shortest_s / 2))
        sweep(service, time.monotonic())


async def drain(service: Service) -> None:
    """Close idle connections, and wait until those with a request in flight have had their answer."""
    service.draining = True
    for connection in tuple(service.connections):
        connection.drain()
    if service.connections:
        try:
            await asyncio.wait_for(service.emptied.wait(), service.limits.shutdown_s)
        except TimeoutError:
            logger.warning("stopped with %d connections still busy", len(service.connections))


async def cut(service: Service) -> None:
    """Close every connection and cancel every answer that is left."""
    service.draining = True
    for connection in tuple(service.connections):
        connection.abort()
    tasks = tuple(service.tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if service.connections:
        await service.emptied.wait()


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
) -> None:
    """Serve until `stop` is set, then finish the requests in flight and return.

    Args:
        handle: answers each request; what it raises is logged and answered with a 500.
        host: to listen on.
        port: to listen on, 0 for any that is free.
        stop: ends the service.
        limits: what one client may take.
        refusals: the answers that the server gives by itself, by status.
        sockets: bound sockets to listen on instead of `host` and `port`.
        on_ready: told the address once clients can connect.
        log: told of every answer, refusals too; a request that could not be read has `-` for what is not known.

    Raises:
        OSError: the address cannot be listened on.
    """
    loop = asyncio.get_running_loop()
    service = Service(handle, limits or Limits(), refusals, log)
    sweep(service, time.monotonic())
    make_connection = partial(Connection, service)
    listeners: list[asyncio.Server] = []
    try:
        for listening in sockets:
            listener = await loop.create_server(make_connection, sock=listening, backlog=_BACKLOG)
            listeners.append(listener)
        if not sockets:
            listeners.append(await loop.create_server(make_connection, host, port, backlog=_BACKLOG))
        sweeper = loop.create_task(sweep_forever(service))
        try:
            if on_ready is not None:
                address = listeners[0].sockets[0].getsockname()
                on_ready(address[0], address[1])
            await stop.wait()
            for listener in listeners:
                listener.close()
            await drain(service)
        finally:
            sweeper.cancel()
    finally:
        for listener in listeners:
            listener.close()
        await cut(service)
        for listener in listeners:
            await listener.wait_closed()


def allow_open_files(wanted: int) -> None:
    """Let this process hold as many connections as the system lets it: shells often start it with 1,024."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # Some systems allow less than they say; then it stays as it was.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def run(handle: Handler, *, host: str, port: int, limits: Limits | None = None, **options: Any) -> None:
    """`serve_http` on uvloop, until SIGTERM or SIGINT; a second signal ends the process at once.

    Args:
        handle: as for `serve_http`.
        host: to listen on.
        port: to listen on.
        limits: what one client may take; the process's limit of open files is raised to fit.
        options: `refusals`, `sockets`, `on_ready` and `log`, as for `serve_http`.
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

    new_loop: Callable[[], asyncio.AbstractEventLoop]
    try:
        import uvloop
    except ImportError:
        warnings.warn("uvloop is not installed: requests are served more slowly", RuntimeWarning, stacklevel=2)
        new_loop = asyncio.new_event_loop
    else:
        new_loop = uvloop.new_event_loop
    allow_open_files((limits or Limits()).max_connections + _OTHER_FILES)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(serve())

"""The HTTP/1.1 server: serves the connections that the supervisor accepts, until it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import warnings
from collections.abc import AsyncIterator, Callable, Mapping
from email.utils import formatdate
from functools import partial
from socket import socket

from turnout.http_server.busy_poll import BusyPoll
from turnout.http_server.connection import Connection
from turnout.http_server.messages import Handler, Response
from turnout.http_server.reader import Limits
from turnout.http_server.service import SURELY_IDLE_S, Admit, CountRefusal, Log, Receive, Service
from turnout.http_server.wire import REFUSALS

__all__ = ["BACKLOG", "REFUSALS", "Limits", "Log", "new_event_loop", "serve_accepted", "serving"]

logger = logging.getLogger(__name__)

BACKLOG = 2048


def sweep(service: Service, now: float) -> None:
    """Set the clock and the date, and end what took too long.

    This is one pass over all connections, without a timer for each.
    """
    service.now = now
    service.date = f"Date: {formatdate(usegmt=True)}\r\n"
    for connection in tuple(service.connections):
        connection.check_time()


async def sweep_forever(service: Service) -> None:
    """Sweep each second, or more often if a limit is shorter."""
    limits = service.limits
    shortest_s = min(
        limits.header_timeout_s, limits.body_timeout_s, limits.keep_alive_s, limits.write_timeout_s, limits.linger_s
    )
    while True:
        await asyncio.sleep(min(1.0, shortest_s / 2))
        sweep(service, time.monotonic())


async def drain(service: Service) -> None:
    """Close idle connections, and wait until requests in flight are answered.

    A client that was answered a moment ago may have sent its next request. Closing its connection now would lose it, so
    it gets a moment more; the answer then contains `close`.
    """
    service.draining = True
    for connection in tuple(service.connections):
        if not connection.expects_request:
            connection.drain()
    if service.connections:
        patience_s = service.limits.shutdown_s
        closing = asyncio.get_running_loop().call_later(min(SURELY_IDLE_S, patience_s), drain_all, service)
        try:
            await asyncio.wait_for(service.emptied.wait(), patience_s)
        except TimeoutError:
            logger.warning("stopped with %d connections still busy", len(service.connections))
        finally:
            closing.cancel()


def drain_all(service: Service) -> None:
    """Close every connection that has no request in flight."""
    for connection in tuple(service.connections):
        connection.drain()


async def cut(service: Service) -> None:
    """Close every connection and cancel every remaining answer."""
    service.draining = True
    for connection in tuple(service.connections):
        connection.abort()
    tasks = tuple(service.tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if service.connections:
        await service.emptied.wait()


async def serve_accepted(
    handle: Handler,
    *,
    stop: asyncio.Event,
    on_ready: Callable[[Callable[[socket], None]], None],
    on_close: Callable[[], None],
    limits: Limits | None = None,
    refusals: Mapping[int, Response] = REFUSALS,
    log: Log | None = None,
    admit: Admit | None = None,
    receive: Receive | None = None,
    count_refusal: CountRefusal | None = None,
) -> None:
    """Serve connections that another process accepts until `stop` is set; requests in flight are finished.

    Args:
        handle: answers each request.
        stop: ends the service.
        on_ready: called with the function that accepts each connected socket, which then belongs to the server.
        on_close: called for every such socket that is closed, whether or not it could be served.
        limits: limits of one client.
        refusals: the server's own error responses, by status.
        log: called with every answer.
        admit: called before a body is read.
        receive: called to choose the receiver of a body.
        count_refusal: called with the status of every answer that was given without the handler.
    """
    loop = asyncio.get_running_loop()
    service = Service(handle, limits or Limits(), refusals, log, admit, receive)
    service.on_close = on_close
    service.count_refusal = count_refusal
    service.busy_poll = BusyPoll(loop)
    beginning: set[asyncio.Task[None]] = set()

    async def begin(connected: socket) -> None:
        try:
            await loop.connect_accepted_socket(make_connection, connected)
        except Exception as error:
            if not isinstance(error, OSError):  # otherwise the client disconnected
                logger.exception("a connection cannot be served")
            connected.close()
            on_close()

    def attach(connected: socket) -> None:
        task = loop.create_task(begin(connected))
        beginning.add(task)
        task.add_done_callback(beginning.discard)

    async with serving(service) as make_connection:
        on_ready(attach)
        await stop.wait()
        await asyncio.gather(*beginning)


@contextlib.asynccontextmanager
async def serving(service: Service) -> AsyncIterator[Callable[[], Connection]]:
    """Keep the service's clock while connections are made.

    At the end finish requests in flight, then close the rest.
    """
    sweep(service, time.monotonic())
    sweeper = asyncio.get_running_loop().create_task(sweep_forever(service))
    try:
        yield partial(Connection, service)
        await drain(service)
    finally:
        sweeper.cancel()
        await cut(service)


def allow_open_files(wanted: int) -> None:
    """Let this process have as many connections as the system allows: shells often start it with 1,024."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # Some systems allow less than they report; the limit then stays unchanged.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return uvloop's loop, or asyncio's own with a warning."""
    try:
        import uvloop
    except ImportError:
        warnings.warn("uvloop is not installed: requests are served more slowly", RuntimeWarning, stacklevel=2)
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()

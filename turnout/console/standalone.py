"""The console on its own port: for a stack on AWS, or a server in another process on this machine."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

from turnout.console.door import Door
from turnout.console.handler import ConsoleHandler
from turnout.console.mounted import lead_browsers
from turnout.console.subject import Subject
from turnout.http_server.messages import Request, Response
from turnout.http_server.server import REFUSALS, Limits, new_event_loop, serving
from turnout.http_server.service import Service
from turnout.protocol.naming import CONSOLE_SEGMENT

LIMITS = Limits(shutdown_s=2.0)


def serve_console(subject: Subject, port: int, announce: Callable[[str], None], *, may_write: bool = True) -> None:
    """Serve the console on 127.0.0.1 until SIGINT or SIGTERM.

    Args:
        subject: the project that is shown.
        port: 0 uses a free port.
        announce: called with the address to open, once the console listens.
        may_write: whether it may change anything.

    Raises:
        OSError: the server cannot listen on the port.
    """
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve(subject, port, announce, Door(may_write=may_write)))


async def _serve(subject: Subject, port: int, announce: Callable[[str], None], door: Door) -> None:
    console = ConsoleHandler(subject, door)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)

    def handle(request: Request) -> Response | Awaitable[Response]:
        if request.path[1:].partition("/")[0] == CONSOLE_SEGMENT:
            return console.handle(request)
        return lead_browsers(door, request) or Response(404, (("Content-Type", "text/plain"),), b"See /console/\n")

    async with serving(Service(handle, LIMITS, REFUSALS, None)) as make_connection:
        server = await loop.create_server(make_connection, "127.0.0.1", port)
        try:
            bound = server.sockets[0].getsockname()[1]
            announce(f"http://127.0.0.1:{bound}/{CONSOLE_SEGMENT}?token={door.token}")
            await stop.wait()
        finally:
            server.close()

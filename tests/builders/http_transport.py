"""A connection of the HTTP server with a fake transport and clock, so that every order of events can be tested."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from socket import socket
from typing import Any

from turnout.http_server.connection import Connection, Service
from turnout.http_server.messages import Handler
from turnout.http_server.server import REFUSALS, Limits, sweep

HIGH_WATER_BYTES = 1000


class FakeTransport:
    """Behaves like the event loop's transport: calls back when too much data is unsent, closes when all data
    is sent.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.sent = bytearray()  # bytes that the client has read
        self.unsent = bytearray()
        self.client_reads = True
        self.reading = True
        self.wrote_eof = False
        self.closing = False
        self.closed = False
        self.socket: socket | None = None  # asked whether there is something to read
        self._paused = False
        self._loop = loop
        self.protocol: Connection

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("192.0.2.1", 5), "socket": self.socket}.get(name, default)

    def write(self, data: bytes) -> None:
        assert not self.wrote_eof
        assert not self.closing
        self.unsent += data
        if not self._paused and not self.client_reads and len(self.unsent) > HIGH_WATER_BYTES:
            self._paused = True
            self.protocol.pause_writing()
        self.flush()

    def writelines(self, pieces: tuple[bytes, ...]) -> None:
        self.write(b"".join(pieces))

    def flush(self) -> None:
        if not self.client_reads or self.closed:
            return
        self.sent += self.unsent
        self.unsent.clear()
        if self._paused:
            self._paused = False
            self.protocol.resume_writing()
        if self.closing:
            self._lose()

    def write_eof(self) -> None:
        self.wrote_eof = True

    def close(self) -> None:
        self.closing = True
        if not self.unsent:
            self._lose()

    def abort(self) -> None:
        self.closing = True
        self.unsent.clear()
        self._lose()

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return len(self.unsent)

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def _lose(self) -> None:
        if not self.closed:
            self.closed = True
            self._loop.call_soon(self.protocol.connection_lost, None)


class Exchange:
    """One client's connection, driven step by step."""

    def __init__(self, handle: Handler, limits: Limits | None = None) -> None:
        self.loop = asyncio.new_event_loop()
        self.service = Service(handle, limits or Limits(), REFUSALS, None)
        self.service.date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        self.transport = FakeTransport(self.loop)
        self.connection = Connection(self.service)
        self.transport.protocol = self.connection
        self._unread = bytearray()
        self.within(lambda: self.connection.connection_made(self.transport))  # type: ignore[arg-type]

    def within(self, function: Callable[[], object]) -> None:
        """Call something on the event loop, and let it finish what the call started."""

        async def call() -> None:
            function()

        self.loop.run_until_complete(call())
        for _ in range(2):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    def feed(self, data: bytes) -> None:
        """The client sends data; what is not read yet waits as it would in the kernel."""
        self._unread += data
        if self.transport.reading and not self.transport.closing and self._unread:
            piece = bytes(self._unread)
            self._unread.clear()
            self.connection.data_received(piece)

    def stall(self) -> None:
        self.transport.client_reads = False

    def read(self) -> None:
        """The client reads all available data, and keeps reading."""
        self.transport.client_reads = True
        self.within(self.transport.flush)
        self.feed(b"")

    def hang_up(self) -> None:
        """The client closes its sending side."""
        if not self.transport.closing and self.transport.reading:

            def close() -> None:
                if not self.connection.eof_received():
                    self.transport.close()

            self.within(close)

    def wait(self, seconds: float) -> None:
        """Advance the time, and let the server check its clock."""
        date = self.service.date
        self.within(lambda: sweep(self.service, self.service.now + seconds))
        self.service.date = date

    def close(self) -> None:
        if not self.transport.closed:
            self.within(self.connection.abort)
        self.within(lambda: None)
        assert not self.service.connections
        self.loop.close()

    @property
    def sent(self) -> bytes:
        return bytes(self.transport.sent)

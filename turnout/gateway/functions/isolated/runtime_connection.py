"""The HTTP of the Runtime API: only what awslambdaric and `http.client` send over loopback.

`environment` makes it for each connection.

It does not use the gateway's own HTTP server: each call needs two requests here, from one client in two forms, and this
module reads and answers both in a third of the time. Any other request is rejected, and its connection closed.
"""

from __future__ import annotations

import asyncio
import errno
import re
import socket
from typing import cast

from turnout.gateway.functions.invocation import LARGEST_ANSWER_BYTES
from turnout.gateway.functions.isolated.runtime_api import NEXT, UNKNOWN_PATH, RuntimeApi, render

LARGEST_HEAD_BYTES = 1_100_000
"""Awslambdaric sends the traceback of a failure in a header, up to a megabyte."""

_RESETS = frozenset({errno.ECONNRESET, errno.EPIPE})

_ASK = b"GET " + NEXT + b" HTTP/1.1\r\n"
_POST = re.compile(rb"POST (/[!-~]*) HTTP/1\.1\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,12})[ \t]*\r\n", re.IGNORECASE)


def _refusal(status: int, message: str) -> bytes:
    return render(status, {"errorMessage": message, "errorType": "InvalidRequest"}, close=True)


NO_REQUEST = _refusal(400, "Not a request of the Runtime API")
LENGTH_MISSING = _refusal(411, "Content-Length is missing")
BODY_TOO_LARGE = _refusal(413, "Exceeded maximum allowed payload size")
HEAD_TOO_LARGE = _refusal(431, "Header fields are too large")


class RuntimeConnection(asyncio.Protocol):
    """One connection of one environment's process.

    Args:
        api: the environment's API.
        connections: the environment's open connections; this one adds and removes itself.
    """

    __slots__ = ("_api", "_closed", "_connections", "_held", "_searched_bytes", "_transport", "_wanted_bytes")

    _transport: asyncio.Transport

    def __init__(self, api: RuntimeApi, connections: set[RuntimeConnection]) -> None:
        self._api = api
        self._connections = connections
        self._held = bytearray()  # bytes of an incomplete request
        self._searched_bytes = 0  # bytes already searched for the end of the head
        self._wanted_bytes = 0  # the request's whole length, once its head is read
        self._closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The process has connected."""
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)

    def eof_received(self) -> None:
        """The process has ended, or has closed this connection."""
        self.check_unread()

    def check_unread(self) -> None:
        """Take back what the process had not read when it ended, in which case the kernel resets the connection."""
        connected = None if self._closed else self._transport.get_extra_info("socket")
        if connected is not None and connected.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) in _RESETS:
            self._api.take_back(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._closed = True
        if isinstance(exc, ConnectionError):
            self._api.take_back(self)
        self._held.clear()
        self._connections.discard(self)
        self._api.leave(self)

    def send(self, data: bytes) -> None:
        """Answer the request that was read last."""
        if not self._closed:
            self._transport.write(data)

    def abort(self) -> None:
        """Close immediately."""
        self._closed = True
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Read further, and answer complete requests."""
        held = self._held
        if held:
            held += data
            if not self._is_complete(held):
                return
            data = bytes(held)
            held.clear()
        while data and not self._closed:
            used = self._read(data)
            if not used:
                held += data
                return
            data = data[used:]

    def _is_complete(self, held: bytearray) -> bool:
        """Whether a request that arrived in pieces may be complete, so that it is worth parsing again."""
        if self._wanted_bytes:
            return len(held) >= self._wanted_bytes
        start = max(0, self._searched_bytes - 3)
        self._searched_bytes = len(held)
        return len(held) > LARGEST_HEAD_BYTES or held.find(b"\r\n\r\n", start) >= 0

    def _read(self, data: bytes) -> int:
        """Answer the first request; return its length, or 0 if it is incomplete."""
        self._wanted_bytes = self._searched_bytes = 0
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return self._refuse(HEAD_TOO_LARGE) if len(data) > LARGEST_HEAD_BYTES else 0
        if data.startswith(_ASK):
            self._api.ask(self)
            return end + 4
        post = _POST.match(data)
        if post is None:
            return self._refuse(UNKNOWN_PATH if data.startswith(b"GET /") else NO_REQUEST)
        length = _LENGTH.search(data, post.end() - 2, end + 2)
        if length is None:
            return self._refuse(LENGTH_MISSING)
        body_bytes = int(length[1])
        if body_bytes > LARGEST_ANSWER_BYTES:
            self._refuse(BODY_TOO_LARGE)
            self._api.refuse_body(post[1])
            return 0
        total = end + 4 + body_bytes
        if len(data) < total:
            self._wanted_bytes = total
            return 0
        self.send(self._api.post(post[1], data[end + 4 : total]))
        return total

    def _refuse(self, response: bytes) -> int:
        """Send a final error response."""
        self.send(response)
        self._closed = True
        self._transport.close()
        return 0

"""One HTTP request and one HTTP response, as values without sockets.

The HTTP server makes requests and writes responses; the gateway's core answers requests with responses.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol

Headers = Sequence[tuple[str, str]]
"""Header fields in the order and case of the wire, repeated ones repeated; names and values as Latin-1 text."""


class BodySink(Protocol):
    """Receives a large body piece by piece, so that no process has to hold it in memory."""

    @property
    def is_behind(self) -> bool:
        """Whether reading should pause."""
        ...

    def write(self, piece: bytes) -> None:
        """Accept the next piece. Raises `RefusedRequest` if the body is too long."""
        ...

    def notify_drained(self, notify: Callable[[], None]) -> None:
        """Call the function on the event loop when reading may continue."""
        ...

    def abandon(self) -> None:
        """Discard the body, because it ended early."""
        ...


@dataclass(slots=True, eq=False)
class FileBody:
    """Part of an open file as a response's body. The server closes it."""

    file: BinaryIO
    offset: int
    length: int


@dataclass(slots=True, eq=False)
class Request:
    """One request with its complete body.

    Args:
        method: `POST`, as sent.
        path: the target's path as sent, still percent-encoded, without the query string.
        query: the text after the `?`, as sent; empty if there is none.
        headers: as sent.
        body: decoded from its transfer encoding, not from its content encoding.
        client: the peer's address.
        kept: a cache for results that depend only on the headers and the client; requests of a client with the
            same headers share it.
        admitted: the stage whose throttle admitted the request before its body was read; None if no throttle was used.
        sink: the sink that received the body, which is then empty here; or None.
    """

    method: str
    path: str
    query: str
    headers: Headers
    body: bytes
    client: str = "127.0.0.1"
    kept: dict[str, Any] = field(default_factory=dict, repr=False)
    admitted: str | None = None
    sink: BodySink | None = None


@dataclass(slots=True, eq=False)
class Response:
    """One response. The server adds only `Content-Length`, `Date` and the connection's headers.

    Args:
        status: 200-599.
        headers: in the order and case of the wire.
        body: the whole body, unless there is a file or there are chunks.
        file: sent piece by piece instead of `body`; or None.
        chunks: sent one by one instead of a body. The generator is closed when its client has disconnected or the
            server stops; while the client does not read, it is not advanced. The connection ends with it.
    """

    status: int
    headers: Headers = field(default_factory=tuple)
    body: bytes = b""
    file: FileBody | None = None
    chunks: AsyncGenerator[bytes] | None = None


Handler = Callable[[Request], "Response | Awaitable[Response]"]
"""Answers a request immediately, or returns an awaitable if the answer takes long."""

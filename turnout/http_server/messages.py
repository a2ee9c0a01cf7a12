"""One HTTP request and one HTTP response, as values without sockets.

The HTTP server makes requests and writes responses; the gateway's core answers the one with the other.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol

Headers = Sequence[tuple[str, str]]
"""Header fields in the order and case of the wire, repeated ones repeated; names and values as Latin-1 text."""


class BodySink(Protocol):
    """Takes a large body piece by piece, so that no process has to hold it."""

    @property
    def is_behind(self) -> bool:
        """Whether nothing more should be read for now."""
        ...

    def write(self, piece: bytes) -> None:
        """Take the next piece. A `RefusedRequest` where the body is too long."""
        ...

    def notify_drained(self, notify: Callable[[], None]) -> None:
        """Call it on the event loop once the sink is no longer behind."""
        ...

    def abandon(self) -> None:
        """The rest will not come."""
        ...


@dataclass(slots=True, eq=False)
class FileBody:
    """Part of an open file as a response's body. Whoever sends it closes it."""

    file: BinaryIO
    offset: int
    length: int


@dataclass(slots=True, eq=False)
class Request:
    """One request, its body complete.

    Args:
        method: `POST`, as sent.
        path: the target's path as sent, still percent-encoded, without the query string.
        query: the text after the `?`, as sent; empty where there is none.
        headers: as sent.
        body: decoded from its transfer encoding, not from its content encoding.
        client: the peer's address.
        kept: what a reader of the headers makes of them and of the client alone, and wants to find again: a client's
            requests with the same headers share it.
        admitted: the stage whose throttle let the request in before its body was read; None where no throttle was
            asked.
        sink: took the body, which is empty here; None where it did not.
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
    """One response. The server adds `Content-Length`, `Date` and what the connection needs, and nothing else.

    Args:
        status: 200-599.
        headers: in the order and case of the wire.
        body: all of it, unless there is a file or there are chunks.
        file: the body in its stead, sent piece by piece; None for `body`.
        chunks: what is sent instead of a body, as it comes. The generator is closed when its client has gone or the
            server stops; while the client does not read, nothing more is asked of it. The connection ends with it.
    """

    status: int
    headers: Headers = field(default_factory=tuple)
    body: bytes = b""
    file: FileBody | None = None
    chunks: AsyncGenerator[bytes] | None = None


Handler = Callable[[Request], "Response | Awaitable[Response]"]
"""Answers a request at once, or with something to wait for when the answer takes long."""

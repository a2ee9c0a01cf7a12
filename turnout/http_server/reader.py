"""Reads requests from bytes: httptools parses them, this module assembles them and rejects invalid HTTP."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httptools

from turnout.http_server.messages import BodySink, Request
from turnout.http_server.wire import (
    CLOSE,
    HOST,
    KEEP,
    KEEP_1_0,
    LENGTH,
    UPGRADE,
    RefusedRequest,
    check_fields,
    read_fields,
    render_head_without_upgrade,
    split_target,
)
from turnout.protocol.aws.limits import LARGEST_HEADERS_BYTES, LARGEST_REQUEST_BYTES

_PLAIN = frozenset({HOST, HOST | LENGTH})
_SMALL_PIECE_BYTES = 4096
_LINE_START = re.compile(rb"[A-Z-]+ ")
_METHOD_START = re.compile(rb"[A-Z-]{1,32}")
_METHOD_BYTES = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ-")
_METHODS = {b"GET": "GET", b"POST": "POST"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one client. Times are checked by a sweep, so they may be exceeded by up to a second.

    Args:
        max_body_bytes: a request's body after its transfer encoding is undone (API Gateway: 10 MB); more is a 413.
        max_header_bytes: all header lines together (API Gateway: 10,240); more is a 431.
        max_target_bytes: the path with its query; more is a 414.
        max_connections: most connections; more get a 503 if no idle one can be closed instead.
        max_incomplete: most connections of one address without a whole request; more get a 503.
        max_incomplete_loopback: the same for an address of this machine, which may be a proxy's.
        max_streams: most concurrent chunked answers; more get a 503.
        max_bodies_bytes: all bodies that are being read or answered; further ones that are not small get a 503.
        header_timeout_s: from a connection's start, or a request's first bytes, to the end of its head.
        body_timeout_s: from the end of a head to the end of its body.
        keep_alive_s: time between requests.
        write_timeout_s: time without a byte being sent while an answer waits.
        linger_s: time for a client to read a rejection, while further input is discarded.
        shutdown_s: time for requests in flight when the server stops.
    """

    max_body_bytes: int = LARGEST_REQUEST_BYTES
    max_header_bytes: int = LARGEST_HEADERS_BYTES
    max_target_bytes: int = 8_192
    max_connections: int = 4_096
    max_incomplete: int = 1_024
    max_incomplete_loopback: int = 2_048
    max_streams: int = 64
    max_bodies_bytes: int = 256 * 1024 * 1024
    header_timeout_s: float = 20.0
    body_timeout_s: float = 60.0
    keep_alive_s: float = 75.0
    write_timeout_s: float = 30.0
    linger_s: float = 5.0
    shutdown_s: float = 30.0


class NotHTTPError(Exception):
    """The first bytes are TLS: the client would not understand a plain-text answer."""


class RequestReader:
    """Reads one connection's requests.

    Args:
        limits: limits of a request's size.
        client: the peer's address, for the requests.
        take: called with each request, and with the `Connection` line for its answer.
        receive: called with each head; returns the receiver of the body, or None to keep it in memory.
    """

    __slots__ = (
        "_begun",
        "_client",
        "_connection",
        "_fields",
        "_fresh",
        "_kept",
        "_limits",
        "_line",
        "_parser",
        "_path",
        "_pieces",
        "_query",
        "_raw",
        "_raw_before",
        "_receive",
        "_replaying",
        "_stray_bytes",
        "_take",
        "_target_before",
        "body_bytes",
        "continue_due",
        "length",
        "request",
        "target",
    )

    def __init__(
        self,
        limits: Limits,
        client: str,
        take: Callable[[Request, str], None],
        receive: Callable[[Request], BodySink | None] | None = None,
    ) -> None:
        self._limits = limits
        self._client = client
        self._take = take
        self._receive = receive
        self._parser = httptools.HttpRequestParser(self)
        self.target = b""  # not empty from the request line to its end
        self.request: Request | None = None  # from the end of the head to the end of the body
        self.continue_due = False  # the client waits for `100 Continue`
        self._raw: list[tuple[bytes, bytes]] = []
        self._raw_before: list[tuple[bytes, bytes]] = []
        self._fields = read_fields(())
        self._kept: dict[str, Any] = {}
        self._target_before = b""
        self._path = self._query = ""
        self._pieces: list[bytes | bytearray] = []
        self._begun = False
        self._line = b""  # the start of a request line that is checked before it is parsed
        self.body_bytes = 0  # bytes of the body read so far
        self.length = 0  # the body's Content-Length; 0 if it has none
        self._connection = KEEP
        self._replaying = False
        self._fresh = False
        self._stray_bytes = 0

    def feed(self, data: bytes) -> None:
        """Read further input; must not be called again after an exception.

        Raises:
            Refused: the request cannot be served.
            NotHTTPError: these are the first bytes of another protocol.
        """
        # A line with two adjacent spaces can be ruled out if the chunk has no such pair, neither inside nor across its
        # ends.
        if b"  " in data or self._line or data[-1:] == b" ":
            self._feed_lines(data)
        else:
            self._feed(data)
            if self.request is None and not self._raw and (self.target or data[-1] in _METHOD_BYTES):
                self._keep_line(data)
        self._begun = True
        if self.target:
            self._check_stray(len(data))

    def _feed(self, data: bytes | memoryview) -> None:
        rest: bytes | memoryview = data
        while True:
            try:
                if self._replaying:
                    self._replay()
                self._parser.feed_data(rest)
                break
            except httptools.HttpParserUpgrade as upgrade:
                rest = memoryview(rest)[upgrade.args[0] :]
            except httptools.HttpParserCallbackError as error:
                # httptools puts the callback's exception here.
                raise error.__context__ or error from None
            except httptools.HttpParserError:
                if data[:1] == b"\x16" and not self._begun:
                    raise NotHTTPError from None
                raise RefusedRequest(400) from None

    def _feed_lines(self, data: bytes) -> None:
        """Feed a chunk after checking the line of each request, because the parser accepts several spaces as one.

        A proxy in front may interpret them differently, and then the two would disagree on where a request ends.
        """
        view, at = memoryview(data), 0
        while at < len(data):
            # a chunked body may end across two chunks of input
            if self.request is None or (not self.length and at == 0):
                end = data.find(b"\n", at) + 1 or len(data)
            elif self.length:
                end = min(at + max(1, self.length - self.body_bytes), len(data))
            else:
                ending = data.find(b"\n\r\n", at - 1)  # an empty line ends it, also one that starts here
                end = len(data) if ending < 0 else ending + 3
            if self.request is None and (self._line or not self.target):
                self._check_line(data[at:end])
            self._feed(view[at:end])
            at = end

    def _check_line(self, piece: bytes) -> None:
        self._line += piece
        if b"  " in self._line:
            raise RefusedRequest(400)
        # The parser rejects a target that is too long.
        self._line = b"" if piece[-1:] == b"\n" else self._line[-self._limits.max_target_bytes :]

    def _keep_line(self, data: bytes) -> None:
        """Keep the start of a request line that ends in a later chunk.

        A field's name contains no space, so anything with a space before a colon is a request line. Without a target it
        contains at most a method; a body with the same ending does no harm.
        """
        tail = data[data.rfind(b"\n") + 1 :]
        if _LINE_START.match(tail) if self.target else _METHOD_START.fullmatch(tail):
            self._line = tail

    @property
    def is_current(self) -> bool:
        """Whether the last head that was read is HTTP/1.1."""
        return self._parser.get_http_version() == "1.1"

    def describe(self) -> Request:
        """The known parts of the request being read, `-` for the others."""
        if self.request is not None:
            return self.request
        if not self.target:
            return Request("-", "-", "", (), b"", self._client)
        return Request(
            self._parser.get_method().decode("ascii"), self.target.decode("latin-1"), "", (), b"", self._client
        )

    @property
    def sink(self) -> BodySink | None:
        """The sink of the body that is being read, or None."""
        return None if self.request is None else self.request.sink

    @property
    def held_bytes(self) -> int:
        """The number of bytes in memory of the body that is being read."""
        return self.body_bytes if self.sink is None else 0

    def drop_body(self) -> None:
        """Release what was read of an unwanted body. Nothing may be fed afterwards."""
        if self.sink is not None:
            self.sink.abandon()
        self._pieces = []
        self.body_bytes = 0

    def close(self) -> None:
        """Release the parser, which refers to our callbacks and so to this object."""
        self.target = b""
        self.drop_body()
        self.request = None
        del self._parser, self._take, self._receive

    # The callbacks of the parser.

    def on_url(self, piece: bytes) -> None:  # noqa: D102
        self._fresh = True
        self.target += piece
        if len(self.target) > self._limits.max_target_bytes:
            raise RefusedRequest(414)

    def on_header(self, name: bytes, value: bytes) -> None:  # noqa: D102
        # Trailers arrive here, too, after the head: they are ignored.
        self._raw.append((name, value))

    def on_headers_complete(self) -> None:  # noqa: D102
        parser = self._parser
        if self._raw != self._raw_before:
            # A client on a kept-alive connection usually sends the same head again.
            self._fields = read_fields(self._raw)
            self._raw_before = self._raw
            self._kept = {}
        fields, size, length, seen = self._fields
        if size > self._limits.max_header_bytes:
            raise RefusedRequest(431)
        method = _METHODS.get(parser.get_method()) or parser.get_method().decode("ascii")
        if self.target != self._target_before:
            self._path, self._query = split_target(method, self.target)
            # A target that is not a path means different things for different methods.
            self._target_before = self.target if self.target[:1] == b"/" else b""
        self._connection = KEEP
        # Only HTTP/1.1 keeps a connection alive without a Connection field, so the version need not be checked.
        if seen not in _PLAIN or not parser.should_keep_alive():
            version = parser.get_http_version()
            self.continue_due = check_fields(fields, seen, version, length)
            if seen & UPGRADE and parser.should_upgrade():
                self._replaying = True
                return
            if not parser.should_keep_alive():
                self._connection = CLOSE
            elif version == "1.0":
                self._connection = KEEP_1_0
        request = Request(method, self._path, self._query, fields, b"", self._client, self._kept)
        if self._receive is not None:
            request.sink = self._receive(request)
        if length > self._limits.max_body_bytes and request.sink is None:
            raise RefusedRequest(413)
        self.length = length
        # Trailers get their own list; otherwise the head that is kept for comparison would grow by them.
        self._raw = []
        self.request = request

    def on_body(self, piece: bytes) -> None:  # noqa: D102
        self._fresh = True
        self.continue_due = False
        self.body_bytes += len(piece)
        sink = self.sink
        if sink is not None:
            sink.write(piece)
            return
        if self.body_bytes > self._limits.max_body_bytes:
            raise RefusedRequest(413)
        pieces = self._pieces
        if not pieces or len(piece) >= _SMALL_PIECE_BYTES:
            pieces.append(piece)
        elif isinstance(pieces[-1], bytearray):
            # Otherwise a million chunks of two bytes would take fifty bytes each.
            pieces[-1] += piece
        else:
            pieces.append(bytearray(piece))

    def on_message_complete(self) -> None:  # noqa: D102
        if self._replaying:
            return
        request = self.request
        assert request is not None
        if self._pieces:
            request.body = b"".join(self._pieces)
            self._pieces = []
        self.body_bytes = 0
        self.request = None
        self.target = b""
        self.continue_due = False
        if self._raw:
            self._raw = []
        self._take(request, self._connection)

    def _replay(self) -> None:
        """Read a head again without its upgrade request: the parser would treat the body as the other protocol."""
        parser = self._parser
        head = render_head_without_upgrade(parser.get_method(), self.target, parser.get_http_version(), self._raw)
        self._replaying = False
        self.continue_due = False
        self.target = b""
        self._raw = []
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(head)

    def _check_stray(self, count: int) -> None:
        """Limit what the parser collects itself: bytes that are neither target nor body."""
        if self._fresh:
            self._fresh = False
            self._stray_bytes = 0
            return
        self._stray_bytes += count
        if self._stray_bytes > self._limits.max_header_bytes + 64:
            raise RefusedRequest(431)

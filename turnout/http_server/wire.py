"""HTTP/1.1 as text and values, without sockets: reads a request's head and renders an answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from types import MappingProxyType

from turnout.http_server.messages import Request, Response
from turnout.protocol.aws.limits import LARGEST_REQUEST_BYTES

TOO_LARGE_STATUS = 413
TOO_LARGE_HEADERS = (("Content-Type", "text; charset=utf-8"),)
TOO_LARGE_BODY = f"HTTP content length exceeded {LARGEST_REQUEST_BYTES} bytes.".encode()
"""The response to a body over 10 MB, before any API sees the request: no ids, no JSON, nothing to customize."""

# The header fields that control the connection; or-ed together they are the ones that a request has. Plain ints,
# because an IntFlag's operators cost more than the rest of a request.
HOST = 1
LENGTH = 2
ENCODING = 4
EXPECT = 8
CONNECTION = 16
UPGRADE = 32
SECOND_HOST = 64


class RefusedRequest(Exception):  # noqa: N818 - an answer to a request, not a failure of ours
    """The request cannot be served.

    `status` is the reason, and the connection ends with that answer, or with `response`.
    """

    def __init__(self, status: int, response: Response | None = None) -> None:
        self.status = status
        self.response = response
        super().__init__(status)


KEEP = ""
"""HTTP/1.1 keeps a connection by default."""
KEEP_1_0 = "Connection: keep-alive\r\n"
"""HTTP/1.0 keeps a connection if the client asked for it and the server agrees."""
CLOSE = "Connection: close\r\n"
"""The server closes after this answer."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_DECIDING = {
    "host": HOST,
    "content-length": LENGTH,
    "transfer-encoding": ENCODING,
    "expect": EXPECT,
    "connection": CONNECTION,
    # The parser treats it like `Connection`.
    "proxy-connection": CONNECTION,
    "upgrade": UPGRADE,
}

# Message framing is the server's responsibility: these fields are dropped from a handler's response.
_OWN_FIELDS = frozenset(
    {"connection", "content-length", "date", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_ABSOLUTE = re.compile(r"https?://[^/?#]+", re.IGNORECASE)

_WITHOUT_BODY = frozenset({204, 304})
_RETRIED = frozenset({429, 503})
"""Statuses whose remedy is to try again later: the answer contains the time."""


REFUSALS: Mapping[int, Response] = MappingProxyType(
    {
        413: Response(TOO_LARGE_STATUS, TOO_LARGE_HEADERS, TOO_LARGE_BODY),
        500: Response(500, (("Content-Type", "application/json"),), b'{"message": "Internal server error"}'),
    }
)
"""The server's own error responses, in API Gateway's words; other statuses have their reason phrase."""


def make_refusal(status: int, refusals: Mapping[int, Response] = REFUSALS) -> Response:
    """Return the server's own error response with `status`."""
    known = refusals.get(status)
    if known is not None:
        return known
    retry = (("Retry-After", "1"),) if status in _RETRIED else ()
    return Response(
        status,
        (("Content-Type", "application/json"), *retry),
        f'{{"message":"{HTTPStatus(status).phrase}"}}'.encode("ascii"),
    )


@lru_cache(maxsize=1024)
def _read_name(name: bytes) -> tuple[str, int, int]:
    text = name.decode("latin-1")
    return text, len(name) + 4, _DECIDING.get(text.lower(), 0)


def read_fields(raw: Sequence[tuple[bytes, bytes]]) -> tuple[tuple[tuple[str, str], ...], int, int, int]:
    """Read a head's fields, as the parser split them.

    Returns:
        The fields as text in order and case; their size in bytes when sent, including line endings; the content length,
        0 if there is none; and the flags of the fields that the server must check.
    """
    fields = []
    size = length = seen = 0
    for name, value in raw:
        text, name_bytes, kind = _read_name(name)
        size += name_bytes + len(value)
        # The parser keeps trailing white space of a value.
        fields.append((text, value.decode("latin-1").rstrip(" \t")))
        if kind:
            if kind == HOST and seen & HOST:
                kind = SECOND_HOST
            elif kind == LENGTH:
                # The parser has rejected everything but a single field of digits.
                length = int(value)
            seen |= kind
    return tuple(fields), size, length, seen


def read_token_lists(fields: Sequence[tuple[str, str]], name: str) -> list[str]:
    """Return the values of every field called `name` (lower case) as one list, in lower case."""
    values = (value for key, value in fields if key.lower() == name)
    return [item.strip().lower() for value in values for item in value.split(",")]


def check_fields(fields: Sequence[tuple[str, str]], seen: int, version: str, length: int) -> bool:
    """Reject what HTTP/1.x forbids and the parser accepts; return whether the client waits for `100 Continue`.

    Args:
        fields: as read by `read_fields`.
        seen: flags read by `read_fields`.
        version: of the protocol, `1.1`.
        length: content length read by `read_fields`.

    Raises:
        Refused: 400, 417, 501 or 505.
    """
    if version not in {"1.1", "1.0"}:
        raise RefusedRequest(505)
    if seen & SECOND_HOST or (version == "1.1" and not seen & HOST):
        raise RefusedRequest(400)
    if seen & ENCODING:
        if version == "1.0":
            raise RefusedRequest(400)
        # The parser accepts `gzip, chunked` as chunked; this server does not decode gzip, so it rejects it.
        if read_token_lists(fields, "transfer-encoding") != ["chunked"]:
            raise RefusedRequest(501)
    if seen & EXPECT and version == "1.1":
        if read_token_lists(fields, "expect") != ["100-continue"]:
            raise RefusedRequest(417)
        return bool(length or seen & ENCODING)
    return False


def split_target(method: str, target: bytes) -> tuple[str, str]:
    """Split a request's target into its path and its query, both as sent.

    Raises:
        Refused: 400 for a target that is neither a path nor an HTTP URL, 501 for CONNECT.
    """
    text = target.decode("latin-1")
    if "#" in text:
        text = text[: text.index("#")]
    if text[:1] != "/":
        if method == "CONNECT":
            raise RefusedRequest(501)
        if text == "*" and method == "OPTIONS":
            return "*", ""
        authority = _ABSOLUTE.match(text)
        if authority is None:
            raise RefusedRequest(400)
        text = text[authority.end() :]
        if text[:1] != "/":
            text = "/" + text
    path, _, query = text.partition("?")
    return path, query


def render_head_without_upgrade(
    method: bytes, target: bytes, version: str, raw: Sequence[tuple[bytes, bytes]]
) -> bytes:
    """Return a request's head without its request for another protocol."""
    lines = [b"%b %b HTTP/%b" % (method, target, version.encode("ascii"))]
    lines += [b"%b: %b" % field for field in raw if field[0].lower() != b"upgrade"]
    return b"\r\n".join(lines) + b"\r\n\r\n"


@lru_cache(maxsize=256)
def _render_status(status: int) -> str:
    # A 1xx status would not end the exchange, and the client would wait for more.
    if not isinstance(status, int) or not 200 <= status <= 599:
        raise ValueError(f"a response's status must be 200-599, got {status!r}")
    phrase = HTTPStatus(status).phrase if status in HTTPStatus.__members__.values() else ""
    return f"HTTP/1.1 {int(status)} {phrase}"


@lru_cache(maxsize=1024)
def _render_name(name: str) -> str:
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} cannot be a header's name")
    return "" if name.lower() in _OWN_FIELDS else f"{name}: "


def render(request: Request, response: Response, date: str, connection: str) -> tuple[bytes, bytes]:
    """Render an answer: its head and its body.

    Args:
        request: the answered request; HEAD gets no body.
        response: the handler's response.
        date: the finished `Date` line.
        connection: `KEEP`, `KEEP_1_0` or `CLOSE`.

    Raises:
        ValueError: a status, name or value that must not be sent, such as one with a line break.
        TypeError: a name, value or body of a wrong type.
    """
    text = _render_fields(response)
    body = response.body
    if not isinstance(body, bytes):
        raise TypeError(f"a response's body must be bytes, got {type(body).__name__}")
    if response.status in _WITHOUT_BODY:
        return f"{text}\r\n{date}{connection}\r\n".encode("latin-1"), b""
    length = len(body) if response.file is None else response.file.length
    head = f"{text}\r\n{date}Content-Length: {length}\r\n{connection}\r\n".encode("latin-1")
    return head, b"" if request.method == "HEAD" else body


def render_stream_head(response: Response, date: str, *, is_chunked: bool) -> bytes:
    """Return the head of a chunked answer, the last one of its connection.

    Args:
        response: the handler's response.
        date: the finished `Date` line.
        is_chunked: whether chunks are framed; HTTP/1.0 has no chunked encoding, and its body ends with the connection.

    Raises:
        ValueError: as `render`.
        TypeError: as `render`.
    """
    framing = "Transfer-Encoding: chunked\r\n" if is_chunked else ""
    return f"{_render_fields(response)}\r\n{date}{framing}{CLOSE}\r\n".encode("latin-1")


LAST_CHUNK = b"0\r\n\r\n"


def frame_chunk(data: bytes) -> bytes:
    """Return a chunk with its length. Source: RFC 9112, section 7.1."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def _render_fields(response: Response) -> str:
    """Return the status line and the handler's fields, without the final line break."""
    lines = [_render_status(response.status)]
    for name, value in response.headers:
        prefix = _render_name(name)
        if prefix:
            lines.append(prefix + value)
    text = "\r\n".join(lines)
    breaks = len(lines) - 1
    # Names are tokens, so any further line break and any NUL are part of a value.
    if text.count("\n") != breaks or text.count("\r") != breaks or "\0" in text:
        raise ValueError("a header's value holds a line break or NUL")
    return text

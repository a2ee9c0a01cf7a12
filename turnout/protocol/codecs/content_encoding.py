"""Decompresses a body, gzip or deflate, in one pass and within limits; reads whether a client accepts gzip.

The cost is linear in the input's and the output's size, whatever the body's content, because anyone may send one. Both
sizes and the number of gzip members are limited, and the bytes after a member's end are never copied as a whole. It
works without numpy, so a router starts quickly.
"""

from __future__ import annotations

import zlib

from turnout.protocol.aws.limits import LARGEST_REQUEST_BYTES
from turnout.protocol.errors import RequestError

MOST_MEMBERS = 1_000
"""The most members of a gzip body. `bgzip`, which writes more members than all other common tools, makes 160 from 10
MB. An empty member has 20 bytes and needs its own decompressor, so 10 MB of them would take a second.
"""

FIRST_PIECE_BYTES = 256
LARGEST_PIECE_BYTES = 65_536
"""A member is decompressed in pieces, each twice as long as the last. The rest that zlib returns after a member's end
is part of one piece, so it is never longer than the first piece or the member itself.
"""


def inflate(encoding: str, body: bytes, limit: int = LARGEST_REQUEST_BYTES) -> bytes:
    """Decompress `Content-Encoding: gzip` or `deflate`.

    Args:
        encoding: the header's value.
        body: as sent.
        limit: maximum size in bytes, both compressed and decompressed.

    Raises:
        RequestError: UNSUPPORTED_ENCODING for other encodings or several at once, PAYLOAD_TOO_LARGE if a limit is
            exceeded, INVALID_REQUEST if the bytes do not match the header.
    """
    names = [name for part in encoding.split(",") if (name := part.strip().lower()) not in {"", "identity"}]
    if not names:
        return body
    if len(names) > 1 or names[0] not in {"gzip", "x-gzip", "deflate"}:
        message = f"content encoding: expected one of gzip, deflate and identity, got {encoding[:40]}"
        raise RequestError("UNSUPPORTED_ENCODING", message, expected="gzip, deflate, identity", got=encoding[:40])
    if len(body) > limit:
        raise _too_large("the body", limit, "bytes")
    # `deflate` is the zlib format; some clients send the raw stream, whose first byte never starts a zlib stream.
    is_bare = not body or body[0] & 0x0F != 8
    is_gzip = names[0] != "deflate"
    window = zlib.MAX_WBITS | 16 if is_gzip else -zlib.MAX_WBITS if is_bare else zlib.MAX_WBITS
    texts: list[bytes] = []
    left, rest = limit, memoryview(body)
    for _ in range(MOST_MEMBERS if is_gzip else 1):
        try:
            end, size = _inflate_stream(window, rest, texts, left)
        except zlib.error:
            end, size = 0, 0
        if size > left:
            raise _too_large("the inflated body", limit, "bytes")
        if not end:
            break
        rest = rest[end:]
        left -= size
        if not rest:
            return b"".join(texts)
    else:
        if is_gzip:
            raise _too_large("the gzip body", MOST_MEMBERS, "members")
    message = f"the body: expected {names[0]} as its content encoding says, got other or incomplete data"
    raise RequestError("INVALID_REQUEST", message, expected=names[0], got="other bytes")


def _inflate_stream(window: int, data: memoryview, texts: list[bytes], limit: int) -> tuple[int, int]:
    """Decompress one stream at the start of `data`, and add its content to `texts`.

    Returns:
        The position of the stream's end, or 0 if it does not end, and the number of its bytes, or `limit + 1` if there
        are more.

    Raises:
        zlib.error: it is not such a stream.
    """
    stream = zlib.decompressobj(window)
    start = size = 0
    piece_bytes = FIRST_PIECE_BYTES
    while start < len(data) and size <= limit:
        end = min(start + piece_bytes, len(data))
        text = stream.decompress(data[start:end], limit + 1 - size)
        if text:
            texts.append(text)
            size += len(text)
        if stream.eof:
            return end - len(stream.unused_data), size
        start = end
        piece_bytes = min(2 * piece_bytes, LARGEST_PIECE_BYTES)
    return 0, size


def _too_large(what: str, limit: int, unit: str) -> RequestError:
    message = f"{what}: expected at most {limit:,} {unit}, got more"
    return RequestError("PAYLOAD_TOO_LARGE", message, expected=limit, got=f"more than {limit}")


def accepts_gzip(accepted: str) -> bool:
    """Whether an `Accept-Encoding` header names gzip. Source: RFC 9110, section 12.5.3."""
    for coding in accepted.lower().split(","):
        token, _, weight = coding.replace(" ", "").partition(";q=")
        if token in {"gzip", "x-gzip", "*"}:
            return weight.strip("0.") != "" or not weight
    return False

"""Undoes a body's content encoding, gzip or deflate, in one pass and within bounds.

The cost is linear in what comes in and what goes out, whatever the body is made of, because anybody may send one. Both
sizes and the number of gzip members have limits, and the bytes behind a member's end are never copied as a whole.
Runs without numpy, so that a router starts quickly.
"""

from __future__ import annotations

import zlib

from turnout.protocol.aws.limits import LARGEST_REQUEST_BYTES
from turnout.protocol.errors import RequestError

MOST_MEMBERS = 1_000
"""In one gzip body. `bgzip`, which writes the most of all common tools, makes 160 of 10 MB. An empty member takes 20
bytes and needs a decompressor of its own, so 10 MB of them would take a second."""

FIRST_PIECE_BYTES = 256
LARGEST_PIECE_BYTES = 65_536
"""A member is fed in pieces, each twice as long as the last. What zlib hands back behind a member's end is part of one
piece, so it is never longer than the first piece or the member itself."""


def inflate(encoding: str, body: bytes, limit: int = LARGEST_REQUEST_BYTES) -> bytes:
    """Undo `Content-Encoding: gzip` or `deflate`.

    Args:
        encoding: the header's value.
        body: as it was sent.
        limit: bytes of the body, before and after.

    Raises:
        RequestError: UNSUPPORTED_ENCODING for other encodings and for several at once, PAYLOAD_TOO_LARGE past the limit
            or for too many members, INVALID_REQUEST where the bytes are not what the header says.
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
    message = f"the body: expected {names[0]} as its content encoding says, got bytes that are not, or not all of it"
    raise RequestError("INVALID_REQUEST", message, expected=names[0], got="other bytes")


def _inflate_stream(window: int, data: memoryview, texts: list[bytes], limit: int) -> tuple[int, int]:
    """Inflate one stream at the start of `data`, and add what it holds to `texts`.

    Returns:
        Where the stream ends, 0 where it does not, and how many bytes it holds, `limit + 1` for all that are more.

    Raises:
        zlib.error: it is no such stream.
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

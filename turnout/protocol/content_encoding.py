"""A body's content encoding, undone: gzip and deflate, to a limit.

Comes in: the header's value and the body as it was sent. Goes out: the body as it was meant. Called by `bodies`, and by
`sticky`, which reads bodies without numpy.
"""

from __future__ import annotations

import zlib

from turnout.protocol.errors import RequestError
from turnout.protocol.limits import LARGEST_REQUEST_BYTES


def inflate(encoding: str, body: bytes, limit: int = LARGEST_REQUEST_BYTES) -> bytes:
    """Undo `Content-Encoding: gzip` or `deflate`, to `limit` bytes at most.

    Raises:
        RequestError: UNSUPPORTED_ENCODING for others and for several at once, PAYLOAD_TOO_LARGE past the limit,
            INVALID_REQUEST where the bytes are not what the header says.
    """
    name = encoding.strip().lower()
    if name in {"", "identity"}:
        return body
    if name not in {"gzip", "x-gzip", "deflate"}:
        message = f"content encoding: expected gzip, deflate or identity, got {encoding[:40]}"
        raise RequestError("UNSUPPORTED_ENCODING", message, expected="gzip, deflate, identity", got=encoding[:40])
    # `deflate` is zlib's format; some clients send the bare stream, whose first byte is never zlib's.
    bare = name == "deflate" and (not body or body[0] & 0x0F != 8)
    window = -zlib.MAX_WBITS if bare else zlib.MAX_WBITS if name == "deflate" else zlib.MAX_WBITS | 16
    text = b""
    while True:
        stream = zlib.decompressobj(window)
        try:
            text += stream.decompress(body, limit + 1 - len(text))
        except zlib.error:
            raise _not_inflatable(name) from None
        if len(text) > limit:
            message = f"the inflated body: expected at most {limit} bytes, got more"
            raise RequestError("PAYLOAD_TOO_LARGE", message, expected=limit, got=f"more than {limit}")
        if not stream.eof:
            raise _not_inflatable(name)
        body = stream.unused_data
        if not body:
            return text
        if name == "deflate":
            raise _not_inflatable(name)


def _not_inflatable(name: str) -> RequestError:
    message = f"the body: expected {name} as its content encoding says, got bytes that are not, or not all of it"
    return RequestError("INVALID_REQUEST", message, expected=name, got="other bytes")

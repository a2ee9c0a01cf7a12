from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.protocol.content_encoding import inflate
from turnout.protocol.errors import RequestError
from turnout.protocol.limits import LARGEST_REQUEST_BYTES


def bare_deflate(body: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(body) + stream.flush()


@given(st.binary(max_size=500))
def test_every_content_encoding_is_undone(body: bytes) -> None:
    assert inflate("gzip", gzip.compress(body, mtime=0)) == body
    assert inflate("X-GZip", gzip.compress(body, mtime=0) + gzip.compress(body, mtime=0)) == body + body
    assert inflate("deflate", zlib.compress(body)) == body
    assert inflate("identity", body) == body
    bare = bare_deflate(body)
    if bare[0] & 0x0F != 8:
        assert inflate("deflate", bare) == body


@pytest.mark.parametrize(
    ("encoding", "body", "code"),
    [
        ("br", b"x", "UNSUPPORTED_ENCODING"),
        ("gzip, gzip", b"x", "UNSUPPORTED_ENCODING"),
        ("gzip", b"x", "INVALID_REQUEST"),
        ("gzip", b"", "INVALID_REQUEST"),
        ("gzip", gzip.compress(b"abc", mtime=0)[:-2], "INVALID_REQUEST"),
        ("gzip", gzip.compress(b"abc", mtime=0) + b"trailing", "INVALID_REQUEST"),
        ("deflate", zlib.compress(b"abc") + b"trailing", "INVALID_REQUEST"),
        ("deflate", b"", "INVALID_REQUEST"),
        ("gzip", gzip.compress(b"0" * (LARGEST_REQUEST_BYTES + 1)), "PAYLOAD_TOO_LARGE"),
        (
            "gzip",
            gzip.compress(b"0" * LARGEST_REQUEST_BYTES, mtime=0) + gzip.compress(b"0", mtime=0),
            "PAYLOAD_TOO_LARGE",
        ),
        ("deflate", zlib.compress(b"0" * (LARGEST_REQUEST_BYTES * 5)), "PAYLOAD_TOO_LARGE"),
    ],
)
def test_what_cannot_be_inflated_is_refused(encoding: str, body: bytes, code: str) -> None:
    with pytest.raises(RequestError) as caught:
        inflate(encoding, body)
    assert caught.value.code == code


def test_a_body_as_large_as_allowed_is_inflated() -> None:
    assert len(inflate("gzip", gzip.compress(b"0" * LARGEST_REQUEST_BYTES, mtime=0))) == LARGEST_REQUEST_BYTES

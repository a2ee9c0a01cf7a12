from __future__ import annotations

import gzip
import zlib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.protocol.aws.limits import LARGEST_REQUEST_BYTES
from turnout.protocol.codecs.content_encoding import FIRST_PIECE_BYTES, MOST_MEMBERS, inflate
from turnout.protocol.errors import RequestError


def bare_deflate(body: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(body) + stream.flush()


@given(st.binary(max_size=500))
def test_every_content_encoding_is_decoded(body: bytes) -> None:
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
def test_invalid_compressed_data_is_rejected(encoding: str, body: bytes, code: str) -> None:
    with pytest.raises(RequestError) as caught:
        inflate(encoding, body)
    assert caught.value.code == code


def test_a_body_at_the_limit_is_decompressed() -> None:
    assert len(inflate("gzip", gzip.compress(b"0" * LARGEST_REQUEST_BYTES, mtime=0))) == LARGEST_REQUEST_BYTES


EMPTY = gzip.compress(b"", mtime=0)


@given(st.lists(st.integers(0, 20 * FIRST_PIECE_BYTES), min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_members_of_any_sizes_are_joined(sizes: list[int], random: Random) -> None:
    parts = [random.randbytes(size) for size in sizes]
    assert inflate("gzip", b"".join(gzip.compress(part, mtime=0) for part in parts)) == b"".join(parts)


def test_the_number_of_members_is_limited() -> None:
    assert inflate("gzip", EMPTY * MOST_MEMBERS) == b""
    for count in (MOST_MEMBERS + 1, LARGEST_REQUEST_BYTES // len(EMPTY)):
        with pytest.raises(RequestError) as caught:
            inflate("gzip", EMPTY * count)
        assert (caught.value.code, caught.value.details["expected"]) == ("PAYLOAD_TOO_LARGE", MOST_MEMBERS)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_the_number_of_empty_blocks_is_limited(encoding: str) -> None:
    """Five bytes each, which decompress to nothing."""
    start = EMPTY[:10] if encoding == "gzip" else zlib.compress(b"")[:2]
    with pytest.raises(RequestError) as caught:
        inflate(encoding, start + b"\0\0\0\xff\xff" * 500_000)
    assert caught.value.code == "INVALID_REQUEST"


def test_a_body_that_is_too_large_as_sent_is_rejected_unread() -> None:
    with pytest.raises(RequestError) as caught:
        inflate("gzip", bytes(LARGEST_REQUEST_BYTES + 1))
    assert caught.value.code == "PAYLOAD_TOO_LARGE"


@pytest.mark.parametrize("encoding", ["gzip, gzip", "gzip,deflate", "deflate, gzip, gzip", "GZIP , x-gzip"])
def test_nested_encodings_are_rejected_by_name(encoding: str) -> None:
    with pytest.raises(RequestError) as caught:
        inflate(encoding, gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0))
    assert caught.value.code == "UNSUPPORTED_ENCODING"
    assert encoding in caught.value.message


@pytest.mark.parametrize("encoding", ["identity, gzip", "gzip, identity", " gzip ,"])
def test_identity_adds_nothing(encoding: str) -> None:
    assert inflate(encoding, gzip.compress(b"{}", mtime=0)) == b"{}"

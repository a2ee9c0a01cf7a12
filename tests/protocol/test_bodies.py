from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.protocol.bodies import MAX_BODY_BYTES, inflate, read_body
from turnout.protocol.errors import RequestError


def bare_deflate(body: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(body) + stream.flush()


JSON_TYPES = [
    "application/json",
    "Application/JSON; charset=UTF-8",
    'application/json;charset="utf-8"',
    "text/json",
    "application/vnd.api+json",
    "application/x-json",
    " application/json ",
    "application/json; profile=a",
    "application/x-www-form-urlencoded",
]


@pytest.mark.parametrize("content_type", JSON_TYPES)
def test_json_media_types_are_json(content_type: str) -> None:
    assert read_body({"content-type": content_type}, b"{}") == (b"{}", None)


def test_a_missing_media_type_is_json() -> None:
    assert read_body({}, b"{}") == (b"{}", None)


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "multipart/form-data", "image/png", "application/json; charset=utf-16", "json",
     "multipart/form-data; boundary=x", "application/json, application/json"],
)  # fmt: skip
@pytest.mark.parametrize("binary", [False, True])
def test_other_media_types_are_415(content_type: str, binary: bool) -> None:
    length = {"inference-header-content-length": "2"} if binary else {}
    with pytest.raises(RequestError) as caught:
        read_body({"content-type": content_type, **length}, b"{}")
    assert (caught.value.code, caught.value.status) == ("UNSUPPORTED_MEDIA_TYPE", 415)


@pytest.mark.parametrize("content_type", [*JSON_TYPES, "application/octet-stream", None])
def test_the_length_header_parts_json_and_tensors(content_type: str | None) -> None:
    headers = {"inference-header-content-length": "2"}
    if content_type is not None:
        headers["content-type"] = content_type
    text, part = read_body(headers, b"{}rest")
    assert text == b"{}"
    assert part is not None


@pytest.mark.parametrize(
    "length", ["", "0", "-1", "+2", "2.0", " 2", "0x2", "1_0", "²", "٢", "99999999999999999999999", "7", "a"]
)
def test_a_length_that_lies_is_refused(length: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_body({"inference-header-content-length": length}, b"{}rest")
    assert caught.value.code == "INVALID_BINARY"


def test_octet_stream_without_the_length_is_refused() -> None:
    with pytest.raises(RequestError) as caught:
        read_body({"content-type": "application/octet-stream"}, b"{}")
    assert caught.value.code == "INVALID_BINARY"


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
        ("gzip", gzip.compress(b"0" * (MAX_BODY_BYTES + 1)), "PAYLOAD_TOO_LARGE"),
        ("gzip", gzip.compress(b"0" * MAX_BODY_BYTES, mtime=0) + gzip.compress(b"0", mtime=0), "PAYLOAD_TOO_LARGE"),
        ("deflate", zlib.compress(b"0" * (MAX_BODY_BYTES * 5)), "PAYLOAD_TOO_LARGE"),
    ],
)
def test_what_cannot_be_inflated_is_refused(encoding: str, body: bytes, code: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_body({"content-encoding": encoding}, body)
    assert caught.value.code == code


def test_a_body_as_large_as_allowed_is_inflated() -> None:
    assert len(inflate("gzip", gzip.compress(b"0" * MAX_BODY_BYTES, mtime=0))) == MAX_BODY_BYTES

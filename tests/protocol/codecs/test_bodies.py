from __future__ import annotations

import pytest

from turnout.protocol.codecs.bodies import read_body
from turnout.protocol.errors import RequestError

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
def test_other_media_types_get_415(content_type: str, binary: bool) -> None:
    length = {"inference-header-content-length": "2"} if binary else {}
    with pytest.raises(RequestError) as caught:
        read_body({"content-type": content_type, **length}, b"{}")
    assert (caught.value.code, caught.value.status) == ("UNSUPPORTED_MEDIA_TYPE", 415)


@pytest.mark.parametrize("content_type", [*JSON_TYPES, "application/octet-stream", None])
def test_the_length_header_separates_json_and_tensors(content_type: str | None) -> None:
    headers = {"inference-header-content-length": "2"}
    if content_type is not None:
        headers["content-type"] = content_type
    text, part = read_body(headers, b"{}rest")
    assert text == b"{}"
    assert part is not None


@pytest.mark.parametrize(
    "length", ["", "0", "-1", "+2", "2.0", " 2", "0x2", "1_0", "²", "٢", "99999999999999999999999", "7", "a"]
)
def test_a_wrong_length_is_rejected(length: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_body({"inference-header-content-length": length}, b"{}rest")
    assert caught.value.code == "INVALID_BINARY"


def test_octet_stream_without_the_length_is_rejected() -> None:
    with pytest.raises(RequestError) as caught:
        read_body({"content-type": "application/octet-stream"}, b"{}")
    assert caught.value.code == "INVALID_BINARY"

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.gateway.api.proxy_response import MalformedAnswerError, read_answer
from turnout.gateway.rules.media_types import BinaryMediaTypes

JSON = ("Content-Type", "application/json")


@pytest.mark.parametrize(
    ("status", "expected"), [(None, 200), (200, 200), (418, 418), ("201", 201), (599, 599), ("0404", 404)]
)
def test_status_is_read(status: object, expected: int) -> None:
    assert read_answer({"statusCode": status}, decodes_base64=False)[0] == expected


def test_object_without_known_keys_is_an_empty_200() -> None:
    assert read_answer({}, decodes_base64=True) == (200, (JSON,), b"")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "must be an object, got NoneType"),
        ([], "must be an object, got list"),
        ("text", "must be an object, got str"),
        ({"errorMessage": "x"}, "unknown key 'errorMessage'"),
        ({"cookies": []}, "unknown key 'cookies'"),
        ({"statusCode": True}, "statusCode"),
        ({"statusCode": 200.0}, "statusCode"),
        ({"statusCode": 99}, "statusCode"),
        ({"statusCode": 101}, "statusCode"),
        ({"statusCode": 600}, "statusCode"),
        ({"statusCode": " 200"}, "statusCode"),
        ({"statusCode": "²00"}, "statusCode"),
        ({"statusCode": "9" * 5000}, "statusCode"),
        ({"body": {"a": 1}}, "body must be text, got dict"),
        ({"body": 5}, "body must be text, got int"),
        ({"isBase64Encoded": "true"}, "isBase64Encoded"),
        ({"headers": []}, "headers must be an object"),
        ({"headers": {"a": 5}}, "header 'a' must be text, got int"),
        ({"headers": {"a": None}}, "header 'a' must be text, got NoneType"),
        ({"headers": {"a b": "x"}}, "'a b' is not a header name"),
        ({"headers": {"": "x"}}, "'' is not a header name"),
        ({"headers": {"a": "x\r\nSet-Cookie: y"}}, "headers must not contain"),
        ({"headers": {"a": "\N{EURO SIGN}"}}, "headers must not contain"),
        ({"multiValueHeaders": ["a"]}, "must be an object"),
        ({"multiValueHeaders": {"a": "x"}}, "multiValueHeaders.a must be a list"),
        ({"multiValueHeaders": {"a": ["x", 1]}}, "header 'a' must be text"),
        ({"body": "x" * 6_291_556}, "larger than 6291556"),
        ({"body": "\x00" * 1_100_000}, "larger than 6291556"),
    ],
)
def test_malformed_answer_is_rejected(answer: Any, says: str) -> None:
    with pytest.raises(MalformedAnswerError, match=says):
        read_answer(answer, decodes_base64=True)


@pytest.mark.parametrize(
    ("headers", "multiple", "expected"),
    [
        (None, None, [JSON]),
        ({}, {}, [JSON]),
        ({"content-type": "text/plain"}, None, [("content-type", "text/plain")]),
        (None, {"Content-Type": ["text/plain"]}, [("Content-Type", "text/plain")]),
        ({"A": "1", "B": False}, None, [JSON, ("A", "1"), ("B", "false")]),
        (None, {"Set-Cookie": ["a=1", "b=2"]}, [JSON, ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]),
        ({"x": "1"}, {"X": ["1", "2"]}, [JSON, ("X", "1"), ("X", "2")]),  # the same value in both is returned once
        ({"x": "3"}, {"X": []}, [JSON, ("x", "3")]),
        (
            {
                "Connection": "close",
                "Content-Length": "5",
                "Transfer-Encoding": "chunked",
                "Date": "d",
                "Server": "s",
            },
            None,
            [
                JSON,
                ("x-amzn-Remapped-Connection", "close"),
                ("x-amzn-Remapped-Content-Length", "5"),
                ("x-amzn-Remapped-Date", "d"),
                ("x-amzn-Remapped-Server", "s"),
            ],
        ),
        ({"tab": "a\tb", "latin": "é"}, None, [JSON, ("tab", "a\tb"), ("latin", "é")]),
    ],
)
def test_headers_are_merged(headers: Any, multiple: Any, expected: list[tuple[str, str]]) -> None:
    answer = {"headers": headers, "multiValueHeaders": multiple}

    for _ in range(2):  # from the cache the second time
        assert read_answer(answer, decodes_base64=False)[1] == tuple(expected)


def test_cached_fields_do_not_validate_other_values() -> None:
    assert read_answer({"headers": {"a": True}}, decodes_base64=False)[1] == (JSON, ("a", "true"))
    assert read_answer({"headers": {"b": "1"}}, decodes_base64=False)[1] == (JSON, ("b", "1"))
    for headers in ({"a": 1}, {"a": 1.0}, {"b": 1}, {"b": b"1"}, {"b": ["1"]}):
        with pytest.raises(MalformedAnswerError):
            read_answer({"headers": headers}, decodes_base64=False)
    long = {"c": "x" * 5_000}
    for _ in range(2):
        assert read_answer({"headers": long}, decodes_base64=False)[1] == (JSON, ("c", "x" * 5_000))


@pytest.mark.parametrize(
    ("answer", "decodes", "body"),
    [
        ({"body": "é"}, False, "é".encode()),
        ({"body": None, "isBase64Encoded": True}, True, b""),
        ({"body": "", "isBase64Encoded": True}, True, b""),
        ({"body": "AAEC/w==", "isBase64Encoded": True}, True, b"\x00\x01\x02\xff"),
        ({"body": "AAEC/w==", "isBase64Encoded": True}, False, b"AAEC/w=="),
        ({"body": "AAEC/w==", "isBase64Encoded": False}, True, b"AAEC/w=="),
        ({"body": "AAEC/w=="}, True, b"AAEC/w=="),
        ({"body": "\ud800"}, False, b"?"),
    ],
)
def test_body_is_decoded_if_both_sides_say_so(answer: Any, decodes: bool, body: bytes) -> None:
    assert read_answer(answer, decodes_base64=decodes)[2] == body


@pytest.mark.parametrize("body", ["A", "AAEC/w=", "not base64!", "é"])
def test_body_with_invalid_base64_is_rejected(body: str) -> None:
    with pytest.raises(MalformedAnswerError, match="not base64"):
        read_answer({"body": body, "isBase64Encoded": True}, decodes_base64=True)


@given(st.binary(max_size=200))
def test_binary_body_is_unchanged(body: bytes) -> None:
    answer = {"body": base64.b64encode(body).decode(), "isBase64Encoded": True}

    assert read_answer(answer, decodes_base64=True)[2] == body


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    ANYTHING
    | st.fixed_dictionaries(
        {},
        optional={
            "statusCode": ANYTHING,
            "headers": ANYTHING | st.dictionaries(st.text(), st.text()),
            "multiValueHeaders": ANYTHING | st.dictionaries(st.text(), st.lists(st.text())),
            "body": ANYTHING,
            "isBase64Encoded": ANYTHING,
        },
    )
)
def test_any_answer_is_read_or_rejected(answer: Any) -> None:
    try:
        status, headers, body = read_answer(answer, decodes_base64=True)
    except MalformedAnswerError:
        return
    assert 200 <= status <= 599
    assert isinstance(body, bytes)
    for name, value in headers:
        assert name.isascii()
        assert not set(value.encode("latin-1")) & {0, 10, 13}


@pytest.mark.parametrize(
    ("types", "value", "is_binary"),
    [
        ((), "application/octet-stream", False),
        (("*/*",), None, True),
        (("*/*",), "application/json", True),
        (("application/octet-stream",), None, False),
        (("application/octet-stream",), "application/octet-stream", True),
        (("application/octet-stream",), "Application/Octet-Stream; v=1", True),
        (("application/octet-stream",), "application/octet-stream, */*", True),
        (("application/octet-stream",), "*/*, application/octet-stream", False),  # only the first type counts
        (("application/octet-stream",), "*/*", False),
        (("image/*",), "image/png", True),
        (("image/*",), "imagex/png", False),
        (("image/png",), "image/*", False),
        (("image/*",), "", False),
        (("image/*",), "text/image", False),
    ],
)
def test_binary_media_types_match(types: tuple[str, ...], value: str | None, is_binary: bool) -> None:
    assert (value in BinaryMediaTypes(types)) is is_binary

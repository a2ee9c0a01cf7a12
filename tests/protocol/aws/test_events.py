from __future__ import annotations

import base64
from typing import Any

import pytest

from turnout.protocol.aws.events import make_answer, read_event
from turnout.protocol.errors import STATUS_OF, Refused, RequestError, shown


@pytest.mark.parametrize(
    ("event", "headers", "body"),
    [
        (
            {"headers": {"Content-TYPE": "a"}, "body": "é", "isBase64Encoded": False},
            {"content-type": "a"},
            "é".encode(),
        ),
        ({"headers": None, "body": None, "isBase64Encoded": False}, {}, b""),
        ({}, {}, b""),
        ({"headers": {}, "body": base64.b64encode(b"\xff\0").decode(), "isBase64Encoded": True}, {}, b"\xff\0"),
        ({"headers": {}, "body": "YWJj", "isBase64Encoded": False}, {}, b"YWJj"),
        ({"headers": {}, "body": "", "isBase64Encoded": True}, {}, b""),
    ],
)
def test_an_event_is_read(event: dict[str, Any], headers: dict[str, str], body: bytes) -> None:
    assert read_event(event) == (headers, body)


@pytest.mark.parametrize("body", ["YWJ", "Y W J j", "ü", "YWJj!", 7, {"a": 1}, b"abc"])
def test_invalid_base64_in_a_body_is_rejected(body: Any) -> None:
    with pytest.raises(RequestError) as caught:
        read_event({"headers": {}, "body": body, "isBase64Encoded": True})
    assert caught.value.code == "INVALID_REQUEST"


def test_answers_contain_text_as_text_and_bytes_in_base64() -> None:
    text = make_answer(200, {"A": "b"}, "é".encode())
    assert text == {"statusCode": 200, "headers": {"A": "b"}, "body": "é", "isBase64Encoded": False}
    binary = make_answer(200, {}, b"\xff", binary=True)
    assert (binary["body"], binary["isBase64Encoded"]) == ("/w==", True)


def test_an_error_has_one_shape() -> None:
    error = Refused("too short", tensor="x")
    assert error.status == STATUS_OF["REFUSED_BY_TRANSFORM"] == 422
    assert error.body() == {"error": "too short", "code": "REFUSED_BY_TRANSFORM", "details": {"tensor": "x"}}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([1] * 9, "a list"),
        ({}, "an object"),
        (True, "true"),
        (None, "null"),
        (1.5, "1.5"),
        ('a"', '"a\\""'),
        ("é" * 99, '"' + "é" * 50 + '..."'),
    ],
)
def test_the_value_of_a_client_is_shown_briefly(value: Any, text: str) -> None:
    assert shown(value) == text

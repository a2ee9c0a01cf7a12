from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders.documents import API_KEY_SCHEME, HOST, FakeFunctions, gateway, operation, respond, stage
from turnout.gateway.http.messages import Request
from turnout.gateway.observers.access_log import escape, json_log, text_log
from turnout.gateway.rules.authorize import ApiKey
from turnout.gateway.rules.stages import CanarySettings

PATHS = {"/x": {"post": operation("iris_${stageVariables.v}:live")}, "/{a+}": {"post": operation("plain")}}
ID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


def logged(one: Request, *, form: str = "text", percent: float = 0.0, **more: Any) -> str:
    lines: list[str] = []
    ticks = iter([10.0, 10.0012])
    under_test = gateway(
        PATHS,
        FakeFunctions(),
        stage(variables={"v": "v1"}, canary=CanarySettings(percent, {"v": "v2"}, "d2")),
        access_log=text_log(lines.append) if form == "text" else json_log(lines.append, "123456789012"),
        monotonic=lambda: next(ticks),
        clock=lambda: 1428582896.789,
        **more,
    )
    respond(under_test, one)
    (line,) = lines
    return line


@pytest.mark.parametrize(
    ("method", "path", "percent", "expected"),
    [
        ("POST", "/dev/x", 0, f"POST /dev/x 200 1.2ms 2B function=iris_v1:live canary=false id={ID}"),
        ("POST", "/dev/x", 100, f"POST /dev/x 200 1.2ms 2B function=iris_v2:live canary=true id={ID}"),
        ("POST", "/dev/y/z", 0, f"POST /dev/y/z 200 1.2ms 2B function=plain canary=false id={ID}"),
        (
            "GET",
            "/dev/x",
            0,
            f"GET /dev/x 403 1.2ms 42B function=- canary=false id={ID} error=MISSING_AUTHENTICATION_TOKEN",
        ),
        ("GET", "nonsense", 0, f"GET nonsense 400 1.2ms 26B function=- canary=false id={ID} error=DEFAULT_4XX"),
        (
            "GET /\n",
            "/\r\n1.1.1.1 POST \x1b[2J",
            0,
            re.escape(r"GET\x20/\x0a /\x0d\x0a1.1.1.1\x20POST\x20\x1b[2J 400 1.2ms 26B function=- canary=false id=")
            + f"{ID} error=DEFAULT_4XX",
        ),
    ],
)
def test_line_tells_the_request(method: str, path: str, percent: float, expected: str) -> None:
    line = logged(Request(method, path, "", (("Host", HOST),), b""), percent=percent)

    assert re.fullmatch(f"127\\.0\\.0\\.1 {expected}", line)


def test_json_line_has_the_names_of_context() -> None:
    headers = (("Host", HOST), ("User-Agent", "é\x7f\x1b\n"))

    line = logged(Request("POST", "/dev/x", "", headers, b""), form="json", percent=100)

    row = json.loads(line)
    assert re.fullmatch(ID, row.pop("requestId"))
    assert row.pop("extendedRequestId").endswith("=")
    assert row.pop("resourceId")
    assert row == {
        "accountId": "123456789012",
        "apiId": "a1b2c3d4e5",
        "deploymentId": "d2",
        "domainName": HOST,
        "domainPrefix": "a1b2c3d4e5",
        "httpMethod": "POST",
        "identity.sourceIp": "127.0.0.1",
        "identity.userAgent": "é\x7f\x1b\n",
        "identity.apiKeyId": "",
        "path": "/dev/x",
        "protocol": "HTTP/1.1",
        "requestTime": "09/Apr/2015:12:34:56 +0000",
        "requestTimeEpoch": 1428582896789,
        "resourcePath": "/x",
        "stage": "dev",
        "status": 200,
        "responseLength": 2,
        "responseLatency": 1.2,
        "isCanaryRequest": True,
        "function": "iris_v2",
        "alias": "live",
    }
    assert line.isascii()
    assert line.isprintable()


def test_json_line_of_an_error_says_which() -> None:
    row = json.loads(logged(Request("GET", "/dev/x", "", (), b""), form="json"))

    assert (row["status"], row["error.responseType"]) == (403, "MISSING_AUTHENTICATION_TOKEN")
    assert row["error.message"] == "Missing Authentication Token"
    assert (row["function"], row["resourcePath"]) == ("", "")


def test_key_is_logged_by_its_id_and_never_by_its_value() -> None:
    lines: list[str] = []
    under_test = gateway(
        {"/x": {"post": operation(security=[{"key": []}])}},
        FakeFunctions(),
        components={"securitySchemes": {"key": API_KEY_SCHEME}},
        api_keys={"dev": [ApiKey("id1", "very-secret")]},
        access_log=json_log(lines.append, ""),
    )

    respond(under_test, Request("POST", "/dev/x", "", (("x-api-key", "very-secret"),), b""))

    assert json.loads(lines[0])["identity.apiKeyId"] == "id1"
    assert "very-secret" not in lines[0]


@given(st.text())
def test_escaped_text_is_one_printable_word(text: str) -> None:
    escaped = escape(text)

    assert escaped.isascii()
    assert escaped.isprintable()
    assert " " not in escaped


@given(st.text(), st.text())
def test_different_texts_stay_different_when_escaped(one: str, other: str) -> None:
    assert (escape(one) == escape(other)) is (one == other)


def test_escape_cannot_be_imitated() -> None:
    assert escape("a b") == r"a\x20b"
    assert escape(r"a\x20b") == r"a\x5cx20b"
    assert escape("\N{SNOWMAN}") == r"\u2603"

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders.documents import API_KEY_SCHEME, HOST, FakeFunctions, gateway, operation, respond, stage
from turnout.gateway.observers.access_log import escape, json_log, text_log
from turnout.gateway.rules.authorize import ApiKey
from turnout.gateway.rules.stages import CanarySettings
from turnout.http_server.messages import Request
from turnout.protocol.aws.access_log import ACCESS_LOG_FIELDS

PATHS = {"/x": {"post": operation("iris_${stageVariables.v}:live")}, "/{a+}": {"post": operation("plain")}}
ID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


def logged(one: Request, *, form: str = "text", percent: float = 0.0, **more: Any) -> str:
    lines: list[str] = []
    ticks = iter([10.0, 10.0012])
    under_test = gateway(
        PATHS,
        FakeFunctions(),
        stage(variables={"v": "v1"}, canary=CanarySettings(percent, {"v": "v2"}, "d2")),
        observers=[text_log(lines.append) if form == "text" else json_log(lines.append)],
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
def test_line_describes_the_request(method: str, path: str, percent: float, expected: str) -> None:
    line = logged(Request(method, path, "", (("Host", HOST),), b""), percent=percent)

    assert re.fullmatch(f"2015-04-09T12:34:56Z 127\\.0\\.0\\.1 {expected}", line)


def test_json_line_has_the_keys_of_the_log_on_aws() -> None:
    headers = (("Host", HOST), ("User-Agent", "é\x7f\x1b\n"))

    line = logged(Request("POST", "/dev/x", "", headers, b""), form="json", percent=100)

    fields = json.loads(line)
    assert fields.keys() == ACCESS_LOG_FIELDS.keys()
    assert re.fullmatch(ID, fields.pop("request_id"))
    assert fields.pop("id").endswith("=")
    assert fields == {
        "time": "09/Apr/2015:12:34:56 +0000",
        "ip": "127.0.0.1",
        "api_key_id": "-",
        "caller": "-",
        "stage": "dev",
        "method": "POST",
        "resource": "/x",
        "status": 200,
        "bytes": 2,
        "latency_ms": 1.2,
        "integration_status": "-",
        "function_request_id": "-",
        "integration_latency_ms": "-",
        "error": "-",
        "canary": True,
        "deployment": "d2",
        "function": "iris_v2",
        "version": "-",
    }
    assert line.isascii()
    assert line.isprintable()


def test_json_line_of_an_error_names_it() -> None:
    fields = json.loads(logged(Request("GET", "/dev/x", "", (), b""), form="json"))

    assert (fields["status"], fields["error"]) == (403, "MISSING_AUTHENTICATION_TOKEN")
    assert (fields["function"], fields["resource"]) == ("-", "-")


def test_key_is_logged_by_its_id_and_never_by_its_value() -> None:
    lines: list[str] = []
    under_test = gateway(
        {"/x": {"post": operation(security=[{"key": []}])}},
        FakeFunctions(),
        components={"securitySchemes": {"key": API_KEY_SCHEME}},
        api_keys={"dev": [ApiKey("id1", "very-secret")]},
        observers=[json_log(lines.append)],
    )

    respond(under_test, Request("POST", "/dev/x", "", (("x-api-key", "very-secret"),), b""))

    assert json.loads(lines[0])["api_key_id"] == "id1"
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


def test_escape_sequences_cannot_be_forged() -> None:
    assert escape("a b") == r"a\x20b"
    assert escape(r"a\x20b") == r"a\x5cx20b"
    assert escape("\N{SNOWMAN}") == r"\u2603"

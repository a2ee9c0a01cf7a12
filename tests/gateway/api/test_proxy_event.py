from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders.documents import HOST, FakeFunctions, gateway, operation, respond, stage
from tests.builders.waiting import PATIENCE_S
from turnout.gateway.api.fields import Fields, parse_query
from turnout.gateway.api.identifiers import (
    Identifiers,
    RequestTimes,
    extended_request_id,
    request_id,
    trace_of_answer,
    trace_root,
)
from turnout.gateway.api.proxy_event import Endpoint
from turnout.gateway.rules.stages import CanarySettings
from turnout.http_server.clients import domain_of
from turnout.http_server.messages import Request
from turnout.protocol.aws.events import is_canary

PATHS = {"/x": {"x-amazon-apigateway-any-method": operation()}, "/p/{a}/{rest+}": {"get": operation()}}


def event_of(
    headers: tuple[tuple[str, str], ...] = (),
    body: bytes = b"",
    path: str = "/dev/x",
    query: str = "",
    method: str = "GET",
    **more: Any,
) -> dict[str, Any]:
    functions = FakeFunctions()
    under_test = gateway(PATHS, functions, **more)
    respond(under_test, Request(method, path, query, headers, body, "203.0.113.9"))
    return dict(functions.events[0])


@pytest.mark.parametrize(("sent", "is_known"), [("secret", True), ("other", False), ("", False), ("\xe9", False)])
def test_a_replay_is_recognized_and_its_token_reaches_no_function(sent: str, is_known: bool) -> None:
    event = event_of((("X-Turnout-Replay", sent),), replay_token="secret")
    assert event.get("turnout") == ({"replay": True} if is_known else None)
    assert "x-turnout-replay" not in {name.lower() for name in event["headers"]}
    assert "x-turnout-replay" not in {name.lower() for name in event["multiValueHeaders"]}


def test_without_a_token_no_request_is_a_replay() -> None:
    assert "turnout" not in event_of((("X-Turnout-Replay", ""),))


@pytest.mark.parametrize(
    ("types", "content_type", "body", "expected"),
    [
        ([], "application/octet-stream", b"", (None, False)),
        ([], None, b"text", ("text", False)),
        ([], "application/json", '{"é": 1}'.encode(), ('{"é": 1}', False)),
        ([], "application/octet-stream", b"a\xff\x00b", ("a\ufffd\x00b", False)),  # as on AWS: text that it is not
        (["*/*"], None, b"a\xff", ("Yf8=", True)),
        (["*/*"], "application/json", b"{}", ("e30=", True)),
        (["*/*"], None, b"", (None, False)),
        (["application/octet-stream"], "application/octet-stream", b"\x00", ("AA==", True)),
        (["application/octet-stream"], "application/json", b"{}", ("{}", False)),
    ],
)
def test_body_is_text_or_base64(
    types: list[str], content_type: str | None, body: bytes, expected: tuple[str | None, bool]
) -> None:
    headers = (("content-type", content_type),) if content_type else ()

    event = event_of(headers, body, binary_media_types=types)

    assert (event["body"], event["isBase64Encoded"]) == expected


@given(st.binary(max_size=300))
def test_binary_body_is_unchanged(body: bytes) -> None:
    event = event_of(body=body, binary_media_types=["*/*"])

    assert base64.b64decode(event["body"] or "") == body


def test_repeated_header_has_its_last_value_and_all_values() -> None:
    event = event_of((("X-A", "1"), ("X-A", "2"), ("x-a", "3")))

    assert (event["headers"]["X-A"], event["headers"]["x-a"]) == ("2", "3")
    assert (event["multiValueHeaders"]["X-A"], event["multiValueHeaders"]["x-a"]) == (["1", "2"], ["3"])


def test_repeated_traces_without_a_root_are_replaced() -> None:
    event = event_of((("X-Amzn-Trace-Id", "a"), ("x-amzn-trace-id", "b"), ("X-A", "1"), ("X-A", "1")))

    assert event["multiValueHeaders"]["X-Amzn-Trace-Id"] == [event["headers"]["X-Amzn-Trace-Id"]]
    assert event["headers"]["X-Amzn-Trace-Id"].startswith("Root=1-")
    assert event["multiValueHeaders"]["X-A"] == ["1", "1"]


@pytest.mark.parametrize(
    ("variables", "percent", "drawn"),
    [
        ({"canary": "false"}, None, None),
        ({"canary": "false"}, 0.0, False),
        ({"canary": "false"}, 100.0, True),
        ({}, 100.0, True),
        ({"canary": "true"}, None, False),  # a promotion has copied the overrides
        ({"canary": "true"}, 0.0, False),
    ],
)
def test_event_says_whether_it_belongs_to_the_canary(
    variables: dict[str, str], percent: float | None, *, drawn: bool | None
) -> None:
    canary = None if percent is None else CanarySettings(percent, {"iris": "v2"}, "d1")
    functions = FakeFunctions()
    under_test = gateway(PATHS, functions, stage(variables=variables, canary=canary))
    respond(under_test, Request("GET", "/dev/x", "", (("Host", HOST),), b""))
    (event,) = functions.events
    assert event["requestContext"].get("isCanaryRequest") is drawn
    assert is_canary(event) is bool(drawn)


def spoil(node: Any) -> None:
    """Change everything that can be changed."""
    for value in list(node.values()) if isinstance(node, dict) else node:
        if isinstance(value, dict | list):
            spoil(value)
    node.clear()


def test_a_function_may_change_its_event_without_affecting_the_next_one() -> None:
    first: list[Any] = []

    def answer(event: Any) -> Any:
        first.append(json.loads(json.dumps(event)))
        spoil(event)
        return {"statusCode": 200}

    under_test = gateway(PATHS, FakeFunctions(answer), binary_media_types=["*/*"])
    kept: dict[str, Any] = {}  # as for two requests with the same head on one connection
    headers = (
        ("Host", HOST),
        ("X-A", "1"),
        ("X-A", "2"),
        ("X-Amzn-Trace-Id", "Root=1-67891233-abcdef012345678912345678"),
    )
    for _ in range(2):
        respond(under_test, Request("GET", "/dev/x", "", headers, b"body", "203.0.113.9", kept))

    for event in first:
        for name in ("requestId", "extendedRequestId", "requestTime", "requestTimeEpoch"):
            del event["requestContext"][name]
    assert first[0] == first[1]
    assert first[0]["multiValueHeaders"]["X-A"] == ["1", "2"]


def test_fields_of_the_connection_are_dropped() -> None:
    dropped = ("connection", "Content-Length", "TE", "transfer-encoding", "Upgrade", "Expect", "Trailer")

    event = event_of(tuple((name, "x") for name in dropped))

    assert event["headers"].keys() == {"X-Forwarded-For", "X-Forwarded-Port", "X-Forwarded-Proto", "X-Amzn-Trace-Id"}
    assert event["multiValueHeaders"].keys() == event["headers"].keys()


def test_forwarded_fields_are_set_by_the_gateway() -> None:
    sent = (("x-forwarded-for", "1.1.1.1"), ("X-Forwarded-For", "2.2.2.2"), ("X-FORWARDED-PROTO", "gopher"))

    event = event_of(sent, endpoint=Endpoint("123456789012", "https", 8443))

    forwarded = {name: value for name, value in event["headers"].items() if "forwarded" in name.lower()}
    assert forwarded == {
        "X-Forwarded-For": "1.1.1.1, 2.2.2.2, 203.0.113.9",
        "X-Forwarded-Port": "8443",
        "X-Forwarded-Proto": "https",
    }
    assert event["multiValueHeaders"]["X-Forwarded-For"] == ["1.1.1.1, 2.2.2.2, 203.0.113.9"]
    assert event["requestContext"]["identity"]["sourceIp"] == "203.0.113.9"
    assert event["requestContext"]["accountId"] == "123456789012"


def test_request_without_host_and_user_agent_has_an_event() -> None:
    context = event_of()["requestContext"]

    assert (context["domainName"], context["domainPrefix"]) == ("", "")
    assert context["identity"]["userAgent"] is None


@pytest.mark.parametrize(
    ("sent", "kept"), [("Root=1-2-3;Sampled=1", True), ("root=1-2-3", True), ("Self=1-2-3", False), ("", False)]
)
def test_trace_is_kept_if_it_has_a_root(sent: str, kept: bool) -> None:
    event = event_of((("x-amzn-trace-id", sent),))

    trace = event["headers"]["X-Amzn-Trace-Id"]
    assert (trace == sent) is kept
    assert kept or re.fullmatch(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24}", trace)
    assert event["multiValueHeaders"]["X-Amzn-Trace-Id"] == [trace]


def test_time_and_ids_are_current() -> None:
    event = event_of(clock=lambda: 1428582896.789)
    context = event["requestContext"]

    assert context["requestTime"] == "09/Apr/2015:12:34:56 +0000"
    assert context["requestTimeEpoch"] == 1428582896789
    assert event["headers"]["X-Amzn-Trace-Id"].startswith(f"Root=1-{1428582896:08x}-")
    assert uuid.UUID(context["requestId"]).version == 4
    assert re.fullmatch(r"[A-Za-z0-9_-]{15}=", context["extendedRequestId"])


def test_path_parameters_keep_their_encoding() -> None:
    event = event_of(path="/dev/p/a%20b/c%2Fd//e")

    assert event["pathParameters"] == {"a": "a%20b", "rest": "c%2Fd//e"}
    assert (event["resource"], event["path"]) == ("/p/{a}/{rest+}", "/p/a%20b/c%2Fd//e")


def test_a_function_that_changes_its_parameters_changes_no_later_event() -> None:
    functions = FakeFunctions()
    under_test = gateway(PATHS, functions)
    for _ in range(3):
        respond(under_test, Request("GET", "/dev/p/one/two", "", (), b"", "203.0.113.9"))
        event = functions.events[-1]
        assert event["pathParameters"] == {"a": "one", "rest": "two"}
        event["pathParameters"]["a"] = "changed"


def test_event_is_json() -> None:
    event = event_of((("Host", HOST), ("x", "\xff")), b"\xff", query="a=%ff&a=%zz&b")

    assert json.loads(json.dumps(event)) == event


@pytest.mark.parametrize(
    ("query", "single", "multiple"),
    [
        ("", None, None),
        ("&&", None, None),
        ("a", {"a": ""}, {"a": [""]}),
        ("a=", {"a": ""}, {"a": [""]}),
        ("=x", {"": "x"}, {"": ["x"]}),
        ("a=1&b=2&a=3", {"a": "3", "b": "2"}, {"a": ["1", "3"], "b": ["2"]}),
        ("a=1;b=2", {"a": "1;b=2"}, {"a": ["1;b=2"]}),
        ("%61=b%20c+d", {"a": "b c d"}, {"a": ["b c d"]}),
        ("a=%c3%a9&b=%ff&c=%zz", {"a": "é", "b": "\ufffd", "c": "%zz"}, {"a": ["é"], "b": ["\ufffd"], "c": ["%zz"]}),
    ],
)
def test_query_is_decoded(query: str, single: dict[str, str] | None, multiple: dict[str, list[str]] | None) -> None:
    assert parse_query(query) == (single, multiple)


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("api.example.com", ("api.example.com", "api")),
        ("localhost:8080", ("localhost", "localhost")),
        ("127.0.0.1:8080", ("127.0.0.1", "127")),
        ("[::1]:8080", ("::1", "::1")),
        ("", ("", "")),
    ],
)
def test_domain_comes_from_the_host(host: str, domain: tuple[str, str]) -> None:
    assert domain_of(host) == domain


def test_every_request_has_different_ids() -> None:
    identifiers = Identifiers()

    assert len({request_id(identifiers.take()) for _ in range(5000)}) == 5000


def test_ids_have_the_format_of_aws() -> None:
    identifiers = Identifiers(lambda count: b"\xff" * count)
    taken = identifiers.take()

    assert request_id(taken) == "ffffffff-ffff-4fff-bfff-ffffffffffff"
    assert extended_request_id(taken) == base64.urlsafe_b64encode(b"\xff" * 11).decode()
    assert trace_root(taken, 0x699E4882) == f"Root=1-699e4882-{'f' * 24}"
    for _ in range(1000):
        taken = Identifiers().take()
        assert uuid.UUID(request_id(taken)).version == 4
        assert len(base64.urlsafe_b64decode(extended_request_id(taken))) == 11


FORKS = """
import os
from turnout.gateway.api.identifiers import Identifiers
identifiers = Identifiers()
identifiers.take()
read, write = os.pipe()
if os.fork() == 0:
    os.write(write, identifiers.take().encode())
    os._exit(0)
os.wait()
print(os.read(read, 100).decode(), identifiers.take())
"""


def test_forked_process_does_not_repeat_the_ids_of_its_parent() -> None:
    # In its own process: forking one with threads is deprecated.
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, check=True, timeout=PATIENCE_S)

    child, parent = done.stdout.split()
    assert len(child) == len(parent) > 0
    assert child != parent


def test_request_time_changes_with_the_second() -> None:
    times = RequestTimes()

    assert [times.at(moment) for moment in (0.0, 0.9, 1.0, 951782400.0)] == [
        "01/Jan/1970:00:00:00 +0000",
        "01/Jan/1970:00:00:00 +0000",
        "01/Jan/1970:00:00:01 +0000",
        "29/Feb/2000:00:00:00 +0000",
    ]


@pytest.mark.parametrize(
    ("trace", "expected"),
    [
        ("Root=1;Parent=2;Sampled=1", "Root=1;Parent=2;Sampled=1"),
        ("Root=1;Parent=2", "Root=1;Parent=2;Sampled=0"),
        ("Root=1;Sampled=1", "Root=1;Sampled=1;Parent=0000000000000000"),
        ("Root=1", "Root=1;Parent=0000000000000000;Sampled=0"),
    ],
)
def test_trace_of_the_answer_is_completed(trace: str, expected: str) -> None:
    assert trace_of_answer(trace, "0" * 88) == expected


def test_lowercase_names_have_the_last_value() -> None:
    assert Fields((("A", "1"), ("a", "2"), ("B", "3"))).by_lower_name() == {"a": "2", "b": "3"}

"""Lambda's Invoke API as boto3 uses it, over a socket, with functions made for the test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.builders.aws_clients import aws_client, refusal
from tests.builders.http_server import RunningServer, serving
from turnout.gateway.functions.invocation import Invocation
from turnout.gateway.services.invoke_api import InvokeApi
from turnout.http_server.messages import Request, Response
from turnout.protocol.aws.limits import LARGEST_ASYNC_EVENT_BYTES, LARGEST_EVENT_BYTES

FAILURES = {
    "raises": Invocation(None, "failed", "raises raised ValueError: no"),
    "slow": Invocation(None, "timed_out", "slow: the call ran past its time limit"),
    "large": Invocation(None, "too_large", "large: 7,000,000 bytes"),
    "busy": Invocation(None, "throttled", "busy: as many calls run as may"),
    "absent": Invocation(None, "unknown_function", "absent cannot run here"),
}
NAMES = {"iris_v1", "waits", *FAILURES}
ANSWER = {"statusCode": 200, "body": "ä"}
UNKNOWN = "Function not found: arn:aws:lambda:local:000000000000:function:"


@dataclass
class Functions:
    """Answers as the function's name says, and records the calls."""

    calls: list[tuple[str, str, Mapping[str, Any]]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def invoke(
        self, name: str, alias: str, event: Mapping[str, Any], timeout_s: float
    ) -> Invocation | Awaitable[Invocation]:
        self.calls.append((name, alias, event))
        if name == "waits":
            return self._wait()
        return FAILURES.get(name, Invocation(ANSWER))

    async def _wait(self) -> Invocation:
        await self.gate.wait()
        return Invocation(ANSWER)

    def close(self) -> None:
        """Nothing to close."""


@dataclass
class Served:
    client: Any
    functions: Functions
    server: RunningServer

    def refusal(self, name: str, **more: Any) -> tuple[int, str, str]:
        return refusal(lambda: self.client.invoke(FunctionName=name, **{"Payload": b"{}", **more}))


@pytest.fixture(scope="module")
def module_functions() -> Functions:
    return Functions()


@pytest.fixture(scope="module")
def server(module_functions: Functions) -> Iterator[RunningServer]:
    with serving(InvokeApi(module_functions, NAMES).handle) as running:
        yield running
        running.call(module_functions.gate.set)


@pytest.fixture
def served(server: RunningServer, module_functions: Functions) -> Iterator[Served]:
    module_functions.calls.clear()
    with aws_client("lambda", server.address[1]) as client:
        yield Served(client, module_functions, server)


@pytest.mark.parametrize(
    ("name", "qualifier", "alias", "version"),
    [
        ("iris_v1", "", "live", "$LATEST"),
        ("iris_v1", "$LATEST", "live", "$LATEST"),
        ("iris_v1", "1", "live", "1"),
        ("iris_v1", "next", "next", "1"),
        ("iris_v1:live", "", "live", "1"),
        ("iris_v1:next", "next", "next", "1"),
        ("arn:aws:lambda:eu-west-1:000000000000:function:iris_v1", "live", "live", "1"),
        ("arn:aws:lambda:eu-west-1:000000000000:function:iris_v1:next", "", "next", "1"),
        ("000000000000:function:iris_v1:live", "", "live", "1"),
    ],
)
def test_function_can_be_called_by_every_form_of_its_name(
    served: Served, name: str, qualifier: str, alias: str, version: str
) -> None:
    more = {"Qualifier": qualifier} if qualifier else {}

    result = served.client.invoke(FunctionName=name, Payload=b'{"body": "\\u00e4"}', **more)

    assert json.load(result["Payload"]) == ANSWER
    assert (result["StatusCode"], result["ExecutedVersion"]) == (200, version)
    assert "FunctionError" not in result
    assert served.functions.calls == [("iris_v1", alias, {"body": "ä"})]


def test_missing_payload_is_an_empty_event(served: Served) -> None:
    served.client.invoke(FunctionName="iris_v1")

    assert served.functions.calls == [("iris_v1", "live", {})]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("raises", "Runtime.FunctionFailed"), ("slow", "Sandbox.Timedout"), ("large", "Function.ResponseSizeTooLarge")],
)
def test_failure_of_a_function_is_returned_as_its_answer(served: Served, name: str, kind: str) -> None:
    result = served.client.invoke(FunctionName=name, Payload=b"{}")

    assert (result["StatusCode"], result["FunctionError"]) == (200, "Unhandled")
    body = json.load(result["Payload"])
    assert body["errorType"] == kind
    assert FAILURES[name].message in body["errorMessage"]


@pytest.mark.parametrize(
    ("name", "more", "expected"),
    [
        ("iris_v9", {}, (404, "ResourceNotFoundException", f"{UNKNOWN}iris_v9")),
        ("iris_v1", {"Qualifier": "old"}, (404, "ResourceNotFoundException", f"{UNKNOWN}iris_v1:old")),
        ("absent:live", {}, (404, "ResourceNotFoundException", f"{UNKNOWN}absent:live")),
        ("busy", {}, (429, "TooManyRequestsException", "Rate Exceeded.")),
        (
            "iris_v1:live",
            {"Qualifier": "next"},
            (
                400,
                "InvalidParameterValueException",
                "The derived qualifier from the function name does not match the specified qualifier.",
            ),
        ),
        (
            "iris_v1",
            {"Payload": b" " * (LARGEST_EVENT_BYTES + 1)},
            (
                413,
                "RequestTooLargeException",
                "Request must be smaller than 6291456 bytes for the InvokeFunction operation",
            ),
        ),
        (
            "iris_v1",
            {"Payload": b" " * (LARGEST_ASYNC_EVENT_BYTES + 1), "InvocationType": "Event"},
            (
                413,
                "RequestTooLargeException",
                "Request must be smaller than 1048576 bytes for the InvokeFunction operation",
            ),
        ),
    ],
)
def test_invalid_calls_are_rejected(
    served: Served, name: str, more: Mapping[str, Any], expected: tuple[int, str, str]
) -> None:
    assert served.refusal(name, **more) == expected


@pytest.mark.parametrize("payload", [b"[1]", b"3", b"{", b'{"a": NaN}', b"\xff"])
def test_payload_that_is_not_an_object_is_rejected(served: Served, payload: bytes) -> None:
    status, code, message = served.refusal("iris_v1", Payload=payload)

    assert (status, code) == (400, "InvalidRequestContentException")
    assert message.startswith("Could not parse request body into json: ")
    assert served.functions.calls == []


@pytest.mark.parametrize("name", ["iris v1", "a:b:c:d", "iris/v1"])
def test_invalid_function_name_is_rejected(served: Served, name: str) -> None:
    assert served.refusal(name)[:2] == (400, "InvalidParameterValueException")


def test_unknown_invocation_type_is_rejected(served: Served) -> None:
    status, code, message = served.refusal("iris_v1", InvocationType="Later")

    assert (status, code) == (400, "InvalidParameterValueException")
    assert "[RequestResponse, Event, DryRun]" in message


def test_dry_run_calls_nothing(served: Served) -> None:
    assert served.client.invoke(FunctionName="iris_v1:live", InvocationType="DryRun")["StatusCode"] == 204
    assert served.refusal("iris_v9", InvocationType="DryRun")[0] == 404
    assert served.functions.calls == []


def test_event_is_accepted_before_its_call_ends(served: Served) -> None:
    """`waits` never ends before the test's module does."""
    result = served.client.invoke(FunctionName="waits", InvocationType="Event", Payload=b'{"a": 1}')

    assert (result["StatusCode"], result["Payload"].read()) == (202, b"")  # read, so that its connection is closed
    assert served.client.invoke(FunctionName="iris_v1")["StatusCode"] == 200
    assert served.functions.calls[0] == ("waits", "live", {"a": 1})


def test_events_beyond_the_limit_are_throttled() -> None:
    functions = Functions()
    api = InvokeApi(functions, NAMES)

    def ask() -> Response:
        headers = (("X-Amz-Invocation-Type", "Event"),)
        result = api.handle(Request("POST", "/2015-03-31/functions/waits/invocations", "", headers, b"{}"))
        assert isinstance(result, Response)
        return result

    async def test() -> list[int]:
        statuses = [ask().status for _ in range(300)]
        functions.gate.set()
        while ask().status == 429:  # noqa: ASYNC110
            await asyncio.sleep(0)
        return statuses

    assert asyncio.run(asyncio.wait_for(test(), 20)) == [202] * 256 + [429] * 44


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/2015-03-31/functions"), ("GET", "/2015-03-31/functions/iris_v1/invocations")]
)
def test_other_apis_of_lambda_are_rejected(method: str, path: str) -> None:
    result = InvokeApi(Functions(), NAMES).handle(Request(method, path, "", (), b""))

    assert isinstance(result, Response)
    assert result.status == 404
    assert ("x-amzn-ErrorType", "UnknownOperationException") in result.headers

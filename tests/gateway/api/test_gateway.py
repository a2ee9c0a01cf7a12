from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders.documents import (
    API,
    API_KEY_SCHEME,
    FakeFunctions,
    document,
    gateway,
    operation,
    request,
    respond,
    stage,
)
from turnout.gateway.api.exchange import Exchange
from turnout.gateway.api.gateway import Gateway, RestApi
from turnout.gateway.functions.invocation import Invocation
from turnout.gateway.rules.authorize import ApiKey
from turnout.gateway.rules.stages import CanarySettings, Snapshot, Stages, StageSettings
from turnout.http_server.messages import Request, Response
from turnout.http_server.wire import TOO_LARGE_BODY
from turnout.manifest.parser import Throttle

PATHS = {"/x": {"post": operation("fn_${stageVariables.v}:live")}, "/p/{a}": {"post": operation()}}
V1 = {"v": "1"}


def error_of(response: Response) -> tuple[int, bytes, str | None]:
    return response.status, response.body, dict(response.headers).get("x-amzn-ErrorType")


def served(answer: Any = None, **more: Any) -> tuple[Gateway, FakeFunctions]:
    functions = FakeFunctions() if answer is None else FakeFunctions(lambda event: answer)
    return gateway(PATHS, functions, stage(variables=V1), **more), functions


def test_request_reaches_the_function_of_its_route() -> None:
    under_test, functions = served()

    response = respond(under_test, request("/dev/x", body=b"{}"))

    assert (response.status, response.body) == (200, b"ok")
    assert functions.calls == [("fn_1", "live", 29.0)]


@pytest.mark.parametrize(
    ("path", "method", "expected"),
    [
        ("/dev/y", "POST", (403, b'{"message":"Missing Authentication Token"}', "MissingAuthenticationTokenException")),
        ("/dev/x", "GET", (403, b'{"message":"Missing Authentication Token"}', "MissingAuthenticationTokenException")),
        ("/prod/x", "POST", (403, b'{"message":"Forbidden"}', "ForbiddenException")),
        ("x", "POST", (400, b'{"message": "Bad Request"}', "BadRequestException")),
        ("", "POST", (400, b'{"message": "Bad Request"}', "BadRequestException")),
        ("*", "OPTIONS", (400, b'{"message": "Bad Request"}', "BadRequestException")),
        ("http://host/dev/x", "POST", (400, b'{"message": "Bad Request"}', "BadRequestException")),
        ("/dev/p/%zz", "POST", (400, b'{"message": "Bad Request"}', "BadRequestException")),
        ("/dev/p/a%2", "POST", (400, b'{"message": "Bad Request"}', "BadRequestException")),
        ("/dev/p/a b", "POST", (400, b'{"message": "Bad Request"}', "BadRequestException")),
        ("/dev/p/a\x00", "POST", (400, b'{"message": "Bad Request"}', "BadRequestException")),
        ("/dev/p/\xe9", "POST", (400, b'{"message": "Bad Request"}', "BadRequestException")),
    ],
)
def test_request_without_a_route_is_rejected(path: str, method: str, expected: tuple[int, bytes, str]) -> None:
    under_test, functions = served()

    assert error_of(respond(under_test, request(path, method))) == expected
    assert functions.calls == []


def test_error_contains_ids_and_no_trace() -> None:
    response = respond(served()[0], request("/dev/y"))

    assert [name for name, _ in response.headers] == [
        "Content-Type",
        "x-amzn-RequestId",
        "x-amzn-ErrorType",
        "x-amz-apigw-id",
    ]


def test_service_answers_paths_below_its_segment_and_is_not_a_route() -> None:
    seen: list[str] = []

    def service(asked: Request) -> Response:
        seen.append(asked.path)
        return Response(200, (), b"service")

    under_test, _ = served(services={"dev": service, "restapis": service})

    assert respond(under_test, request("/restapis")).body == b"service"
    assert respond(under_test, request("/restapis/a/stages", "GET")).body == b"service"
    assert respond(under_test, request("/dev/y")).body == b"service"
    assert respond(under_test, request("/dev/x", body=b"{}")).body == b"ok"
    assert respond(under_test, request("/other")).status == 403
    assert seen == ["/restapis", "/restapis/a/stages", "/dev/y"]


def test_path_without_stage_uses_the_default_stage() -> None:
    under_test, functions = served(default_stage="dev")

    assert respond(under_test, request("/x")).status == 200
    event = functions.events[0]
    assert (event["path"], event["requestContext"]["path"], event["requestContext"]["stage"]) == ("/x", "/x", "dev")


@pytest.mark.parametrize(
    ("invocation", "expected"),
    [
        (Invocation(None, "unknown_function"), (500, b'{"message": "Internal server error"}')),
        (Invocation(None, "failed", "boom"), (502, b'{"message": "Internal server error"}')),
        (Invocation(None, "too_large"), (502, b'{"message": "Internal server error"}')),
        (Invocation(None, "something new"), (502, b'{"message": "Internal server error"}')),
        (Invocation(None, "timed_out"), (504, b'{"message": "Endpoint request timed out"}')),
        (Invocation({"bad": 1}), (502, b'{"message": "Internal server error"}')),
        (Invocation(None), (502, b'{"message": "Internal server error"}')),
    ],
)
def test_failed_function_gets_the_error_of_aws(
    invocation: Invocation, expected: tuple[int, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    response = respond(served(invocation)[0], request("/dev/x"))

    assert error_of(response) == (*expected, "InternalServerErrorException")
    assert "fn_1" in caplog.text
    assert b"boom" not in response.body


def test_throttled_function_gets_429() -> None:
    response = respond(served(Invocation(None, "throttled"))[0], request("/dev/x"))

    assert error_of(response) == (429, b'{"message":"Too Many Requests"}', "TooManyRequestsException")


def test_undefined_stage_variable_gets_500_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    functions = FakeFunctions()
    under_test = gateway(PATHS, functions, stage())

    response = respond(under_test, request("/dev/x"))

    assert error_of(response) == (500, b'{"message": "Internal server error"}', "InternalServerErrorException")
    assert functions.calls == []
    assert "stage variable 'v' is not defined" in caplog.text


def test_internal_error_gets_500_in_the_format_of_aws(caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: Mapping[str, Any]) -> Any:
        raise RuntimeError("secret detail")

    under_test = gateway(PATHS, FakeFunctions(broken), stage(variables=V1))

    with caplog.at_level(logging.ERROR):
        response = respond(under_test, request("/dev/x"))

    assert error_of(response) == (500, b'{"message": "Internal server error"}', "InternalServerErrorException")
    assert "secret detail" in caplog.text


@pytest.mark.parametrize(
    ("path", "status"), [("/dev/x", None), ("/dev/nothing", 403), ("/nowhere/x", 403), ("/dev/%zz", 400)]
)
def test_a_request_head_without_a_route_is_rejected(path: str, status: int | None) -> None:
    functions = FakeFunctions()
    refusal = gateway(PATHS, functions, stage(variables=V1)).admit(request(path))
    assert (None if refusal is None else refusal.status) == status
    assert functions.calls == []


def test_a_request_head_with_a_wrong_key_is_rejected_and_logged() -> None:
    logged: list[int] = []
    under_test = gateway(
        {"/x": {"post": operation("fn:live", security=[{"key": []}])}},
        FakeFunctions(),
        stage(),
        components={"securitySchemes": {"key": API_KEY_SCHEME}},
        api_keys={"dev": [ApiKey("id", "secret")]},
        observers=[lambda exchange, response, duration_s: logged.append(response.status)],
    )
    refusal = under_test.admit(request("/dev/x", headers={"x-api-key": "wrong"}))
    assert refusal is not None
    assert refusal.status == 403
    assert under_test.admit(request("/dev/x", headers={"x-api-key": "secret"})) is None
    assert logged == [403]


def test_a_request_admitted_by_its_head_takes_one_token_in_total() -> None:
    functions = FakeFunctions()
    under_test = gateway(PATHS, functions, stage(variables=V1, throttle=Throttle(0.001, 1)))
    admitted, late = request("/dev/x"), request("/dev/x")
    assert under_test.admit(admitted) is None
    refusal = under_test.admit(late)
    assert refusal is not None
    assert refusal.status == 429
    assert respond(under_test, admitted).status == 200
    assert respond(under_test, request("/dev/x")).status == 429
    assert len(functions.calls) == 1


HEALTH = {
    "/health/live": {"get": operation(), "head": operation()},
    "/health/ready": {"get": operation()},
    "/v2/health/{check}": {"get": operation(), "head": operation()},
    "/v2/{proxy+}": {"x-amazon-apigateway-any-method": operation()},
    "/x": {"post": operation()},
}


def test_health_is_not_throttled_and_takes_no_token() -> None:
    under_test = gateway(HEALTH, FakeFunctions(), stage(throttle=Throttle(0.001, 1)))
    asked = [
        ("/dev/health/live", "GET"),
        ("/dev/health/live", "HEAD"),
        ("/dev/health/ready", "GET"),
        ("/dev/v2/health/live", "GET"),
        ("/dev/v2/health/ready", "HEAD"),
    ]
    assert {respond(under_test, request(path, method)).status for path, method in asked * 3} == {200}
    assert [respond(under_test, request("/dev/x")).status for _ in range(2)] == [200, 429]
    assert {respond(under_test, request(path, method)).status for path, method in asked} == {200}
    assert respond(under_test, request("/dev/v2/models/health", "GET")).status == 429
    assert respond(under_test, request("/dev/v2/models/m/ready", "GET")).status == 429


def test_throttle_rejects_requests_over_the_burst() -> None:
    now = [100.0]
    under_test = gateway(PATHS, FakeFunctions(), stage(variables=V1, throttle=Throttle(1, 2)), monotonic=lambda: now[0])

    statuses = [respond(under_test, request("/dev/x")) for _ in range(3)]

    assert [response.status for response in statuses] == [200, 200, 429]
    assert error_of(statuses[2]) == (429, b'{"message":"Too Many Requests"}', "TooManyRequestsException")
    now[0] += 1
    assert [respond(under_test, request("/dev/x")).status for _ in range(2)] == [200, 429]


def test_unknown_route_takes_no_token() -> None:
    under_test = gateway(PATHS, FakeFunctions(), stage(variables=V1, throttle=Throttle(0.001, 1)))

    assert respond(under_test, request("/dev/unknown")).status == 403
    assert respond(under_test, request("/dev/x")).status == 200


def test_event_of_six_megabytes_gets_413() -> None:
    under_test, functions = served()

    response = respond(under_test, request("/dev/x", body=b"x" * 6_291_556))

    assert error_of(response) == (413, b'{"message": "Request Too Long"}', "BadRequestException")
    assert functions.calls == []
    assert respond(under_test, request("/dev/x", body=b"x" * 6_000_000)).status == 200


def test_binary_body_counts_as_base64() -> None:
    under_test = gateway(PATHS, FakeFunctions(), stage(variables=V1), binary_media_types=["*/*"])

    assert respond(under_test, request("/dev/x", body=b"x" * 4_600_000)).status == 200
    assert respond(under_test, request("/dev/x", body=b"x" * 4_720_000)).status == 413


def test_escapes_count_towards_the_six_megabytes() -> None:
    assert respond(served()[0], request("/dev/x", body=b"\x00" * 1_100_000)).status == 413


def test_body_over_ten_megabytes_gets_the_413_of_the_edge() -> None:
    response = respond(served()[0], request("/nowhere", body=bytes(10 * 1024 * 1024 + 1)))

    assert (response.status, response.body) == (413, TOO_LARGE_BODY)
    assert response.body == b"HTTP content length exceeded 10485760 bytes."


@pytest.mark.parametrize(
    ("accept", "body"), [("*/*", b"AAE="), ("application/octet-stream", b"\x00\x01"), ("text/html, */*", b"AAE=")]
)
def test_base64_answer_is_decoded_for_clients_that_accept_binary(accept: str, body: bytes) -> None:
    answer = {"body": "AAE=", "isBase64Encoded": True}
    under_test, _ = served(answer, binary_media_types=["application/octet-stream"])

    assert respond(under_test, request("/dev/x", headers={"Accept": accept})).body == body


def test_base64_answer_is_decoded_for_all_when_every_type_is_binary() -> None:
    under_test, _ = served({"body": "AAE=", "isBase64Encoded": True}, binary_media_types=["*/*"])

    assert respond(under_test, request("/dev/x")).body == b"\x00\x01"


def test_canary_share_reaches_its_own_function() -> None:
    draws = iter([0.05, 0.5, 0.0999, 0.1])
    functions = FakeFunctions()
    under_test = gateway(
        PATHS,
        functions,
        stage(variables=V1, canary=CanarySettings(10, {"v": "2"}, "d2")),
        random=lambda: next(draws),
    )

    for _ in range(4):
        respond(under_test, request("/dev/x"))

    assert [name for name, _, _ in functions.calls] == ["fn_2", "fn_1", "fn_2", "fn_1"]
    assert [event["requestContext"]["deploymentId"] for event in functions.events] == ["d2", "d1", "d2", "d1"]


def test_without_a_canary_no_random_number_is_drawn() -> None:
    def never() -> float:
        raise AssertionError

    assert respond(gateway(PATHS, FakeFunctions(), stage(variables=V1), random=never), request("/dev/x")).status == 200


def test_stage_change_applies_to_the_next_request() -> None:
    under_test, functions = served()

    respond(under_test, request("/dev/x"))
    under_test.stages.update(stage(variables={"v": "2"}))
    respond(under_test, request("/dev/x"))

    assert [name for name, _, _ in functions.calls] == ["fn_1", "fn_2"]


def test_stages_of_two_apis_have_their_own_documents() -> None:
    functions = FakeFunctions()
    one = RestApi("one", document({"/a": {"get": operation("fa")}}), (StageSettings("dev", "one", "d1", {}),))
    two = RestApi("two", document({"/b": {"get": operation("fb")}}), (StageSettings("prod", "two", "d2", {}),))
    under_test = Gateway([one, two], functions)

    statuses = [respond(under_test, request(path, "GET")).status for path in ("/dev/a", "/dev/b", "/prod/a", "/prod/b")]

    assert statuses == [200, 403, 403, 200]
    assert [event["requestContext"]["apiId"] for event in functions.events] == ["one", "two"]


def test_functions_get_the_timeout_of_their_integration() -> None:
    paths = {
        "/slow": {"post": operation("slow", integration={"timeoutInMillis": 5000})},
        "/other": {"post": operation("other", integration={"timeoutInMillis": 50})},
    }
    functions = FakeFunctions()
    under_test = gateway(paths, functions)

    for path in paths:
        respond(under_test, request(f"/dev{path}"))

    assert functions.calls == [("slow", "", 5.0), ("other", "", 0.05)]


def wait(under_test: Gateway, one: Request) -> Response:
    async def run() -> Response:
        response = under_test.handle(one)
        return response if isinstance(response, Response) else await response

    return asyncio.run(run())


def test_slow_answer_is_awaited() -> None:
    async def later() -> Invocation:
        await asyncio.sleep(0)
        return Invocation({"statusCode": 201})

    under_test = gateway(PATHS, FakeFunctions(lambda event: later()), stage(variables=V1))

    assert wait(under_test, request("/dev/x")).status == 201


def test_missing_answer_gets_504() -> None:
    async def never() -> Invocation:
        await asyncio.Event().wait()
        raise AssertionError

    paths = {"/x": {"post": operation(integration={"timeoutInMillis": 50})}}
    under_test = gateway(paths, FakeFunctions(lambda event: never()))

    response = wait(under_test, request("/dev/x"))

    assert error_of(response) == (504, b'{"message": "Endpoint request timed out"}', "InternalServerErrorException")


@pytest.mark.parametrize("error", [TimeoutError, RuntimeError])
def test_awaited_function_that_raises_gets_500(error: type[Exception], caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> Invocation:
        raise error("its own")

    under_test = gateway(PATHS, FakeFunctions(lambda event: broken()), stage(variables=V1))

    assert wait(under_test, request("/dev/x")).status == 500
    assert "its own" in caplog.text


def test_canceled_run_gets_502() -> None:
    async def cancelled() -> Invocation:
        raise asyncio.CancelledError

    under_test = gateway(PATHS, FakeFunctions(lambda event: cancelled()), stage(variables=V1))

    assert wait(under_test, request("/dev/x")).status == 502


def test_disconnected_client_is_logged_and_its_request_canceled() -> None:
    logged: list[int] = []
    started = asyncio.Event()

    async def never() -> Invocation:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError

    under_test = gateway(
        PATHS,
        FakeFunctions(lambda event: never()),
        stage(variables=V1),
        observers=[lambda exchange, response, duration_s: logged.append(response.status)],
    )

    async def run() -> None:
        response = under_test.handle(request("/dev/x"))
        assert not isinstance(response, Response)
        task = asyncio.ensure_future(response)
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert logged == [499]


def test_every_request_is_logged_once() -> None:
    logged: list[tuple[int, float]] = []
    ticks = iter(range(100))

    def log(exchange: Exchange, response: Response, duration_s: float) -> None:
        logged.append((response.status, duration_s))

    under_test, _ = served(observers=[log], monotonic=lambda: float(next(ticks)))

    for path in ("/dev/x", "/dev/y", "nonsense"):
        respond(under_test, request(path))

    assert logged == [(200, 1.0), (403, 1.0), (400, 1.0)]


def test_failing_log_does_not_affect_the_request(caplog: pytest.LogCaptureFixture) -> None:
    def broken(exchange: Exchange, response: Response, duration_s: float) -> None:
        raise BrokenPipeError

    under_test, _ = served(observers=[broken])

    assert respond(under_test, request("/dev/x")).status == 200
    assert "could not be observed" in caplog.text


LATIN = st.text(st.characters(max_codepoint=255), max_size=20)
PATH = LATIN | st.lists(st.sampled_from(["dev", "x", "p", "", "%41", "%4", "é"])).map(
    lambda names: "/" + "/".join(names)
)


@given(LATIN | st.just("POST"), PATH, LATIN, st.lists(st.tuples(LATIN, LATIN), max_size=5), st.binary(max_size=50))
def test_no_request_gets_a_500(method: str, path: str, query: str, headers: list[tuple[str, str]], body: bytes) -> None:
    functions = FakeFunctions()
    under_test = gateway(PATHS, functions, stage(variables=V1))

    response = respond(under_test, Request(method, path, query, headers, body))

    assert response.status in {200, 400, 403}
    assert (response.status == 200) is (len(functions.events) == 1)
    for event in functions.events:
        json.dumps(event)


def test_validated_operation_checks_path_header_and_query() -> None:
    parameters = [
        {"name": "X-H", "in": "header", "required": True},
        {"name": "optional", "in": "query"},
        {"name": "jar", "in": "cookie", "required": True},
    ]
    paths = {
        "/v": {
            "parameters": [{"$ref": "#/components/parameters/q"}],
            "post": operation(parameters=parameters, **{"x-amazon-apigateway-request-validator": "params"}),
            "get": operation(),
        }
    }
    under_test = gateway(
        paths,
        FakeFunctions(),
        request_validators={"params": {"validateRequestParameters": True}},
        components={"parameters": {"q": {"name": "q", "in": "query", "required": True}}},
    )

    assert respond(under_test, request("/dev/v", query="q=1", headers={"x-h": "1"})).status == 200
    assert respond(under_test, request("/dev/v", "GET")).status == 200
    for query, headers, missing in (("", {}, "X-H, q"), ("q=", {"x-h": "1"}, "q"), ("q=1", {"x-h": ""}, "X-H")):
        response = respond(under_test, request("/dev/v", query=query, headers=headers))
        expected = {"message": f"Missing required request parameters: [{missing}]"}
        assert (response.status, json.loads(response.body)) == (400, expected)


BODY = {
    "requestBody": {
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["inputs"],
                    "properties": {"inputs": {"type": "array", "minItems": 2}, "minItems": {"type": "string"}},
                }
            }
        }
    }
}


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        (None, b'{"inputs": [1]}', 200),  # an imported model's minItems is not enforced
        ("application/json; charset=utf-8", b'{"inputs": []}', 200),
        ("application/json", b"{}", 400),
        ("application/json", b"", 400),
        ("application/json", b'{"inputs": [], "minItems": 1}', 400),  # here this is the name of a property
        ("text/plain", b"anything", 200),
    ],
)
def test_body_is_checked_against_the_model_of_its_content_type(
    content_type: str | None, body: bytes, status: int
) -> None:
    under_test = gateway(
        {"/v": {"post": operation(**BODY)}},
        FakeFunctions(),
        request_validator="body",
        request_validators={"body": {"validateRequestBody": True}},
    )
    headers = {"content-type": content_type} if content_type else {}

    assert respond(under_test, request("/dev/v", headers=headers, body=body)).status == status


def test_empty_body_is_checked_as_an_empty_object() -> None:
    body = {"requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}}}
    under_test = gateway(
        {"/v": {"post": operation(**body)}},
        FakeFunctions(),
        request_validator="body",
        request_validators={"body": {"validateRequestBody": True}},
    )

    assert respond(under_test, request("/dev/v")).status == 200
    assert respond(under_test, request("/dev/v", body=b"[]")).status == 400


def test_event_contains_the_id_of_its_api() -> None:
    under_test, functions = served()

    respond(under_test, request("/dev/x"))

    assert functions.events[0]["requestContext"]["apiId"] == API


@dataclass
class CountedStages:
    """Stages that count how often their snapshot is read."""

    stages: Stages
    taken: int = 0

    @property
    def snapshot(self) -> Snapshot:
        self.taken += 1
        return self.stages.snapshot


@pytest.mark.parametrize("path", ["/dev/x", "/dev/y/z", "/x", "/nowhere", "/dev/%", "/own/things"])
def test_a_request_reads_the_snapshot_once(path: str) -> None:
    paths = {"/x": {"post": operation("f")}, "/{a+}": {"post": operation("f")}}
    under_test = gateway(paths, FakeFunctions(), stage(), services={"own": lambda _: Response(200)})
    counted: Any = CountedStages(under_test.stages)
    under_test.stages = counted
    respond(under_test, request(path))
    under_test.admit(request(path))
    assert counted.taken == 2

from __future__ import annotations

from typing import Any

import pytest

from router_lambda.general.open_inference import parse_path
from router_lambda.proxy_answers import answer_error, answer_failure, with_headers
from tests.builders.general_router import (
    ANY_RANK,
    VARIABLES,
    FakeFunctions,
    X,
    Y,
    ask,
    route_event,
    small_catalogue,
    v2_event,
)
from turnout.protocol.aws.events import PING, make_answer
from turnout.protocol.errors import RequestError
from turnout.protocol.routing.choice import read_hop
from turnout.protocol.routing.invocation import Answered


def test_server_metadata_names_the_extensions() -> None:
    reply = ask(route_event("/v2"))
    assert reply.status == 200
    assert reply.json == {"name": "turnout", "version": "1.2.3", "extensions": ["binary_tensor_data"]}


def test_server_is_live_without_a_call() -> None:
    functions = FakeFunctions()
    assert ask(v2_event("health/live"), functions).json == {"live": True}
    assert functions.calls == []


def test_server_is_ready_when_all_served_versions_answer() -> None:
    functions = FakeFunctions()
    reply = ask(v2_event("health/ready"), functions)
    assert (reply.status, reply.json) == (200, {"ready": True})
    assert sorted(functions.called) == ["turnout-local_forest_v1", "turnout-local_forest_v2", "turnout-local_iris_v1"]
    assert all((alias, event) == ("live", PING) for _, alias, event, _ in functions.calls)


@pytest.mark.parametrize(
    ("proxy", "asked"),
    [
        ("models/iris/ready", ["turnout-local_iris_v1"]),
        ("models/iris/versions/v2/ready", ["turnout-local_iris_v2"]),
        ("models/forest/ready", ["turnout-local_forest_v1", "turnout-local_forest_v2"]),
        ("models/triage/ready", ["turnout-local_forest_v2", "turnout-local_iris_v1"]),
    ],
)
def test_model_is_ready_when_everything_it_reaches_answers(proxy: str, asked: list[str]) -> None:
    functions = FakeFunctions()
    reply = ask(v2_event(proxy), functions)
    assert (reply.status, reply.json) == (200, {"name": proxy.split("/")[1], "ready": True})
    assert sorted(functions.called) == asked


def test_model_that_does_not_answer_is_not_ready() -> None:
    reply = ask(v2_event("models/iris/ready"), FakeFunctions({"turnout-local_iris_v1": Answered(None, "throttled")}))
    assert (reply.status, reply.json["error"]) == (503, "not ready: iris v1 is throttled")


@pytest.mark.parametrize("proxy", ["models/iris", "models/iris/versions/v2"])
def test_model_metadata_has_the_format_of_the_protocol(proxy: str) -> None:
    assert ask(v2_event(proxy)).json == {
        "name": "iris",
        "versions": ["v1", "v2"],
        "platform": "onnxruntime_onnx",
        "inputs": [X],
        "outputs": [Y],
    }


def test_metadata_without_a_version_is_that_of_the_version_with_most_calls() -> None:
    catalogue = small_catalogue()
    catalogue.models["forest"].versions["v1"].signature["inputs"][0] = {
        "name": "of v1",
        "datatype": "BOOL",
        "shape": [],
    }  # type: ignore[index]
    assert ask(v2_event("models/forest"), catalogue=catalogue).json["inputs"][0]["name"] == "of v1"
    turned = {**VARIABLES, "forestRoute": "v1.10,v2.90"}
    assert ask(v2_event("models/forest", variables=turned), catalogue=catalogue).json["inputs"][0]["name"] == "x"


@pytest.mark.parametrize("variables", [{}, {"iris": "v9"}])
def test_metadata_of_a_model_that_is_not_served_is_that_of_its_first_version(variables: dict[str, str]) -> None:
    assert ask(v2_event("models/iris", variables=variables)).json["inputs"] == [X]


def test_metadata_of_a_graph() -> None:
    metadata = ask(v2_event("models/triage")).json
    assert metadata["platform"] == "ensemble"
    assert metadata["versions"] == []
    assert metadata["outputs"] == [{**ANY_RANK, "shape": None}]


@pytest.mark.parametrize(
    ("proxy", "function", "path"),
    [
        ("models/iris/infer", "turnout-local_iris_v1", "/models/iris/inference"),
        ("models/iris/versions/v2/infer", "turnout-local_iris_v2", "/models/iris/v2/inference"),
        ("models/forest/infer", "turnout-local_forest_router", "/models/forest/inference"),
        ("models/triage/infer", "turnout-local_triage_router", "/models/triage/inference"),
        ("models/%69ris/versions/v%32/infer", "turnout-local_iris_v2", "/models/iris/v2/inference"),
    ],
)
def test_inference_calls_the_same_function_as_the_direct_route(proxy: str, function: str, path: str) -> None:
    functions = FakeFunctions()
    event = {
        **v2_event(proxy, "POST", variables={**VARIABLES, "alias": "next"}),
        "body": "QUJD",
        "isBase64Encoded": True,
    }
    assert ask(event, functions).status == 200
    [(called, alias, handed, _)] = functions.calls
    assert (called, alias) == (function, "next")
    assert (handed["resource"], handed["path"], handed["pathParameters"]) == (path, path, None)
    assert read_hop(handed) == 1
    kept = ("httpMethod", "headers", "stageVariables", "requestContext", "body", "isBase64Encoded")
    assert {key: handed[key] for key in kept} == {key: event[key] for key in kept}


def test_inference_answer_is_passed_on_unchanged() -> None:
    answer = make_answer(200, {"Content-Type": "application/json", "x-turnout-version": "v1"}, b'{"outputs": [1]}')
    reply = ask(v2_event("models/iris/infer", "POST"), FakeFunctions({"turnout-local_iris_v1": answer}))
    assert (reply.json, reply.headers) == ({"outputs": [1]}, answer["headers"])


def test_error_of_a_function_is_passed_on_unchanged() -> None:
    answer = answer_error(RequestError("SHAPE_MISMATCH", "input `x`: expected shape [-1, 4], got [1, 3]"))
    reply = ask(v2_event("models/iris/infer", "POST"), FakeFunctions({"turnout-local_iris_v1": answer}))
    assert (reply.status, reply.json["error"]) == (400, "input `x`: expected shape [-1, 4], got [1, 3]")


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        ("failed", 502, "Internal server error"),
        ("timed_out", 504, "Endpoint request timed out"),
        ("throttled", 429, "Too Many Requests"),
        ("too_large", 502, "Internal server error"),
        ("request_too_large", 413, "Request Too Long"),
        ("unknown_function", 500, "Internal server error"),
    ],
)
def test_failure_is_reported_in_the_format_of_the_protocol(error: str, status: int, sentence: str) -> None:
    """API Gateway's own errors use `message`, which tritonclient does not read."""
    said_by_us = Answered(None, error)
    said_by_the_models_router = with_headers(answer_failure(error), {"x-turnout-model": "iris"})
    for answer in (said_by_us, said_by_the_models_router):
        reply = ask(v2_event("models/iris/infer", "POST"), FakeFunctions({"turnout-local_iris_v1": answer}))
        assert (reply.status, reply.json) == (status, {"error": sentence})


def test_malformed_answer_of_a_function_is_a_failure() -> None:
    reply = ask(v2_event("models/iris/infer", "POST"), FakeFunctions({"turnout-local_iris_v1": {"rubbish": 1}}))
    assert (reply.status, reply.json) == (502, {"error": "Internal server error"})


@pytest.mark.parametrize(
    ("proxy", "status", "code"),
    [
        ("models/nope/infer", 404, "UNKNOWN_MODEL"),
        ("models/iris/versions/1/infer", 404, "UNKNOWN_VERSION"),
        ("models/iris/versions/router/infer", 404, "UNKNOWN_VERSION"),
        ("models/iris%2Fversions%2Fv1/infer", 404, "UNKNOWN_MODEL"),
        ("models/%E6%A8%A1/infer", 404, "UNKNOWN_MODEL"),
        ("models/iris/v1/infer", 404, "UNKNOWN_PATH"),
        ("repository/index", 404, "UNKNOWN_PATH"),
    ],
)
def test_unknown_names_are_404_and_call_nothing(proxy: str, status: int, code: str) -> None:
    functions = FakeFunctions()
    reply = ask(v2_event(proxy, "POST"), functions)
    assert (reply.status, reply.json["code"]) == (status, code)
    assert isinstance(reply.json["error"], str)
    assert functions.calls == []


@pytest.mark.parametrize(
    ("event", "allow"),
    [
        *(
            (v2_event(proxy, method), "GET")
            for proxy in ("health/live", "health/ready", "models/iris", "models/iris/ready", "models/nope")
            for method in ("POST", "PUT", "OPTIONS", "DELETE")
        ),
        *((route_event("/v2", method), "GET") for method in ("POST", "PATCH")),
        *((v2_event("models/iris/infer", method), "POST") for method in ("GET", "HEAD", "PUT", "OPTIONS")),
    ],
)
def test_other_methods_are_405_with_the_allowed_one(event: dict[str, Any], allow: str) -> None:
    functions = FakeFunctions()
    reply = ask(event, functions)
    assert (reply.status, reply.json["code"], reply.headers["Allow"]) == (405, "METHOD_NOT_ALLOWED", allow)
    assert functions.calls == []


@pytest.mark.parametrize("proxy", ["health/live", "health/ready", "models/iris", "models/iris/ready"])
def test_head_is_answered_like_get(proxy: str) -> None:
    head, get = (ask(v2_event(proxy, method), FakeFunctions()) for method in ("HEAD", "GET"))
    assert (head.status, head.headers) == (get.status, get.headers)


@pytest.mark.parametrize(
    "proxy",
    [
        *("/", "%", "%%%", "a/b/c/d/e", "health", "health/", "health/live/"),
        *("models", "models/", "models//infer", "models/iris/", "models/iris//"),
        *("models/iris/versions", "models/iris/versions//", "models/iris/versions//infer", "models/iris/versions/v1/"),
    ],
)
def test_nearly_right_paths_do_not_exist(proxy: str) -> None:
    assert parse_path(proxy) is None
    assert ask(v2_event(proxy)).status == 404

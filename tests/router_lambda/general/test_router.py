from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from tests.builders.general_router import VARIABLES, FakeFunctions, ask, route_event, small_catalogue
from turnout.protocol.aws.limits import LARGEST_BODY_BYTES
from turnout.protocol.routing.catalogue import Catalogue
from turnout.protocol.routing.invocation import Answered


def test_live_is_answered_without_a_call() -> None:
    functions = FakeFunctions()
    reply = ask(route_event("/health/live"), functions)
    assert (reply.status, reply.json, functions.calls) == (200, {"live": True}, [])


def test_ready_pings_every_served_version() -> None:
    functions = FakeFunctions()
    assert ask(route_event("/health/ready"), functions).json == {"ready": True}
    assert sorted(functions.called) == ["turnout-local_forest_v1", "turnout-local_forest_v2", "turnout-local_iris_v1"]


def test_ready_is_503_with_the_list_of_versions_that_are_not() -> None:
    functions = FakeFunctions({"turnout-local_forest_v2": Answered(None, "timed_out")})
    reply = ask(route_event("/health/ready", variables={**VARIABLES, "iris": ""}), functions)
    assert reply.status == 503
    assert reply.json == {
        "error": "not ready: iris is not served: no stage variable names a version of it; forest v2 did not "
        "answer in time",
        "code": "NOT_READY",
        "details": {
            "not_ready": [
                {
                    "model": "iris",
                    "version": "",
                    "reason": "is not served: no stage variable names a version of it",
                },
                {"model": "forest", "version": "v2", "reason": "did not answer in time"},
            ]
        },
    }


@pytest.mark.parametrize(
    ("base", "headers", "url"),
    [
        ("/prod", {"Host": "api.example.com", "X-Forwarded-Proto": "https"}, "https://api.example.com/prod"),
        ("", {"host": "127.0.0.1:8080", "x-forwarded-proto": "http"}, "http://127.0.0.1:8080"),
        ("/mapped", {"Host": "api.example.com"}, "https://api.example.com/mapped"),
    ],
)
def test_document_has_the_address_at_which_it_was_requested(base: str, headers: dict[str, str], url: str) -> None:
    document = ask({**route_event("/openapi.json", base=base), "headers": headers}).json
    assert document == {"servers": [{"url": url}], "openapi": "3.0.3"}


def test_document_of_a_stage_missing_in_models_yaml_is_404() -> None:
    event = route_event("/openapi.json")
    event["requestContext"]["stage"] = "staging"
    assert (ask(event).status, ask(event).json["code"]) == (404, "UNKNOWN_PATH")


@pytest.mark.parametrize(("spare", "status"), [(100, 200), (0, 413)])
def test_document_over_the_limit_of_lambda_is_a_clear_error(spare: int, status: int) -> None:
    large = Catalogue(
        "turnout-local", "turnout", "1", {}, {"prod": '{"x":"' + "x" * (LARGEST_BODY_BYTES - spare - 50) + '"}'}
    )
    reply = ask({**route_event("/openapi.json"), "headers": None}, catalogue=large)
    assert reply.status == status
    if status == 413:
        assert reply.json["code"] == "ANSWER_TOO_LARGE"


HUGE = '{"x":"' + "x" * LARGEST_BODY_BYTES + '"}'


@pytest.mark.parametrize("accepted", ["gzip", "br, GZIP ;q=0.5", "*", "deflate,x-gzip"])
def test_document_over_the_limit_is_compressed_for_clients_that_accept_it(accepted: str) -> None:
    event = {**route_event("/openapi.json"), "headers": {"Host": "a.example", "Accept-Encoding": accepted}}
    reply = ask(event, catalogue=Catalogue("turnout-local", "turnout", "1", {}, {"prod": HUGE}))
    assert reply.status == 200
    assert reply.headers["Content-Encoding"] == "gzip"
    assert reply.headers["Vary"] == "Accept-Encoding"
    assert reply.json.pop("servers")
    assert reply.json == json.loads(HUGE)


@pytest.mark.parametrize("accepted", ["", "br", "gzip;q=0", "gzip; q=0.000", "identity"])
def test_other_clients_are_told_what_would_help(accepted: str) -> None:
    event = {**route_event("/openapi.json"), "headers": {"Accept-Encoding": accepted}}
    reply = ask(event, catalogue=Catalogue("turnout-local", "turnout", "1", {}, {"prod": HUGE}))
    assert reply.status == 413
    assert reply.json["error"].endswith("with `Accept-Encoding: gzip` it is compressed")


def test_unknown_route_is_404() -> None:
    assert ask(route_event("/elsewhere")).json["code"] == "UNKNOWN_PATH"


@pytest.mark.parametrize("broken", [{"requestContext": None}, {"resource": None}, {"pathParameters": {"odd": 1}}])
def test_event_that_api_gateway_never_sends_is_a_502_with_a_log_line(
    broken: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        reply = ask({**route_event("/models"), **broken}, catalogue=small_catalogue())
    assert (reply.status, reply.json) == (502, {"message": "Internal server error"})
    assert "the general router failed" in caplog.text

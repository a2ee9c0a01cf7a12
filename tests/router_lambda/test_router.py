"""A routed model's router: versions, keys, overrides, copies, fallbacks and failures."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_lambda.proxy_answers import FAILURES
from router_lambda.router import Router
from tests.builders.callees import Behaviour, Callees, answering, failing, hanging
from turnout.gateway.rules.errors import ERROR_OF_INVOCATION, EVENT_TOO_LARGE, UNKNOWN_ROUTE
from turnout.protocol.aws.limits import LARGEST_ASYNC_EVENT_BYTES
from turnout.protocol.routing.choice import MOST_HOPS
from turnout.protocol.routing.invocation import Answered
from turnout.protocol.routing.route_table import ModelRoute, RouteTable, VersionRoute
from turnout.protocol.routing.sticky import Sticky

V1, V2, V3 = "turnout-local_iris_v1", "turnout-local_iris_v2", "turnout-local_iris_v3"
DEADLINE_S = 100.0
NOW_S = 71.0


def table(**route: Any) -> RouteTable:
    versions = {"v1": VersionRoute(15), "v2": VersionRoute(15), "v3": VersionRoute(4)}
    return RouteTable("iris", "turnout-local", {"iris": ModelRoute("iris", versions, **route)}, frozenset({"beta"}))


def event(route: str = "v1.100", stage: str = "prod", **fields: Any) -> dict[str, Any]:
    variables = {"iris": "router", "irisRoute": route, "alias": "live", "canary": "false"}
    return {
        "headers": {},
        "body": "{}",
        "isBase64Encoded": False,
        "requestContext": {"stage": stage, "requestId": "r1", "identity": {}},
        "stageVariables": variables,
        **fields,
    }


def answer(
    callees: Callees,
    sent: dict[str, Any],
    *,
    random: Callable[[], float] = lambda: 0.5,
    clock: Callable[[], float] = lambda: NOW_S,
    **route: Any,
) -> dict[str, Any]:
    async def run() -> dict[str, Any]:
        response = await Router(table(**route), callees, random=random, clock=clock).answer(sent, DEADLINE_S)
        await asyncio.sleep(0)  # copies start when the loop is next free
        return response

    return asyncio.run(run())


def three(one: Behaviour | None = None, two: Behaviour | None = None, three_: Behaviour | None = None) -> Callees:
    behaviours = {V1: one or answering(body="1"), V2: two or answering(body="2"), V3: three_ or answering(body="3")}
    return Callees(behaviours)


def test_the_answer_of_the_chosen_version_says_how_it_was_chosen() -> None:
    given = {"statusCode": 201, "headers": {"x-turnout-version": "v1"}, "body": "AAE=", "isBase64Encoded": True}
    callees = three(lambda _event: Answered(given))
    assert answer(callees, event()) == {
        **given,
        "headers": {"x-turnout-version": "v1", "x-turnout-route": "weight"},
    }
    assert callees.called() == [V1]
    assert "x-turnout-route" not in given["headers"]


@pytest.mark.parametrize(("draw", "function"), [(0.0, V1), (0.89, V1), (0.91, V2), (0.999, V2)])
def test_without_a_key_each_request_gets_a_random_version(draw: float, function: str) -> None:
    callees = three()
    answer(callees, event("v1.90,v2.10,v3.0"), random=lambda: draw)
    assert callees.called() == [function]


def test_the_alias_is_that_of_the_stage_and_the_event_is_passed_on_completely() -> None:
    callees = three()
    sent = event(headers={"X-Amzn-Trace-Id": "Root=1-2-3"})
    sent["stageVariables"]["alias"] = "next"
    answer(callees, sent)
    (call,) = callees.calls
    assert call.alias == "next"
    assert call.event == {**sent, "turnout": {"hop": 1, "shadow": False}}
    assert call.deadline_s == DEADLINE_S


def test_a_canary_that_sends_the_model_to_a_version_is_followed() -> None:
    callees = three()
    sent = event()
    sent["stageVariables"] |= {"iris": "v2", "canary": "true"}
    assert answer(callees, sent)["headers"]["x-turnout-route"] == "weight"
    assert callees.called() == [V2]


def test_a_caller_with_a_key_always_gets_the_same_version() -> None:
    seen: dict[str, set[str]] = {}
    for number in range(60):
        user = f"user-{number % 20}"
        callees = three()
        response = answer(
            callees,
            event("v1.50,v2.50", headers={"X-User-Id": user}),
            random=lambda: pytest.fail("drawn for a key"),
            sticky=Sticky("header", "x-user-id"),
        )
        assert response["headers"]["x-turnout-route"] == "sticky"
        seen.setdefault(user, set()).update(callees.called())
    assert all(len(functions) == 1 for functions in seen.values())
    assert len(set.union(*seen.values())) == 2


@pytest.mark.parametrize("named", ["v9", "router", "v1:next"])
def test_an_unknown_version_is_not_called_and_its_fallback_is(named: str) -> None:
    callees = three()
    bare, safe = answer(callees, event(f"{named}.100")), answer(callees, event(f"{named}.100"), fallback="v1")
    assert (bare["statusCode"], safe["headers"]["x-turnout-fallback-from"]) == (500, named)
    assert callees.called() == [V1]


def test_a_caller_without_its_key_gets_a_random_version() -> None:
    response = answer(three(), event("v1.50,v2.50"), sticky=Sticky("header", "x-user-id"))
    assert response["headers"]["x-turnout-route"] == "weight"


def test_a_header_chooses_the_version_if_the_stage_allows_it() -> None:
    callees = three()
    response = answer(callees, event(stage="beta", headers={"X-Turnout-Version": "v3"}))
    assert (callees.called(), response["headers"]["x-turnout-route"]) == ([V3], "override")


@pytest.mark.parametrize(
    ("stage", "wanted", "status", "code"),
    [("prod", "v2", 400, "VERSION_NOT_ALLOWED"), ("beta", "v9", 404, "UNKNOWN_VERSION")],
)
def test_a_forbidden_or_impossible_choice_by_header_is_rejected(
    stage: str, wanted: str, status: int, code: str
) -> None:
    callees = three()
    response = answer(callees, event(stage=stage, headers={"x-turnout-version": wanted}))
    assert (response["statusCode"], json.loads(response["body"])["code"]) == (status, code)
    assert "x-turnout-version" in json.loads(response["body"])["error"]
    assert callees.calls == []


@pytest.mark.parametrize("is_allowed", [True, False])
def test_an_empty_header_chooses_nothing(is_allowed: bool) -> None:
    sent = event(stage="beta" if is_allowed else "prod", headers={"x-turnout-version": ""})
    assert answer(three(), sent)["body"] == "1"


# Copies


def test_a_share_of_the_calls_is_copied_and_copies_are_not_answered() -> None:
    counts: Counter[str] = Counter()
    draws = [number / 100 for number in range(100)]
    for draw in draws:
        callees = three()
        callees.accept = answering(body="the copy's")
        assert answer(callees, event(), random=lambda draw=draw: draw, shadow="v2", shadow_percent=5.0)["body"] == "1"
        counts.update(callees.copied())
    assert counts == {V2: 5}


def test_a_copy_is_marked_as_one_and_never_copied_again() -> None:
    callees = three()
    answer(callees, event(), shadow="v2", shadow_percent=100.0)
    (copy,) = [call for call in callees.calls if call.asynchronous]
    assert copy.event["turnout"] == {"hop": 1, "shadow": True}
    again = three()
    answer(again, dict(copy.event), shadow="v2", shadow_percent=100.0)
    assert again.copied() == []


def test_a_replay_is_not_copied_and_stays_one() -> None:
    callees = three()
    answer(callees, event(turnout={"replay": True}), shadow="v2", shadow_percent=100.0)
    assert callees.copied() == []
    assert callees.calls[0].event["turnout"] == {"hop": 1, "shadow": False, "replay": True}


def test_a_caller_that_claims_to_be_a_replay_is_still_copied() -> None:
    callees = three()
    answer(callees, event(headers={"x-turnout-replay": "1"}), shadow="v2", shadow_percent=100.0)
    assert len(callees.copied()) == 1


def test_the_version_that_answers_gets_no_copy() -> None:
    callees = three()
    answer(callees, event("v2.100"), shadow="v2", shadow_percent=100.0)
    assert callees.copied() == []


@pytest.mark.parametrize(("more", "copies"), [(0, [V2]), (1, [])])
def test_a_body_over_the_limit_of_lambda_for_copies_is_not_copied(more: int, copies: list[str]) -> None:
    callees = three()
    sent = event(body="x" * (LARGEST_ASYNC_EVENT_BYTES + more))
    assert answer(callees, sent, shadow="v2", shadow_percent=100.0)["statusCode"] == 200
    assert callees.copied() == copies


@pytest.mark.parametrize("error", ["throttled", "request_too_large", "failed"])
def test_a_rejected_copy_does_not_affect_the_caller(error: str, caplog: pytest.LogCaptureFixture) -> None:
    callees = three()
    callees.accept = failing(error)
    assert answer(callees, event(), shadow="v2", shadow_percent=100.0)["statusCode"] == 200
    assert f"the copy was not taken: {error}" in caplog.text


def test_a_copy_that_raises_does_not_affect_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    def throw(_event: Any) -> Answered:
        raise ConnectionError("as told")

    callees = three()
    callees.accept = throw
    assert answer(callees, event(), shadow="v2", shadow_percent=100.0)["statusCode"] == 200
    assert "the copy could not be sent" in caplog.text


def test_a_hanging_copy_does_not_delay_the_caller() -> None:
    async def run() -> str:
        gate = asyncio.Event()
        callees = three()
        callees.accept = hanging(gate)
        router = Router(table(shadow="v2", shadow_percent=100.0), callees, random=lambda: 0.5, clock=lambda: NOW_S)
        async with asyncio.timeout(5):
            result = await router.answer(event(), DEADLINE_S)
        await asyncio.sleep(0)
        assert callees.copied() == [V2]
        gate.set()
        return str(result["body"])

    assert asyncio.run(run()) == "1"


# Fallbacks

FAULTS = [
    failing("failed"),
    failing("timed_out"),
    failing("throttled"),
    failing("unknown_function"),
    answering(500),
    answering(503, body="not JSON"),
    lambda _event: Answered({"statusCode": "many"}),
    lambda _event: Answered({"body": {}}),
    lambda _event: Answered({"rubbish": 1}),
    lambda _event: Answered([]),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("fault", FAULTS)
def test_another_version_answers_if_the_chosen_one_fails(fault: Behaviour, caplog: pytest.LogCaptureFixture) -> None:
    callees = three(two=fault)
    response = answer(callees, event("v2.100"), fallback="v1")
    assert (response["statusCode"], response["body"]) == (200, "1")
    assert response["headers"] == {"x-turnout-route": "fallback", "x-turnout-fallback-from": "v2"}
    assert callees.called() == [V2, V1]
    assert "iris: v1 answered instead of v2, which failed" in caplog.text


@pytest.mark.parametrize("status", [200, 400, 404, 422, 429])
def test_errors_that_are_not_the_fault_of_the_version_are_passed_on(status: int) -> None:
    callees = three(two=answering(status, body="2"))
    response = answer(callees, event("v2.100"), fallback="v1")
    assert (response["statusCode"], response["body"]) == (status, "2")
    assert callees.called() == [V2]


@pytest.mark.parametrize("error", ["too_large", "request_too_large"])
def test_errors_that_another_version_would_repeat_are_not_retried(error: str) -> None:
    callees = three(two=failing(error))
    assert answer(callees, event("v2.100"), fallback="v1")["statusCode"] == FAILURES[error].status
    assert callees.called() == [V2]


def test_a_fallback_is_tried_once_and_its_failure_is_not_returned() -> None:
    callees = three(one=failing("timed_out"), two=answering(500, body="2"))
    response = answer(callees, event("v2.100"), fallback="v1")
    assert (response["statusCode"], response["body"], response["headers"]["x-turnout-route"]) == (500, "2", "weight")
    assert callees.called() == [V2, V1]


def test_a_version_is_not_its_own_fallback() -> None:
    callees = three(one=failing("failed"))
    assert answer(callees, event("v1.100"), fallback="v1")["statusCode"] == 502
    assert callees.called() == [V1]


@pytest.mark.parametrize(("fallback", "reserved_s"), [("v1", 14.5), ("v3", 4.0), ("", 0.0)])
def test_the_first_call_leaves_time_for_the_second(fallback: str, reserved_s: float) -> None:
    callees = three(two=failing("timed_out"))
    answer(callees, event("v2.100"), fallback=fallback)
    assert [call.deadline_s for call in callees.calls] == [DEADLINE_S - reserved_s, *([DEADLINE_S] if fallback else [])]


def test_without_time_left_nothing_is_called() -> None:
    callees = three()
    response = answer(callees, event(), clock=lambda: DEADLINE_S, fallback="v2")
    assert (response["statusCode"], callees.called()) == (504, [])


# Without a fallback


@pytest.mark.parametrize("error", sorted(FAILURES))
def test_a_failure_is_reported_as_by_api_gateway(error: str) -> None:
    response = answer(three(one=failing(error)), event())
    named = {"request_too_large": EVENT_TOO_LARGE, "unknown_route": UNKNOWN_ROUTE}
    expected = {**ERROR_OF_INVOCATION, **named}[error]
    assert (response["statusCode"], json.loads(response["body"])) == (expected.status, {"message": expected.message})
    assert response["headers"]["x-amzn-ErrorType"] == expected.code
    assert response["headers"]["x-turnout-version"] == "v1"


def test_an_unknown_failure_is_a_bad_gateway() -> None:
    assert answer(three(one=failing("eaten")), event())["statusCode"] == 502


def test_the_message_of_a_failed_call_is_only_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    response = answer(three(one=failing("failed")), event())
    assert "as told" not in response["body"]
    assert f"{V1}: failed: as told" in caplog.text


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        (None, "stage variable iris: "),
        ({}, "stage variable iris: "),
        ({"iris": "router"}, "stage variable irisRoute: "),
        ({"iris": "router", "irisRoute": ""}, "stage variable irisRoute: "),
        ({"iris": "router", "irisRoute": "v1.0"}, "stage variable irisRoute: "),
        ({"iris": "v9"}, "stage variable iris: "),
        ({"iris": "router", "irisRoute": "v9.100"}, "iris has no version v9"),
    ],
)
def test_variables_without_a_version_are_a_misconfigured_api(
    variables: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    response = answer(three(), event(stageVariables=variables), fallback="")
    assert (response["statusCode"], json.loads(response["body"])) == (500, {"message": "Internal server error"})
    assert reason in caplog.text


def test_a_request_that_loops_is_rejected() -> None:
    callees = three()
    sent = event(turnout={"hop": MOST_HOPS, "shadow": False})
    response = answer(callees, sent)
    assert (response["statusCode"], json.loads(response["body"])["code"], callees.calls) == (508, "LOOP", [])
    assert answer(callees, event(turnout={"hop": MOST_HOPS - 1, "shadow": False}))["statusCode"] == 200


def test_an_internal_error_is_a_bad_gateway_and_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def throw(_event: Any) -> Answered:
        raise ZeroDivisionError

    response = answer(three(one=throw), event())
    assert (response["statusCode"], json.loads(response["body"])) == (502, {"message": "Internal server error"})
    assert "ZeroDivisionError" in caplog.text


# Everything at once

VERSIONS = ("v1", "v2", "v3")
optional_version = st.sampled_from(["", *VERSIONS])


@settings(deadline=None, max_examples=150)
@given(
    broken=st.dictionaries(st.sampled_from(VERSIONS), st.sampled_from(FAULTS)),
    weights=st.dictionaries(st.sampled_from(VERSIONS), st.integers(1, 100), min_size=1),
    fallback=optional_version,
    shadow=optional_version,
    copy_is_taken=st.booleans(),
    key=st.none() | st.text(min_size=1, max_size=5),
    seed=st.integers(),
)
def test_for_any_failures_a_caller_gets_the_chosen_version_or_its_fallback_and_never_a_copy(
    broken: dict[str, Behaviour],
    weights: dict[str, int],
    fallback: str,
    shadow: str,
    copy_is_taken: bool,
    key: str | None,
    seed: int,
) -> None:
    callees = three(*(broken.get(version) for version in VERSIONS))
    callees.accept = answering(body="the copy's") if copy_is_taken else failing("throttled")
    route = ",".join(f"{version}.{weight}" for version, weight in weights.items())
    sent = event(route, headers={} if key is None else {"x-user-id": key})
    sticky = Sticky("header", "x-user-id")
    response = answer(
        callees, sent, random=Random(seed).random, fallback=fallback, shadow=shadow, shadow_percent=50.0, sticky=sticky
    )

    called = [name.rpartition("_")[2] for name in callees.called()]
    chosen = called[0]
    assert chosen in weights
    assert called[1:] == ([fallback] if chosen in broken and fallback not in {"", chosen} else [])
    healthy = next((version for version in called if version not in broken), "")
    if healthy:
        assert (response["statusCode"], response["body"]) == (200, healthy[1:])
    else:
        assert response["statusCode"] >= 429
    assert response["body"] != "the copy's"
    assert len(callees.copied()) <= 1
    assert {name.rpartition("_")[2] for name in callees.copied()} <= {shadow} - {chosen}

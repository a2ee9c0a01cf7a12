from __future__ import annotations

import orjson
import pytest

from turnout.gateway.services.metrics import PATH, make_metrics
from turnout.gateway.shared.counters import BOUNDS_S
from turnout.gateway.shared.state import SharedState
from turnout.http_server.messages import Request, Response


def ask(state: SharedState, query: str, method: str = "GET") -> Response:
    answer = make_metrics(state.counters, "run1", lambda: 1000.0, callers=state.callers)(
        Request(method, PATH, query, (), b"")
    )
    assert isinstance(answer, Response)
    return answer


def counted() -> SharedState:
    """A server with two workers that has answered five requests."""
    state = SharedState(2)
    for worker, key, status, seconds in (
        (0, ("prod", "turnout-local_iris_v1", False), 200, 0.004),
        (1, ("prod", "turnout-local_iris_v1", False), 200, 0.004),
        (1, ("prod", "turnout-local_iris_v2", True), 500, 99.0),
        (1, ("prod", "", False), 403, 0.0),
        (0, ("dev", "turnout-local_iris_v2", False), 200, 0.004),
    ):
        state.become(worker)
        state.counters.record(key, status, seconds, failed=status == 500)
    for worker, key, status in (
        (0, ("prod", "shop", False), 200),
        (1, ("prod", "shop", False), 429),
        (1, ("prod", "shop", False), 403),
        (1, ("test", "owner", False), 200),
    ):
        state.become(worker)
        state.callers.record(key, status, 0.004)
    return state


def test_functions_of_a_stage_are_reported_for_all_workers() -> None:
    result = orjson.loads(ask(counted(), "stage=prod").body)
    durations = [0] * (len(BOUNDS_S) + 1)
    assert result == {
        "stage": "prod",
        "run": "run1",
        "time": 1000.0,
        "bounds_s": list(BOUNDS_S),
        "functions": [
            {
                "stage": "prod",
                "function": "turnout-local_iris_v1",
                "canary": False,
                "statuses": [0, 2, 0, 0, 0],
                "failures": 0,
                "seconds": 0.008,
                "durations": [*durations[:6], 2, *durations[7:]],
            },
            {
                "stage": "prod",
                "function": "turnout-local_iris_v2",
                "canary": True,
                "statuses": [0, 0, 0, 0, 1],
                "failures": 1,
                "seconds": 99.0,
                "durations": [*durations[:-1], 1],
            },
        ],
        "asynchronous": [],
        "routed": [],
        "callers": [
            {
                "stage": "prod",
                "caller": "shop",
                "statuses": [0, 1, 0, 2, 0],
                "throttled": 1,
                "seconds": 0.012,
                "durations": [*durations[:6], 3, *durations[7:]],
            }
        ],
    }


def test_a_stage_without_requests_has_no_functions() -> None:
    assert orjson.loads(ask(counted(), "stage=test").body)["functions"] == []


def test_without_a_stage_parameter_all_stages_are_shown() -> None:
    functions = orjson.loads(ask(counted(), "").body)["functions"]
    results = [(function["stage"], function["function"][-2:]) for function in functions]
    assert results == [("dev", "v2"), ("prod", "v1"), ("prod", "v2")]
    callers = orjson.loads(ask(counted(), "").body)["callers"]
    assert [(caller["stage"], caller["caller"]) for caller in callers] == [("prod", "shop"), ("test", "owner")]


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_other_methods_are_rejected(method: str) -> None:
    answer = ask(SharedState(1), "stage=prod", method)
    assert answer.status == 400
    assert orjson.loads(answer.body) == {"message": "Ask with GET /turnout/metrics or /turnout/metrics?stage=NAME"}

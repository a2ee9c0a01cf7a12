"""For which function a request is counted, and how."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from turnout.gateway.api.exchange import Exchange
from turnout.gateway.api.identifiers import Identifiers
from turnout.gateway.observers.counting import count_requests
from turnout.gateway.rules.stages import FunctionTarget, Share
from turnout.gateway.shared.counters import ROUTED, CounterKey
from turnout.gateway.shared.state import SharedState
from turnout.http_server.messages import Request, Response

VARIABLES = {"iris": "v1", "bertBase": "router", "canary": "false"}


def count(
    target: str,
    proxy: str | None = None,
    variables: dict[str, str] | None = None,
    response: Response = Response(200),  # noqa: B008 - never changed
) -> tuple[str, int]:
    """Return the function for which one request to `target` is counted, and its failures."""
    exchange: Any = Exchange(Request("POST", "/", "", (), b""), Identifiers().take(), 0.0, 0.0)
    exchange.stage = SimpleNamespace(settings=SimpleNamespace(name="prod"))
    exchange.target = FunctionTarget(target, "live", 1.0)
    exchange.share = Share(True, "d", VARIABLES if variables is None else variables or None, ())
    parameters = {} if proxy is None else {"proxy": proxy}
    exchange.routed = SimpleNamespace(share=exchange.share, parameters=parameters)
    state = SharedState(1)
    count_requests(state.counters)(exchange, response, 0.1)
    ((key, counts),) = state.counters.read().items()
    assert (key, counts.requests) == (CounterKey("prod", key.function, True), 1)
    return key.function, counts.failures


@pytest.mark.parametrize(
    ("proxy", "function"),
    [
        ("models/iris/infer", "t_iris_v1"),
        ("models/bert-base/infer", "t_bert-base_router"),
        ("models/iris", "t_router"),
        ("models/iris/ready", "t_router"),
        ("models/iris/versions/v2/infer", "t_router"),
        ("models/unknown/infer", "t_router"),
        # Names that map to the same variable; there are any number of them.
        ("models/bert-bASE/infer", "t_router"),
        ("models/bert--base/infer", "t_router"),
        ("models/iris/infer/", "t_router"),
        ("health/ready", "t_router"),
    ],
)
def test_an_inference_through_the_general_router_counts_for_its_model(proxy: str, function: str) -> None:
    assert count("t_router", proxy) == (function, 0)


def test_other_requests_count_for_the_function_of_their_route() -> None:
    assert count("t_iris_v1") == ("t_iris_v1", 0)
    assert count("t_router", "models/iris/infer", variables={}) == ("t_router", 0)


def test_routers_choices_also_count_for_the_chosen_versions() -> None:
    state = SharedState(1)
    known = {"t_iris_router", "t_iris_v1", "t_iris_v2"}
    observe = count_requests(state.counters, known=known)

    def send(status: int = 200, **headers: str) -> None:
        exchange: Any = Exchange(Request("POST", "/", "", (), b""), Identifiers().take(), 0.0, 0.0)
        exchange.stage = SimpleNamespace(settings=SimpleNamespace(name="prod"))
        exchange.target = FunctionTarget("t_iris_router", "live", 1.0)
        exchange.share = Share(False, "d", VARIABLES, ())
        named = tuple((f"X-Turnout-{name.replace('_', '-')}".lower(), value) for name, value in headers.items())
        observe(exchange, Response(status, named), 0.1)

    send(version="v1", route="weight")
    send(version="v2", route="sticky")
    send(502, version="v2", route="weight")
    send(version="v1", route="fallback", fallback_from="v2")  # v2 was chosen, and failed
    send(version="v2", route="override")  # the caller chose
    send(version="v9", route="weight")
    send(fallback_from="iris v2", route="graph")
    counted = {key.function: counts for key, counts in state.counters.read().items() if key.kind == ROUTED}
    assert {name: (counts.requests, counts.failures) for name, counts in counted.items()} == {
        "t_iris_v1": (1, 0),
        "t_iris_v2": (3, 2),
    }


FELL_BACK = Response(200, (("Content-Type", "application/json"), ("x-turnout-fallback-from", "v2")))


@pytest.mark.parametrize(
    ("function", "response", "failures"),
    [
        ("t_iris_v1", Response(200), 0),
        ("t_iris_v1", Response(404), 0),
        ("t_iris_v1", Response(429), 1),
        ("t_iris_v1", Response(500), 1),
        ("t_iris_v1", Response(504), 1),
        ("t_iris_v1", FELL_BACK, 0),
        ("t_iris_router", Response(200), 0),
        ("t_iris_router", FELL_BACK, 1),
    ],
)
def test_a_failed_function_is_counted_even_if_its_caller_got_an_answer(
    function: str, response: Response, failures: int
) -> None:
    assert count(function, response=response) == (function, failures)

"""Routers call pooled versions through their pool, and name the version in the event."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from router_lambda.general.readiness import Readiness
from router_lambda.router import Router
from router_lambda.tasks import AsyncioTasks
from tests.builders.general_router import FakeFunctions, ask, model_entry, route_event, v2_event
from turnout.protocol.aws.events import make_answer
from turnout.protocol.errors import RequestError
from turnout.protocol.routing.catalogue import Catalogue
from turnout.protocol.routing.route_table import ModelRoute, RouteTable, VersionRoute

POOL = "turnout-local_small_pool"
VARIABLES = {"iris": "v1", "digits": "v2", "alias": "live", "canary": "false"}


def catalogue() -> Catalogue:
    """`iris` in a pool with all its versions, `digits` with v1 only."""
    iris, digits = model_entry("iris", "v1", "v2"), model_entry("digits", "v1", "v2")
    entries = {
        "iris": {name: put_into_pool(entry) for name, entry in iris.versions.items()},
        "digits": {"v1": put_into_pool(digits.versions["v1"]), "v2": digits.versions["v2"]},
    }
    models = {name: type(iris)(name, name, f"{name}Route", versions) for name, versions in entries.items()}
    return Catalogue("turnout-local", "turnout", "1.2.3", models, {})


def put_into_pool(entry: Any) -> Any:
    return type(entry).from_json({**entry.to_json(), "pool": "small"})


def calls_of(event: dict[str, Any]) -> tuple[str, Any]:
    functions = FakeFunctions()
    ask(event, functions, catalogue())
    ((name, alias, sent, _),) = functions.calls
    assert alias == "live"
    return name, sent["turnout"].get("pooled")


def inference(model: str, version: str = "", **variables: str) -> dict[str, Any]:
    named = {"model": model, **({"version": version} if version else {})}
    resource = "/models/{model}/{version}/inference" if version else "/models/{model}/inference"
    return route_event(resource, "POST", variables={**VARIABLES, **variables}, **named)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (inference("iris"), (POOL, ["iris", "v1"])),
        (inference("iris", iris="v2"), (POOL, ["iris", "v2"])),
        (inference("iris", "v2"), (POOL, ["iris", "v2"])),
        (inference("digits", "v1"), (POOL, ["digits", "v1"])),
        (inference("digits"), ("turnout-local_digits_v2", None)),
        (inference("digits", digits="v1"), (POOL, ["digits", "v1"])),
        (inference("iris", iris="router"), ("turnout-local_iris_router", None)),
        (v2_event("models/iris/infer", "POST", variables=VARIABLES), (POOL, ["iris", "v1"])),
        (v2_event("models/iris/versions/v2/infer", "POST", variables=VARIABLES), (POOL, ["iris", "v2"])),
        (v2_event("models/digits/infer", "POST", variables=VARIABLES), ("turnout-local_digits_v2", None)),
    ],
)
def test_general_routers_event_contains_the_version(event: dict[str, Any], expected: tuple[str, Any]) -> None:
    assert calls_of(event) == expected


def test_catalogue_keeps_pools_in_its_file() -> None:
    files = catalogue().document_files()
    assert Catalogue.from_json(catalogue().to_json(), "turnout-local", files.__getitem__) == catalogue()


def router_calls(route: str, **fields: Any) -> list[tuple[str, Any, bool]]:
    versions = {"v1": VersionRoute(15, pool="small"), "v2": VersionRoute(15, pool="small"), "v3": VersionRoute(15)}
    table = RouteTable("iris", "turnout-local", {"iris": ModelRoute("iris", versions, **fields)})
    assert RouteTable.from_json(table.to_json(), prefix="turnout-local") == table
    seen: list[tuple[str, Any, bool]] = []

    async def invoke(function: str, _alias: str, event: Any, *, deadline_s: float, asynchronous: bool = False) -> Any:
        del deadline_s
        seen.append((function, event["turnout"].get("pooled"), asynchronous))
        callee = FakeFunctions({POOL: make_answer(500, {}, b"{}")} if "fallback" in fields else {})
        return await callee(function, "live", event, deadline_s=0.0)

    async def run() -> None:
        variables = {"iris": "router", "irisRoute": route, "alias": "live"}
        event = {"headers": {}, "body": "{}", "requestContext": {"stage": "prod"}, "stageVariables": variables}
        await Router(table, invoke, random=lambda: 0.0, clock=lambda: 0.0).answer(event, 100.0)
        await asyncio.sleep(0)

    asyncio.run(run())
    return seen


def test_model_routers_event_contains_the_version() -> None:
    assert router_calls("v2.100") == [(POOL, ["iris", "v2"], False)]
    assert router_calls("v3.100") == [("turnout-local_iris_v3", None, False)]


def test_copies_and_fallbacks_name_their_own_versions() -> None:
    shadowed = router_calls("v3.100", shadow="v1", shadow_percent=100.0)
    assert sorted(shadowed, key=lambda call: call[2]) == [
        ("turnout-local_iris_v3", None, False),
        (POOL, ["iris", "v1"], True),
    ]
    assert router_calls("v1.100", fallback="v2") == [(POOL, ["iris", "v1"], False), (POOL, ["iris", "v2"], False)]


def reached(count: int) -> dict[tuple[str, str], str]:
    return {("iris", f"v{number}"): POOL for number in range(count)} | {("digits", "v2"): "turnout-local_digits_v2"}


def test_readiness_pings_a_pool_once_and_opens_nothing() -> None:
    functions = FakeFunctions()
    asyncio.run(Readiness(functions, AsyncioTasks(), lambda: 100.0).check(reached(200), "live", 110.0))
    assert sorted(functions.called) == ["turnout-local_digits_v2", POOL]
    assert all("pooled" not in event["turnout"] for _, _, event, _ in functions.calls)


def test_readiness_of_a_model_opens_its_pooled_version() -> None:
    functions = FakeFunctions()
    ask(v2_event("models/iris/versions/v2/ready", variables=VARIABLES), functions, catalogue())
    ((name, _, event, _),) = functions.calls
    assert (name, event["turnout"]) == (POOL, {"ping": True, "pooled": ["iris", "v2"]})


def test_versions_of_an_unresponsive_pool_are_not_ready() -> None:
    functions = FakeFunctions({POOL: make_answer(500, {}, b"{}")})
    with pytest.raises(RequestError) as raised:
        asyncio.run(Readiness(functions, AsyncioTasks(), lambda: 100.0).check(reached(2), "live", 110.0))
    assert [entry["version"] for entry in raised.value.details["not_ready"]] == ["v0", "v1"]

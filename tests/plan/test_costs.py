"""What a plan costs on AWS."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from tests.builders.manifests import artifacts_of, manifest, signature, stage
from turnout.manifest.parser import Canary, Manifest, Model, Prices, RoutedCanary, Routing, Slo, Stage, Version, Warm
from turnout.plan.costs import CALL_MS, NOTED, Costs, estimate_costs
from turnout.plan.planner import make_plan
from turnout.protocol.routing.graph_nodes import build_node


def manifest_of(*versions: Version, in_stage: Stage | None = None, routing: Routing | None = None) -> Manifest:
    """`iris` with these versions, by default v1, on one stage."""
    rows = versions or (Version("iris", "v1", "m.onnx"),)
    return manifest((Model("iris", rows, routing=routing or Routing()),), (in_stage or stage(),))


def costs_of(of: Manifest, call_ms: float = CALL_MS) -> Costs:
    one = dict.fromkeys(artifacts_of(of), signature(shape=(1,)))
    return estimate_costs(make_plan(of, artifacts_of(of, one)), of, call_ms)


def amounts_of(costs: Costs) -> dict[str, float]:
    return {cost.name: cost.amount for cost in costs.rest}


STEPS = [{"model": "iris", "outputs": {"y": "x"}}, {"model": "iris"}]
DEAREST = {
    "switch": {
        "input": "x",
        "cases": [{"below": 1, "then": {"model": "iris"}}],
        "otherwise": {"sequence": STEPS},
    }
}


def test_alarms_and_the_dashboard_cost_even_without_calls() -> None:
    costs = costs_of(manifest_of())
    # Two functions, the version's and the general router's, with six metrics each; two metrics of the stage.
    assert amounts_of(costs) == {"alarms": 14, "dashboard": 1}
    assert costs.rest_dollars == pytest.approx(1.4 + 3.0)


def test_version_that_no_stage_uses_has_no_alarm_costs() -> None:
    versions = tuple(Version("iris", f"v{number}", f"{number}.onnx") for number in range(1, 40))
    costs = costs_of(manifest_of(*versions))
    assert amounts_of(costs)["alarms"] == 14
    assert "Versions that no stage uses have no alarms: 38 of 39." in costs.assumptions


def test_each_latency_objective_adds_a_metric() -> None:
    version = Version("iris", "v1", "m.onnx", slo=Slo(p99_ms=50))
    promised = replace(stage(), slo=Slo(p99_ms=100))
    assert amounts_of(costs_of(manifest_of(version, in_stage=promised)))["alarms"] == 16


def test_warm_functions_cost_all_month() -> None:
    versions = (
        Version("iris", "v1", "a.onnx", warm=Warm(provisioned=2), memory_mb=2048),
        Version("iris", "v2", "b.onnx", warm=Warm(provisioned=1), architecture="x86_64"),
        Version("iris", "v3", "c.onnx", warm=Warm(snap_start=True)),
    )
    costs = costs_of(manifest_of(*versions))
    seconds = 730 * 3600
    result = {cost.name: cost.dollars for cost in costs.rest}
    assert result["provisioned concurrency, arm64"] == pytest.approx(4 * seconds * 0.0000033334)
    assert result["provisioned concurrency, x86_64"] == pytest.approx(seconds * 0.0000041667)
    assert result["snapshots of snap_start"] == pytest.approx(seconds * 0.0000015046)
    text = " ".join(costs.assumptions)
    assert "full price of a GB-second" in text
    assert "snapshot is kept" in text


def test_a_guarded_canary_is_checked_every_minute() -> None:
    versions = (Version("iris", "v1", "a.onnx"), Version("iris", "v2", "b.onnx"))
    guarded = replace(stage(), canary=Canary(10, {"iris": "v2"}))
    costs = costs_of(manifest_of(*versions, in_stage=guarded))
    assert amounts_of(costs)["guard rail's calls"] == pytest.approx(730 * 60 / 1e6)
    routed = {"iris": RoutedCanary("v2", 10, {"v1": 100.0})}
    both = replace(guarded, serve={}, weights={"iris": routed["iris"].weights}, canary=None, routed=routed)
    costs = costs_of(manifest_of(*versions, in_stage=both))
    assert amounts_of(costs)["guard rail's calls"] == pytest.approx(730 * 60 / 1e6)


def test_a_million_calls_cost_requests_calls_seconds_and_logs() -> None:
    (cost,) = costs_of(manifest_of()).million
    assert (cost.model, cost.version, cost.via) == ("iris", "v1", "direct")
    assert (cost.api_gateway, cost.calls) == (3.5, 0.2)
    assert cost.running == pytest.approx(20_000 * 0.0000133334)  # 20 ms of 1 GB, a million times
    assert cost.log == pytest.approx(0.3)
    assert cost.dollars == pytest.approx(4.266668)


@pytest.mark.parametrize(
    ("version", "call_ms", "dollars"),
    [
        (Version("iris", "v1", "a.onnx", memory_mb=2048), 20, 40_000 * 0.0000133334),
        (Version("iris", "v1", "a.onnx", architecture="x86_64"), 20, 20_000 * 0.0000166667),
        (Version("iris", "v1", "a.onnx"), 200, 200_000 * 0.0000133334),
        (Version("iris", "v1", "a.onnx"), 0, 0),
    ],
    ids=["memory", "architecture", "duration", "nothing"],
)
def test_running_cost_depends_on_memory_architecture_and_duration(
    version: Version, call_ms: float, dollars: float
) -> None:
    (cost,) = costs_of(manifest_of(version), call_ms).million
    assert cost.running == pytest.approx(dollars)


def test_a_router_adds_a_call_and_a_shadow_a_share_of_another() -> None:
    versions = (Version("iris", "v1", "a.onnx"), Version("iris", "v2", "b.onnx"))
    routing = Routing(shadow_version="v2", shadow_percent=10)
    rows = {(cost.version, cost.via): cost for cost in costs_of(manifest_of(*versions, routing=routing)).million}
    assert set(rows) == {("v1", "direct"), ("v1", "router"), ("v2", "direct"), ("v2", "router")}
    assert rows["v1", "router"].calls == pytest.approx(0.2 * 2.1)
    one = 20_000 * 0.0000133334
    assert rows["v1", "router"].running == pytest.approx(one * 1.1 + one / 2)  # the router has 512 MB
    assert rows["v1", "direct"].running == pytest.approx(one)


@pytest.mark.parametrize(
    ("graph", "calls", "seconds"),
    [
        ({"sequence": [{"model": "iris", "outputs": {"y": "x"}}, {"model": "iris", "version": "v1"}]}, 3, 2 + 1),
        ({"ensemble": [{"model": "iris"}, {"model": "iris"}], "combine": "mean"}, 3, 2 + 0.5),
        (DEAREST, 3, 2 + 1),
    ],
    ids=["sequence", "ensemble", "dearest case"],
)
def test_a_graph_costs_its_steps_and_its_router(graph: dict[str, object], calls: float, seconds: float) -> None:
    both = Model("both", (), graph=build_node(graph))
    of = manifest_of()
    (cost,) = [cost for cost in costs_of(replace(of, models=(*of.models, both))).million if cost.via == "graph"]
    assert cost.calls == pytest.approx(0.2 * calls)
    assert cost.running == pytest.approx(20_000 * 0.0000133334 * seconds)


def test_prices_of_models_yaml_are_used_and_mentioned() -> None:
    of = replace(manifest_of(), prices=Prices(alarm_month=1, lambda_million=2))
    costs = costs_of(of)
    assert costs.rest_dollars == pytest.approx(14 + 3)
    assert costs.million[0].calls == 2
    assert "from models.yaml: lambda_million, alarm_month." in costs.assumptions[0]


def test_costs_are_json() -> None:
    body = json.loads(json.dumps(costs_of(manifest_of()).to_json()))
    assert body["month_at_rest"]["dollars"] == 4.4
    assert body["month_at_rest"]["items"][0]["name"] == "alarms"
    assert body["million_calls"][0]["dollars"] == 4.266668
    assert body["prices"] == asdict(Prices())
    assert body["assumptions"]


def test_the_page_the_schema_and_the_program_have_the_same_prices(root: Path) -> None:
    page = (root / "docs" / "prices.md").read_text()
    listed = {key: float(price) for price, key in re.findall(r"\| ([0-9.]+) \| `([a-z0-9_]+)` \|", page)}
    assert listed == asdict(Prices())
    schema = json.loads((root / "schemas" / "models.schema.json").read_text())["properties"]["prices"]["properties"]
    assert {key: float(entry["default"]) for key, entry in schema.items()} == asdict(Prices())
    assert list(schema) == [field.name for field in fields(Prices)]
    assert f"as of {'November' if NOTED[5:] == '11' else NOTED} {NOTED[:4]}" in page

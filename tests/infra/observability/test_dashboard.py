"""The dashboard's body."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from infra.naming import Place
from infra.observability.dashboard import render_dashboard
from tests.builders.deployed import deployed
from tests.builders.manifests import artifacts_of, manifest, model, stage
from turnout.manifest.parser import AccountQuotas, Canary, Manifest
from turnout.plan.planner import make_plan


def widgets_of(of: Manifest) -> dict[str, Any]:
    """Title -> widget."""
    body = json.loads(deployed(of).one("cloudwatch/dashboard:Dashboard").inputs["dashboardBody"])
    return {widget["properties"]["title"]: widget for widget in body["widgets"]}


def labels(widget: dict[str, Any]) -> list[str]:
    return [metric[-1]["label"] for metric in widget["properties"]["metrics"]]


def test_canary_is_next_to_its_baseline_in_each_graph() -> None:
    widgets = widgets_of(manifest(stages=(stage(canary=Canary(10.0, {"iris": "v2"})),)))
    for graph in ("calls", "errors", "p99 ms"):
        assert labels(widgets[f"prod: iris, canary 10%, {graph}"]) == [
            "baseline turnout-test_iris_v1:live",
            "canary turnout-test_iris_v2:live",
        ]


def test_release_canary_is_shown_by_its_alias() -> None:
    widgets = widgets_of(manifest(stages=(stage(canary=Canary(10.0, {}, release=True)),)))
    assert labels(widgets["prod: iris, canary 10%, calls"]) == [
        "baseline turnout-test_iris_v1:live",
        "canary turnout-test_iris_v1:next",
    ]


def test_stage_shows_what_it_serves() -> None:
    models = (model(), model("digits", ("v1",)))
    widgets = widgets_of(manifest(models, (stage("dev", {"iris": "v2", "digits": "v1"}),)))
    assert labels(widgets["dev: functions, calls"]) == [
        "turnout-test_iris_v2:live",
        "turnout-test_digits_v1:live",
        "turnout-test_router:live",
    ]
    assert widgets["dev: requests"]["properties"]["metrics"][0][:5] == [
        "AWS/ApiGateway", "Count", "ApiName", "turnout-test_none", "Stage"
    ]  # fmt: skip


def test_widgets_do_not_overlap() -> None:
    stages = (stage(canary=Canary(10.0, {"iris": "v2"})), stage("dev"))
    placed = [(entry["x"], entry["y"]) for entry in widgets_of(manifest(stages=stages)).values()]
    assert len(set(placed)) == len(placed) == 15


@pytest.mark.parametrize(("models", "stages"), [(45, 5), (90, 2), (60, 10)])
def test_dashboard_of_many_models_and_stages_stays_within_the_quotas_of_cloudwatch(models: int, stages: int) -> None:
    rows = tuple(model(f"m{number}", ("v1", "v2")) for number in range(models))
    serve, moved = ({entry.name: version for entry in rows} for version in ("v1", "v2"))
    auths = ("none", "api_key", "iam")
    canary = Canary(10.0, moved)
    of = manifest(rows, tuple(stage(f"s{n}", serve, canary=canary, auth=auths[n % 3]) for n in range(stages)))
    plan = make_plan(replace(of, quotas=AccountQuotas(resources=1000)), artifacts_of(of), stack="test")
    body = json.loads(render_dashboard(plan, Place("aws", "eu-west-1", "123456789012", "turnout-test")))
    *graphs, text = body["widgets"]
    assert len(body["widgets"]) <= 500
    assert sum(len(graph["properties"]["metrics"]) for graph in graphs) <= 2500
    assert "more rows are omitted" in text["properties"]["markdown"]
    titles = [graph["properties"]["title"] for graph in graphs]
    assert {f"s{number}: requests" for number in range(stages)} <= set(titles)
    assert text["y"] >= max(graph["y"] + graph["height"] for graph in graphs)

"""The dashboard's body."""

from __future__ import annotations

import json
from typing import Any

from tests.builders.deployed import deployed
from tests.builders.manifests import manifest, model, stage
from turnout.manifest.parser import Canary, Manifest


def widgets_of(of: Manifest) -> dict[str, Any]:
    """Title -> widget."""
    body = json.loads(deployed(of).one("cloudwatch/dashboard:Dashboard").inputs["dashboardBody"])
    return {widget["properties"]["title"]: widget for widget in body["widgets"]}


def labels(widget: dict[str, Any]) -> list[str]:
    return [metric[-1]["label"] for metric in widget["properties"]["metrics"]]


def test_canary_stands_beside_its_baseline_in_each_graph() -> None:
    widgets = widgets_of(manifest(stages=(stage(canary=Canary(10.0, {"iris": "v2"})),)))
    for graph in ("calls", "errors", "p99 ms"):
        assert labels(widgets[f"prod: iris, canary 10%, {graph}"]) == [
            "baseline turnout-test_iris_v1:live",
            "canary turnout-test_iris_v2:live",
        ]


def test_release_canary_is_the_other_alias() -> None:
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
    placed = [(row["x"], row["y"]) for row in widgets_of(manifest(stages=stages)).values()]
    assert len(set(placed)) == len(placed) == 15

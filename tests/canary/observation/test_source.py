from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.builders.manifests import artifacts_of, manifest, model, stage
from turnout.canary.judging.observed import Arm
from turnout.canary.observation.source import ObservationStart
from turnout.manifest.parser import Canary, Manifest, Routing
from turnout.plan.planner import make_plan
from turnout.plan.served_by import Serving, watched_of
from turnout.plan.values import Plan

IRIS = model("iris", ("v1", "v2", "v3"))
SPAM = model("spam-filter", ("v1", "v2"))
SERVE = {"iris": "v1", "spam-filter": "v1"}


def planned(of: Manifest) -> tuple[Plan, Mapping[str, str], Mapping[str, str]]:
    plan = make_plan(of, artifacts_of(of), stack="eu")
    ((only,),) = (api.stages for api in plan.apis)
    return plan, only.variables, only.canary.overrides if only.canary else {}


def watched(**fields: Any) -> dict[str, tuple[Serving, Serving]]:
    """Return what is watched of a stage with these fields, by model."""
    routing = fields.pop("routing", Routing())
    rows = (model("iris", ("v1", "v2", "v3"), routing=routing), SPAM)
    result = watched_of(*planned(manifest(rows, (stage("prod", fields.pop("serve", SERVE), **fields),))))
    return {entry.model: (entry.baseline, entry.canary) for entry in result}


def serving(function: str, *versions: str) -> Serving:
    return Serving(f"turnout-eu_{function}", frozenset(f"turnout-eu_{version}" for version in versions))


def test_only_models_that_the_canary_moves_are_watched() -> None:
    assert watched() == {}
    assert watched(canary=Canary(10, {"spam-filter": "v2"})) == {
        "spam-filter": (
            serving("spam-filter_v1", "spam-filter_v1:live"),
            serving("spam-filter_v2", "spam-filter_v2:live"),
        )
    }
    assert list(watched(canary=Canary(10, {"spam-filter": "v2", "iris": "v3"}))) == ["iris", "spam-filter"]


def test_a_release_moves_every_model_to_the_other_alias() -> None:
    result = watched(canary=Canary(10, {"iris": "v2"}, release=True))
    assert result["iris"] == (serving("iris_v1", "iris_v1:live"), serving("iris_v2", "iris_v2:next"))
    assert result["spam-filter"] == (
        serving("spam-filter_v1", "spam-filter_v1:live"),
        serving("spam-filter_v1", "spam-filter_v1:next"),
    )


def test_behind_a_router_the_versions_with_a_weight_are_watched() -> None:
    weighted = {"serve": {"spam-filter": "v1"}, "weights": {"iris": {"v1": 90, "v2": 10, "v3": 0}}}
    assert watched(**weighted, canary=Canary(10, {"iris": "v3"}))["iris"] == (
        serving("iris_router", "iris_v1:live", "iris_v2:live"),
        serving("iris_v3", "iris_v3:live"),
    )
    assert watched(routing=Routing(fallback="v1"), canary=Canary(10, {"iris": "v2"}))["iris"] == (
        serving("iris_router", "iris_v1:live"),
        serving("iris_router", "iris_v2:live"),
    )


@pytest.mark.parametrize("route", ["", "nonsense", "v1.0"])
def test_an_unreadable_route_names_no_version(route: str) -> None:
    plan, variables, _ = planned(manifest((IRIS, SPAM), (stage("prod", SERVE),)))
    (result,) = watched_of(plan, variables, {"iris": "router", "irisRoute": route})
    assert result.canary == serving("iris_router")


def test_a_start_can_be_stored() -> None:
    for start in (ObservationStart(12.5), ObservationStart(12.5, "run", Arm(3, 1, (1, 2)), Arm(1, 0, (0, 1)))):
        assert ObservationStart.from_json(json.loads(json.dumps(start.to_json()))) == start

"""Pools in the plan: their functions, names and sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.builders.manifests import artifact, artifacts_of, manifest, model, signature, stage
from turnout.manifest.parser import Canary, Manifest, Model
from turnout.manifest.settings import Capture
from turnout.manifest.values import RoutedCanary, Routing
from turnout.plan.as_json import plan_to_json
from turnout.plan.checks.pools import MB, find_pool_functions, find_tested_functions, session_room
from turnout.plan.costs import FUNCTION_METRICS, POOLED_METRICS, estimate_costs, estimate_pool_rest
from turnout.plan.deployment_notes import find_orphaned
from turnout.plan.guard_alarms import find_guard_alarms, find_routed_guards
from turnout.plan.planner import make_plan
from turnout.plan.served_by import watched_of
from turnout.plan.values import Plan
from turnout.problems import ProblemsError
from turnout.protocol.routing.pooled import WATCH_ALL, WATCHED_VARIABLE


def pooled(of: Model, *versions: str, pool: str = "small", **settings: Any) -> Model:
    """Return the model with some or all versions in a pool."""
    rows = (
        replace(version, pool=pool, **settings) if not versions or version.name in versions else version
        for version in of.versions
    )
    return replace(of, versions=tuple(rows))


def plan_of(of: Manifest, **fields: Any) -> Plan:
    return make_plan(of, artifacts_of(of), **fields)


IRIS, DIGITS, SPAM = pooled(model()), pooled(model("digits", ("v1", "v2")), "v1"), model("spam", ("v1",))
SERVE = {"iris": "v1", "digits": "v1", "spam": "v1"}
MANIFEST = manifest((IRIS, DIGITS, SPAM), (stage(serve=SERVE),))


def with_canary(canary: Canary, of: Manifest = MANIFEST) -> Manifest:
    return replace(of, stages=tuple(replace(entry, canary=canary) for entry in of.stages))


def test_versions_of_a_pool_are_one_function_and_one_package() -> None:
    plan = plan_of(MANIFEST)
    assert [function.name for function in plan.functions] == [
        "turnout-local_digits_v2",
        "turnout-local_spam_v1",
        "turnout-local_small_pool",
        "turnout-local_router",
    ]
    assert [package.name for package in plan.packages] == ["digits_v2", "spam_v1", "small_pool", "router"]
    (pool,) = plan.pools
    assert pool.versions == (("iris", "v1"), ("iris", "v2"), ("digits", "v1"))
    assert {function.name for function in plan.unpooled_functions} == {
        function.name for function in plan_of(manifest((model(), model("digits"), SPAM), MANIFEST.stages)).functions
    }
    assert plan.pool_of == find_pool_functions(MANIFEST, "turnout-local")
    assert set(plan.pool_of.values()) == {"turnout-local_small_pool"}


def test_plan_without_pools_is_unchanged() -> None:
    plan = plan_of(manifest())
    assert (plan.pools, plan.pooled, plan.pool_of) == ((), (), {})
    assert plan.unpooled_functions is plan.functions
    assert WATCHED_VARIABLE not in plan.apis[0].stages[0].variables


def test_only_pooled_models_share_their_routes() -> None:
    plan = plan_of(MANIFEST)
    assert plan.shared == {"iris", "digits"}
    paths = {route.path: route.function for route in plan.apis[0].routes}
    assert paths["/models/spam/inference"] == "turnout-local_spam_${stageVariables.spam}"
    assert paths["/models/{model}/{version}/inference"] == "turnout-local_router"
    assert "/models/iris/inference" not in paths
    assert "/models/iris/v1/inference" in {route.path for route in plan.caller_routes}


def test_pool_has_its_versions_settings_except_captures() -> None:
    iris = pooled(model(), memory_mb=1769, timeout_s=7, capture=Capture(5))
    plan = plan_of(manifest((iris,)))
    settings = plan.functions[0].settings
    assert (settings.memory_mb, settings.timeout_s, settings.capture) == (1769, 7, None)
    assert plan.pools[0].session_bytes == session_room(1769)


def test_shadow_in_a_pool_makes_the_pools_function_a_shadow() -> None:
    shadowed = pooled(model(routing=Routing(shadow_version="v2", shadow_percent=10)))
    functions = {function.name: function.is_shadow for function in plan_of(manifest((shadowed,))).functions}
    assert functions["turnout-local_small_pool"]
    assert not functions["turnout-local_router"]


def test_model_that_does_not_fit_is_reported_with_its_required_memory() -> None:
    of = manifest((pooled(model(), memory_mb=512),))
    large = artifact("large", signature(), size_bytes=300 * MB)
    with pytest.raises(ProblemsError) as raised:
        make_plan(of, {**artifacts_of(of), ("iris", "v2"): large})
    (problem,) = raised.value.problems
    assert problem.path[:4] == ("models", "iris", "versions", "v2")
    assert "does not fit into the pool `small`: its session takes about 600.2 MB, and 512 MB leave 368.0 MB" in str(
        problem
    )
    assert "Set `pools.small.memory_mb` to 745 or more" in str(problem)
    fitting = manifest((pooled(model(), memory_mb=745),))
    make_plan(fitting, {**artifacts_of(fitting), ("iris", "v2"): large})


def test_many_small_models_need_not_fit_together() -> None:
    many = tuple(pooled(model(f"m{number}", ("v1",)), memory_mb=256) for number in range(30))
    of = manifest(many, (stage(serve={entry.name: "v1" for entry in many}),))
    artifacts = {key: artifact(key[0], signature(), size_bytes=20 * MB) for key in artifacts_of(of)}
    (pool,) = make_plan(of, artifacts).pools
    assert pool.total_bytes > 1200 * MB > pool.session_bytes


def test_idle_cost_of_a_pool_is_that_of_one_function() -> None:
    plan = plan_of(MANIFEST)
    alarms = next(cost for cost in estimate_costs(plan, MANIFEST).rest if cost.name == "alarms")
    assert alarms.amount == 3 * FUNCTION_METRICS + 2  # spam, the pool and the router; two of the stage
    (pool,) = plan.pools
    expected = FUNCTION_METRICS * 0.10
    assert estimate_pool_rest(pool, plan, MANIFEST.prices) == pytest.approx(expected, abs=0.001)


def test_call_costs_include_the_pools_memory_and_the_router() -> None:
    rows = {(each.model, each.version): each for each in estimate_costs(plan_of(MANIFEST), MANIFEST).million}
    assert rows["iris", "v1"].via == rows["digits", "v2"].via == "shared"
    assert rows["spam", "v1"].via == "direct"
    assert rows["iris", "v1"].calls == 2 * rows["spam", "v1"].calls


@pytest.mark.parametrize(
    ("canary", "expected"),
    [
        (Canary(10, {"iris": "v2"}), "iris"),
        (Canary(10, {"iris": "v2", "digits": "v2"}), "iris,digits"),
        (Canary(10, {}, release=True), WATCH_ALL),
    ],
)
def test_stage_variable_contains_the_pooled_models_of_its_canary(canary: Canary, expected: str) -> None:
    planned = plan_of(with_canary(canary)).apis[0].stages[0]
    assert planned.variables[WATCHED_VARIABLE] == expected
    assert planned.canary is not None
    assert WATCHED_VARIABLE not in planned.canary.overrides  # both shares write metrics


def test_stage_variable_contains_the_pooled_models_of_routed_canaries() -> None:
    routed = {"iris": RoutedCanary("v2", 25, {"v1": 100.0})}
    weights = {"iris": routed["iris"].weights}
    of = replace(MANIFEST, stages=(stage(serve={"digits": "v1", "spam": "v1"}, weights=weights, routed=routed),))
    plan = plan_of(of)
    assert plan.apis[0].stages[0].variables[WATCHED_VARIABLE] == "iris"
    assert [function.name for function in find_tested_functions(plan)] == ["turnout-local_iris_v2"]
    (guard,) = find_routed_guards(plan, plan.apis[0].stages[0])
    assert guard.alarms == ("turnout-local_iris_v2_errors", "turnout-local_small_pool_errors")


def test_stage_variable_is_empty_if_its_canary_moves_no_pooled_model() -> None:
    of = manifest((IRIS, model("spam")), (stage(serve={"iris": "v1", "spam": "v1"}),))
    variables = plan_of(with_canary(Canary(10, {"spam": "v2"}), of)).apis[0].stages[0].variables
    assert WATCHED_VARIABLE not in variables


def test_canary_within_a_pool_has_the_functions_of_both_versions() -> None:
    plan = plan_of(with_canary(Canary(10, {"iris": "v2"})))
    planned = plan.apis[0].stages[0]
    assert planned.canary is not None
    (moved,) = watched_of(plan, planned.variables, planned.canary.overrides)
    assert (moved.baseline.versions, moved.canary.versions) == (
        {"turnout-local_iris_v1:live"},
        {"turnout-local_iris_v2:live"},
    )
    assert [function.name for function in find_tested_functions(plan)] == ["turnout-local_iris_v2"]
    alarms = find_guard_alarms(plan, planned_judgement(), planned)
    assert alarms is not None
    assert set(alarms.names) == {"turnout-local_iris_v2_errors", "turnout-local_small_pool_errors"}
    before = next(cost.amount for cost in estimate_costs(plan_of(MANIFEST), MANIFEST).rest if cost.name == "alarms")
    of = with_canary(Canary(10, {"iris": "v2"}))
    after = next(cost.amount for cost in estimate_costs(plan, of).rest if cost.name == "alarms")
    assert after - before == POOLED_METRICS


def planned_judgement() -> Any:
    return Canary(10, {}).judgement


def test_canary_that_leaves_a_pool_needs_no_additional_alarm() -> None:
    assert find_tested_functions(plan_of(with_canary(Canary(10, {"digits": "v2"})))) == ()


OUTPUTS: Mapping[str, Any] = {
    "functions": [
        "turnout-local_iris_v1",
        "turnout-local_iris_v2",
        "turnout-local_digits_v1",
        "turnout-local_digits_v2",
    ],
    "stages": {"prod": {"variables": {"iris": "v1"}, "canary": None}},
    "shared_models": {"prod": []},
}


def test_move_into_a_pool_during_a_canary_is_detected() -> None:
    moving = plan_of(with_canary(Canary(10, {"spam": "v1"})))
    assert find_orphaned(moving, OUTPUTS) == {"prod": ["digits", "iris"]}
    assert find_orphaned(plan_of(MANIFEST), OUTPUTS) == {}  # without a canary the stage gets the new routes
    assert find_orphaned(moving, {}) == {}
    shared = {**OUTPUTS, "shared_models": {"prod": ["digits", "iris"]}}
    assert find_orphaned(moving, shared) == {}  # the router knows where they are
    release = plan_of(with_canary(Canary(10, {}, release=True)))
    assert find_orphaned(release, shared) == {"prod": ["digits", "iris"]}  # whose baseline keeps the router's code
    emptied = plan_of(with_canary(Canary(10, {}, release=True), manifest()))
    gone = {**OUTPUTS, "functions": ["turnout-local_iris_v1", "turnout-local_iris_v2", "turnout-local_small_pool"]}
    assert find_orphaned(emptied, gone) == {"prod": ["small"]}


def test_json_lists_the_pools() -> None:
    tree = plan_to_json(plan_of(MANIFEST))
    (pool,) = tree["pools"]
    assert (pool["name"], pool["function"]) == ("small", "turnout-local_small_pool")
    assert [(entry["model"], entry["version"]) for entry in pool["versions"]] == [
        ("iris", "v1"),
        ("iris", "v2"),
        ("digits", "v1"),
    ]

"""The operations that API Gateway gets to reach a stage's new state: AWS's own recipes, and nothing twice."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders.stage import FakeStage
from turnout.canary.rollout.rollout import reset_marker
from turnout.canary.rollout.stage_changes import (
    StageChange,
    change_between,
    find_differences,
    find_unpacked,
    marker_operations,
    patch_calls,
)
from turnout.canary.rollout.stage_control import LiveCanary, StageState
from turnout.manifest.parser import Canary, Model, Stage, Version
from turnout.plan.stages import plan_stage
from turnout.plan.values import CanaryPlan, StagePlan
from turnout.protocol.routing.choice_tables import find_known
from turnout.protocol.routing.packed_choices import expand_choices, unpack_choices

BASE = {"iris": "v1", "digits": "v1", "alias": "live", "canary": "false"}


def plan(on: CanaryPlan | None = None, **variables: str) -> StagePlan:
    return StagePlan("prod", {**BASE, **variables}, on, "none", None)


def canary(percent: float = 10, *, release: bool = False, **overrides: str) -> CanaryPlan:
    return CanaryPlan(percent, {**overrides, "canary": "true", **({"alias": "next"} if release else {})}, release)


def calls(before: StagePlan, after: StagePlan, *, promotes: bool = False, deployment: str = "base") -> Any:
    live = FakeStage(before).read()
    if live.canary:
        live = StageState("base", live.variables, LiveCanary(live.canary.percent, live.canary.overrides, deployment))
    return [list(map(dict, call)) for call in patch_calls(live, change_between(before, after, promotes=promotes))]


def replace(path: str, value: str) -> dict[str, str]:
    return {"op": "replace", "path": path, "value": value}


MENDS = "`turnout canary mend STAGE` resets the stage variable `canary`"
PERCENT = "/canarySettings/percentTraffic"
OVERRIDES = "/canarySettings/stageVariableOverrides"


def test_start_is_one_call() -> None:
    assert calls(plan(), plan(canary(iris="v2"))) == [
        [
            replace(PERCENT, "10.0"),
            replace("/canarySettings/useStageCache", "false"),
            replace(f"{OVERRIDES}/iris", "v2"),
            replace(f"{OVERRIDES}/canary", "true"),
        ]
    ]


def test_new_share_is_one_operation() -> None:
    assert calls(plan(canary(iris="v2")), plan(canary(12.5, iris="v2"))) == [[replace(PERCENT, "12.5")]]


def test_rollback_removes_the_canary() -> None:
    assert calls(plan(canary(iris="v2")), plan()) == [[{"op": "remove", "path": "/canarySettings"}]]


def test_full_promotion_moves_all_traffic_to_the_baseline_before_the_canary_is_deleted() -> None:
    assert calls(plan(canary(iris="v2")), plan(iris="v2"), promotes=True) == [
        [replace(PERCENT, "0.0"), replace("/variables/iris", "v2")],
        [{"op": "remove", "path": "/canarySettings"}],
    ]


def test_promotion_of_one_model_leaves_the_others_in_the_canary() -> None:
    before, after = plan(canary(iris="v2", digits="v2")), plan(canary(iris="v2"), digits="v2")
    assert calls(before, after, promotes=True) == [
        [replace("/variables/digits", "v2"), {"op": "remove", "path": f"{OVERRIDES}/digits"}]
    ]


def test_promoted_release_keeps_its_deployment_and_alias() -> None:
    assert calls(plan(canary(release=True)), plan(), promotes=True, deployment="new") == [
        [
            replace(PERCENT, "0.0"),
            replace("/variables/alias", "next"),
            {"op": "copy", "from": "/canarySettings/deploymentId", "path": "/deploymentId"},
        ],
        [{"op": "remove", "path": "/canarySettings"}],
    ]


def test_rolled_back_release_keeps_the_deployment() -> None:
    assert calls(plan(canary(release=True)), plan(), deployment="new") == [
        [{"op": "remove", "path": "/canarySettings"}]
    ]


values = st.sampled_from(["v1", "v2", "v3"])
variables = st.fixed_dictionaries({"iris": values, "digits": values})
canaries = st.none() | st.builds(
    lambda percent, chosen: canary(percent, **chosen),
    st.floats(0, 100),
    st.dictionaries(st.sampled_from(["iris", "digits"]), values, min_size=1),
)
plans = st.builds(lambda chosen, entry: plan(entry, **chosen), variables, canaries)


@given(plans, plans, st.booleans())
def test_repeating_any_change_changes_nothing(before: StagePlan, after: StagePlan, promotes: bool) -> None:
    stage = FakeStage(before)
    change = change_between(before, after, promotes=promotes)
    for call in patch_calls(stage.read(), change):
        stage.update(call)
    assert list(find_differences(stage.read(), after, "it")) == []
    assert patch_calls(stage.read(), change) == ()
    assert StageChange.from_json(change.to_json()) == change


@given(plans, plans)
def test_a_change_interrupted_between_two_calls_is_completed(before: StagePlan, after: StagePlan) -> None:
    stage = FakeStage(before)
    change = change_between(before, after, promotes=True)
    stage.update(patch_calls(stage.read(), change)[0]) if patch_calls(stage.read(), change) else None
    for call in patch_calls(stage.read(), change):
        stage.update(call)
    assert list(find_differences(stage.read(), after, "it")) == []


@pytest.mark.parametrize(
    ("actual", "planned", "sentences"),
    [
        (plan(), plan(), []),
        (
            plan(canary="true"),
            plan(),
            ["the live stage marks every answer as the canary's (`x-turnout-canary: true`): " + MENDS],
        ),
        (
            plan(CanaryPlan(10, {"iris": "v2"}, release=False)),
            plan(canary(iris="v2")),
            ["the live stage does not mark the answers of the canary (`x-turnout-canary`): " + MENDS],
        ),
        (plan(iris="v2"), plan(), ["iris is v1 in the manifest, v2 in the live stage"]),
        (plan(extra="x"), plan(), ["extra is not set in the manifest, x in the live stage"]),
        (plan(canary(iris="v2")), plan(), ["a canary in the live stage, but none in the manifest"]),
        (plan(), plan(canary(iris="v2")), ["a canary in the manifest, but none in the live stage"]),
        (
            plan(canary(20, iris="v2")),
            plan(canary(10, iris="v3")),
            [
                "the canary's share is 10% in the manifest, 20% in the live stage",
                "the canary's iris is v3 in the manifest, v2 in the live stage",
            ],
        ),
        (
            plan(alias="next"),
            plan(),
            ["alias is live in the manifest, next in the live stage: `pulumi up` completes the promoted release"],
        ),
    ],
)
def test_each_difference_is_named(actual: StagePlan, planned: StagePlan, sentences: list[str]) -> None:
    live = FakeStage(actual).read()
    assert [difference.sentence for difference in find_differences(live, planned, "the live stage")] == sentences


RESET = replace("/variables/canary", "false")


def test_every_change_resets_the_marker_left_by_a_copy() -> None:
    assert RESET in calls(plan(canary="true"), plan(canary(iris="v2"), canary="true"))[0]
    assert RESET in calls(plan(canary(iris="v2"), canary="true"), plan(canary(20, iris="v2"), canary="true"))[0]
    first, last = calls(plan(canary(iris="v2"), canary="true"), plan(canary="true"))
    assert RESET in first
    assert last == [{"op": "remove", "path": "/canarySettings"}]
    assert calls(plan(), plan()) == []


def test_marker_is_repaired_in_both_shares() -> None:
    assert marker_operations(FakeStage(plan()).read()) == ()
    assert marker_operations(FakeStage(plan(canary(iris="v2"))).read()) == ()
    wrong = FakeStage(plan(CanaryPlan(10, {"iris": "v2"}, release=False), canary="true"))
    assert marker_operations(wrong.read()) == (RESET, replace(f"{OVERRIDES}/canary", "true"))
    assert reset_marker(wrong)
    assert not reset_marker(wrong)
    assert marker_operations(StageState("base", {})) == ()


MANY = tuple(
    Model(name, (Version(name, "v1", "m.onnx"), Version(name, "v2", "m.onnx")))
    for name in (f"model-m{number}" for number in range(3000))
)


def stage_of_many(canary: Canary | None = None, **served: str) -> StagePlan:
    serve = {model.name: "v1" for model in MANY} | {name.replace("_", "-"): value for name, value in served.items()}
    stage = Stage(name="prod", serve=serve, weights={}, canary=canary, auth="none", throttle=None)
    return plan_stage(stage, MANY, packed=frozenset(serve))


def test_canary_of_one_model_of_three_thousand_moves_only_this_model() -> None:
    before, after = stage_of_many(), stage_of_many(Canary(10.0, {"model-m1500": "v2"}))
    ((percent, cache, moved, marker),) = calls(before, after)
    assert (percent, cache) == (replace(PERCENT, "10.0"), replace("/canarySettings/useStageCache", "false"))
    assert marker == replace(f"{OVERRIDES}/canary", "true")
    name = moved["path"].rpartition("/")[2]
    baseline = unpack_choices(before.variables)
    seen = unpack_choices({**before.variables, name: moved["value"]})
    assert {model: version for model, version in seen.items() if baseline[model] != version} == {"modelM1500": "v2"}

    # After the promotion: one variable of the baseline is changed, and the canary ends.
    (promoting, removing) = calls(after, stage_of_many(model_m1500="v2"), promotes=True)
    assert promoting == [replace(PERCENT, "0.0"), replace(f"/variables/{name}", moved["value"])]
    assert removing == [{"op": "remove", "path": "/canarySettings"}]


def test_another_model_of_the_same_variable_is_promoted_next_to_a_canary() -> None:
    before = stage_of_many(Canary(10.0, {"model-m0": "v2"}))
    after = stage_of_many(Canary(10.0, {"model-m0": "v2"}), model_m1="v2")
    ((variable, override),) = calls(before, after)
    assert variable["path"] == "/variables/choice1"
    assert override["path"] == f"{OVERRIDES}/choice1"
    assert [unpack_choices({"choice1": operation["value"]})["modelM1"] for operation in (variable, override)] == [
        "v2",
        "v2",
    ]
    assert [unpack_choices({"choice1": operation["value"]})["modelM0"] for operation in (variable, override)] == [
        "v1",
        "v2",
    ]


def test_differences_of_packed_choices_name_the_models() -> None:
    planned = stage_of_many(Canary(10.0, {"model-m0": "v2"}))
    assert list(find_differences(FakeStage(planned).read(), planned, "it")) == []
    # Each model's own variable has the same value.
    same = StageState(
        "base", expand_choices(planned.variables), LiveCanary(10.0, {"modelM0": "v2", "canary": "true"}, "base")
    )
    assert list(find_differences(same, planned, "it")) == []
    other = FakeStage(stage_of_many(Canary(10.0, {"model-m7": "v2"}), model_m5="v2")).read()
    assert {difference.subject: difference.sentence for difference in find_differences(other, planned, "it")} == {
        "modelM5": "modelM5 is v1 in the manifest, v2 in it",
        "modelM0": "the canary's modelM0 is v2 in the manifest, not set in it",
        "modelM7": "the canary's modelM7 is not set in the manifest, v2 in it",
    }


def test_packed_choices_of_a_stage_with_a_variable_for_each_model_are_found() -> None:
    before, after = stage_of_many(), stage_of_many(Canary(10.0, {"model-m0": "v2"}))
    change = change_between(before, after, promotes=False)
    own = StageState("base", {"modelM0": "v1", "alias": "live"}, None)
    assert find_unpacked(own, change) == ["choice1"]
    assert find_unpacked(FakeStage(before).read(), change) == []
    assert find_unpacked(own, change_between(plan(), plan(canary(iris="v2")), promotes=False)) == []


TABLE_MODELS = tuple(
    Model(name, (Version(name, "v1", "m.onnx"), Version(name, "v2", "m.onnx")))
    for name in (f"model-m{number}" for number in range(10_000))
)


def stage_with_table(canary: Canary | None = None, **served: str) -> StagePlan:
    serve = {model.name: "v1" for model in TABLE_MODELS}
    serve |= {name.replace("_", "-"): value for name, value in served.items()}
    stage = Stage(name="prod", serve=serve, weights={}, canary=canary, auth="none", throttle=None)
    return plan_stage(stage, TABLE_MODELS, packed=frozenset(serve))


def test_canary_of_one_model_of_ten_thousand_overrides_the_name_of_the_table() -> None:
    before, after = stage_with_table(), stage_with_table(Canary(10.0, {"model-m7": "v2"}))
    ((percent, cache, moved, marker),) = calls(before, after)
    name = moved["value"]
    assert (percent, cache) == (replace(PERCENT, "10.0"), replace("/canarySettings/useStageCache", "false"))
    assert (moved, marker) == (replace(f"{OVERRIDES}/ChoiceTable", name), replace(f"{OVERRIDES}/canary", "true"))
    assert change_between(before, after, promotes=False).named_tables() == (name,)
    tables = find_known(after.tables)
    baseline = tables(before.variables["ChoiceTable"])
    assert {model: version for model, version in tables(name).items() if baseline[model] != version} == {
        "modelM7": "v2"
    }
    # The promoted stage has the canary's table.
    (promoting, removing) = calls(after, stage_with_table(model_m7="v2"), promotes=True)
    assert promoting == [replace(PERCENT, "0.0"), replace("/variables/ChoiceTable", name)]
    assert removing == [{"op": "remove", "path": "/canarySettings"}]

    live = FakeStage(stage_with_table(Canary(10.0, {"model-m8": "v2"}), model_m5="v2")).read()
    assert {difference.subject: difference.sentence for difference in find_differences(live, after, "it")} == {
        "modelM5": "modelM5 is v1 in the manifest, v2 in it",
        "modelM7": "the canary's modelM7 is v2 in the manifest, not set in it",
        "modelM8": "the canary's modelM8 is not set in the manifest, v2 in it",
    }
    assert list(find_differences(FakeStage(after).read(), after, "it")) == []
    # Pulumi's outputs contain only the names of tables.
    unknown = StageState(live.deployment_id, live.variables, live.canary)
    assert [difference.subject for difference in find_differences(unknown, after, "it")] == [
        "ChoiceTable",
        "ChoiceTable",
    ]
    # A stage that still has variables of the former form does not read a table.
    assert find_unpacked(StageState("base", {"choice1": "model-m0.v1"}), change_between(before, after, promotes=False))

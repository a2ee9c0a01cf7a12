from __future__ import annotations

import random

import pytest

from tests.builders.documents import API, FakeFunctions, document, gateway, operation, request, respond, stage
from turnout.gateway.rules.document import compile_document
from turnout.gateway.rules.stages import (
    LONGEST_LEARNED,
    MOST_LEARNED,
    CanarySettings,
    FunctionTarget,
    Stages,
    StageSettings,
    stage_settings,
    target_of,
)
from turnout.manifest.parser import Throttle
from turnout.plan.values import CanaryPlan, StagePlan

IRIS = "local_iris_${stageVariables.iris}:${stageVariables.alias}"
PATHS = {"/models/iris/inference": {"post": operation(IRIS)}}


def stages(*settings: StageSettings, default: str = "") -> Stages:
    return Stages({API: compile_document(API, document(PATHS))}, settings, default=default)


@pytest.mark.parametrize(
    ("function", "variables", "target"),
    [
        (IRIS, {"iris": "v1", "alias": "live"}, ("local_iris_v1", "live", "")),
        ("plain", {}, ("plain", "", "")),
        ("${stageVariables.fn}", {"fn": "iris:next"}, ("iris", "next", "")),  # one variable may contain both
        ("fn:$LATEST", {}, ("fn", "$LATEST", "")),
        (
            IRIS,
            {"iris": "v1"},
            ("", "", "stage variable 'alias' is not defined, so the function would be 'local_iris_v1:'"),
        ),
        (
            IRIS,
            {"alias": "live"},
            ("", "", "stage variable 'iris' is not defined, so the function would be 'local_iris_:live'"),
        ),
        (IRIS, {"iris": "v.1", "alias": "live"}, ("", "", "'local_iris_v.1:live' is not a function name")),
        (IRIS, {"iris": "x" * 60, "alias": "a"}, ("", "", f"'local_iris_{'x' * 60}:a' is not a function name")),
    ],
)
def test_target_follows_the_variables(function: str, variables: dict[str, str], target: tuple[str, str, str]) -> None:
    (one,) = compile_document(API, document({"/x": {"post": operation(function)}})).operations

    assert target_of(one, variables) == FunctionTarget(target[0], target[1], 29.0, target[2])


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/dev/models", ("dev", "/models", "/dev/models")),
        ("/dev", ("dev", "/", "/dev")),
        ("/dev/", ("dev", "/", "/dev/")),
        ("//dev/models", ("dev", "/models", "/dev/models")),
        ("/dev//models", ("dev", "/models", "/dev//models")),
        ("/prod/models", ("prod", "/models", "/prod/models")),
        # names no stage: the whole path belongs to the default stage
        ("/models/x", ("prod", "/models/x", "/models/x")),
        ("/", ("prod", "/", "/")),
        ("/development", ("prod", "/development", "/development")),
    ],
)
def test_first_segment_names_the_stage(path: str, expected: tuple[str, str, str]) -> None:
    result, inner, shown = stages(stage("dev"), stage("prod"), default="prod").snapshot.locate(path)

    assert result is not None
    assert (result.settings.name, inner, shown) == expected


def test_a_directly_matched_path_is_the_one_that_a_search_finds() -> None:
    resources = ("/", "/models", "/models/iris/inference", "/dev/models", "/prod", "/{any}", "/models/{m}")
    compiled = compile_document(API, document({path: {"post": operation(), "get": operation()} for path in resources}))
    for default in ("", "dev", "models"):
        snapshot = Stages({API: compiled}, [stage("dev"), stage("prod"), stage("models")], default=default).snapshot
        assert {"/dev/models", "/prod/models/iris/inference", "/models/models"} <= snapshot.direct.keys()
        for path, (result, inner, methods) in snapshot.direct.items():
            located, path_within, shown = snapshot.locate(path)
            assert (located, path_within, shown) == (result, inner, path)
            for method, match in methods.items():
                assert compiled.routes.match(method, inner) == match
    assert "/iris/inference" not in snapshot.direct


def test_learned_paths_are_found_and_their_number_and_length_are_limited() -> None:
    compiled = compile_document(API, document({"/models/{m}": {"post": operation()}, "/models": {"get": operation()}}))
    snapshot = Stages({API: compiled}, [stage("dev")], default="dev").snapshot
    dev = snapshot.stages["dev"]
    match = compiled.routes.match("POST", "/models/iris")
    assert match is not None
    assert snapshot.find("/dev/models/iris") is None
    snapshot.learn("/dev/models/iris", dev, "/models/iris", "POST", match)
    assert snapshot.find("/dev/models/iris") == (dev, "/models/iris", {"POST": match})
    snapshot.learn("/dev/models/iris", dev, "/models/iris", "PUT", match)
    assert snapshot.find("/dev/models/iris") == (dev, "/models/iris", {"POST": match, "PUT": match})
    direct = snapshot.find("/dev/models")
    snapshot.learn("/dev/models", dev, "/models", "POST", match)
    assert snapshot.find("/dev/models") is direct
    long = "/models/" + "m" * LONGEST_LEARNED
    snapshot.learn(long, dev, long, "POST", match)
    assert snapshot.find(long) is None
    for number in range(MOST_LEARNED + 10):
        snapshot.learn(f"/models/m{number}", dev, f"/models/m{number}", "POST", match)
    assert snapshot.find(f"/models/m{MOST_LEARNED + 9}") is not None
    assert len(snapshot.learned) <= MOST_LEARNED


def test_path_without_stage_has_no_stage_if_there_is_no_default() -> None:
    assert stages(stage("dev")).snapshot.locate("/models")[0] is None


def test_canary_merges_its_overrides_into_the_variables() -> None:
    canary = CanarySettings(100, {"iris": "v2", "new": "n"}, "d2")
    one = stages(stage(variables={"iris": "v1", "alias": "live"}, canary=canary)).snapshot.stages["dev"]

    share = one.share(lambda: 0.999)

    assert share.is_canary
    assert share.deployment_id == "d2"
    assert share.variables == {"iris": "v2", "alias": "live", "new": "n"}
    assert share.targets[0].function == "local_iris_v2"
    assert one.baseline.variables == {"iris": "v1", "alias": "live"}
    assert one.baseline.targets[0].function == "local_iris_v1"


@pytest.mark.parametrize(
    ("percent", "drawn", "is_canary"),
    [
        (0, 0.0, False),
        (100, 0.9999999999999999, True),
        (10.5, 0.1049, True),
        (10.5, 0.1051, False),
        (0.01, 0.0, True),
    ],
)
def test_random_number_decides_by_percent(percent: float, drawn: float, is_canary: bool) -> None:
    one = stages(stage(canary=CanarySettings(percent, {}, "d1"))).snapshot.stages["dev"]

    assert one.share(lambda: drawn).is_canary is is_canary


def test_many_random_numbers_come_close_to_the_percent() -> None:
    one = stages(stage(canary=CanarySettings(12.5, {}, "d1"))).snapshot.stages["dev"]
    draw = random.Random(7).random

    share = sum(one.share(draw).is_canary for _ in range(20_000)) / 20_000

    assert share == pytest.approx(0.125, abs=0.01)


def test_replace_swaps_the_whole_snapshot() -> None:
    holder = stages(stage("dev", {"iris": "v1", "alias": "live"}), stage("prod"))
    before = holder.snapshot

    holder.update(stage("dev", {"iris": "v2", "alias": "live"}))

    assert before.stages["dev"].baseline.targets[0].function == "local_iris_v1"
    assert holder.snapshot.stages["dev"].baseline.targets[0].function == "local_iris_v2"
    assert [settings.name for settings in holder.settings] == ["dev", "prod"]


def test_promotion_reuses_what_the_canary_had_compiled() -> None:
    canary = CanarySettings(10, {"iris": "v2"}, "d1")
    holder = stages(stage("dev", {"iris": "v1", "alias": "live"}, canary=canary))
    before = holder.snapshot.stages["dev"].canary
    assert before is not None

    holder.update(stage("dev", {"iris": "v2", "alias": "live"}))

    after = holder.snapshot.stages["dev"].baseline
    assert after.targets is before.targets
    assert not after.is_canary


def test_throttle_keeps_its_count_when_other_settings_change() -> None:
    holder = stages(stage(throttle=Throttle(1, 1)))
    bucket = holder.snapshot.stages["dev"].bucket

    holder.update(stage(variables={"iris": "v2"}, throttle=Throttle(1, 1)))
    assert holder.snapshot.stages["dev"].bucket is bucket

    holder.update(stage(throttle=Throttle(2, 1)))
    assert holder.snapshot.stages["dev"].bucket not in {bucket, None}

    holder.update(stage())
    assert holder.snapshot.stages["dev"].bucket is None


@pytest.mark.parametrize(
    ("settings", "default", "says"),
    [
        ((stage(), stage()), "", "'dev' is defined twice"),
        ((stage(api="other"),), "", "no API 'other'"),
        ((stage(),), "prod", "no stage 'prod'; the stages are dev"),
    ],
)
def test_contradicting_stages_are_rejected(settings: tuple[StageSettings, ...], default: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        stages(*settings, default=default)


def test_rejected_replacement_leaves_the_old_state() -> None:
    holder = stages(stage("dev"), default="dev")
    before = holder.snapshot

    with pytest.raises(ValueError, match="no stage 'dev'"):
        holder.replace([stage("prod")])

    assert holder.snapshot is before


def test_settings_come_from_a_plan() -> None:
    plan = StagePlan("prod", {"iris": "v1"}, CanaryPlan(10, {"iris": "v2"}, release=False), "none", Throttle(1, 2))

    assert stage_settings(plan, API, "d1") == StageSettings(
        "prod", API, "d1", {"iris": "v1"}, CanarySettings(10, {"iris": "v2"}, "d1"), Throttle(1, 2)
    )
    assert stage_settings(StagePlan("dev", {}, None, "none", None), API, "d1") == StageSettings("dev", API, "d1", {})


def test_function_sees_the_effective_variables_and_may_change_them() -> None:
    functions = FakeFunctions(lambda event: event["stageVariables"].update(iris="spoiled") or {"statusCode": 200})
    variables = {"iris": "v1", "alias": "live"}
    under_test = gateway(PATHS, functions, stage(variables=variables, canary=CanarySettings(100, {"iris": "v2"}, "d1")))

    for _ in range(2):
        respond(under_test, request("/dev/models/iris/inference"))

    assert functions.calls == [("local_iris_v2", "live", 29.0)] * 2
    share = under_test.stages.snapshot.stages["dev"].canary
    assert share is not None
    assert share.variables == {"iris": "v2", "alias": "live"}

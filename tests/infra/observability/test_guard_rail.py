"""When the guard rail exists, and which alarms it receives."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.builders.deployed import deployed
from tests.builders.manifests import manifest, model, stage
from tests.builders.pulumi_program import ACCOUNT, REGION
from turnout.manifest.judgement import Judgement
from turnout.manifest.parser import Canary, Manifest, RoutedCanary

ALARM = f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm"


def heard(canary: Canary, **fields: Any) -> Any:
    """Return the pattern with which the rule matches an alarm's ARN."""
    program = deployed(manifest(stages=(stage(canary=canary, **fields),)))
    pattern = json.loads(program.of("cloudwatch/eventRule:EventRule")["prod"].inputs["eventPattern"])
    assert pattern["detail"] == {"state": {"value": ["ALARM"]}}
    assert pattern["source"] == ["aws.cloudwatch"]
    return pattern["resources"]


def test_error_alarm_of_the_canary_target_is_used_if_none_is_named() -> None:
    assert heard(Canary(10.0, {"iris": "v2"})) == [f"{ALARM}:turnout-test_iris_v2_errors"]


def test_alarms_named_by_the_canary_are_used_in_addition_to_its_own() -> None:
    canary = Canary(10.0, {"iris": "v2"}, judgement=Judgement(alarms=("sales", "latency")))
    assert heard(canary) == [f"{ALARM}:turnout-test_iris_v2_errors", f"{ALARM}:sales", f"{ALARM}:latency"]


def test_alarms_named_by_a_release_are_used_in_addition_to_those_of_every_function() -> None:
    canary = Canary(10.0, {}, release=True, judgement=Judgement(alarms=("sales",)))
    assert heard(canary) == [f"{ALARM}:sales", {"wildcard": f"{ALARM}:turnout-test_*_errors"}]


def test_release_uses_the_error_alarms_of_every_function() -> None:
    assert heard(Canary(10.0, {}, release=True)) == [{"wildcard": f"{ALARM}:turnout-test_*_errors"}]


def test_canary_of_more_models_than_a_pattern_can_name_uses_the_error_alarms_of_every_function() -> None:
    names = [f"model-{number}" for number in range(40)]
    canary = Canary(10.0, dict.fromkeys(names, "v2"))
    of = manifest(
        tuple(model(name) for name in names), stages=(stage(serve=dict.fromkeys(names, "v1"), canary=canary),)
    )
    pattern = deployed(of).of("cloudwatch/eventRule:EventRule")["prod"].inputs["eventPattern"]
    assert json.loads(pattern)["resources"] == [{"wildcard": f"{ALARM}:turnout-test_*_errors"}]
    assert len(pattern) < 2048


def test_canary_of_a_weighted_model_uses_only_the_alarms_of_its_new_version() -> None:
    canary = Canary(10.0, {"iris": "v2"})
    assert heard(canary, serve={}, weights={"iris": {"v1": 100.0}}) == [f"{ALARM}:turnout-test_iris_v2_errors"]


@pytest.mark.parametrize(
    "canary", [None, Canary(10.0, {"iris": "v2"}, judgement=Judgement(auto_rollback=False)), Canary(10.0, {})]
)
def test_no_guard_rail_if_there_is_no_canary_to_end(canary: Canary | None) -> None:
    program = deployed(manifest(stages=(stage(canary=canary),)))
    assert program.of("turnout:infra:GuardRail") == {}
    assert program.of("cloudwatch/eventRule:EventRule") == {}


def test_target_passes_stage_and_alarm_to_the_function() -> None:
    program = deployed(manifest(stages=(stage(canary=Canary(10.0, {"iris": "v2"})),)))
    transformed = program.of("cloudwatch/eventTarget:EventTarget")["prod"].inputs["inputTransformer"]
    assert transformed["inputPaths"] == {"alarm": "$.detail.alarmName"}
    assert json.loads(transformed["inputTemplate"]) == {
        "rest_api_id": "turnout-test_none-id",
        "stage": "prod",
        "alarm": "<alarm>",
    }


def test_states_are_checked_every_minute_and_once_the_stage_has_its_canary() -> None:
    program = deployed(manifest(stages=(stage(canary=Canary(10.0, {"iris": "v2"})),)))
    event = {
        "rest_api_id": "turnout-test_none-id",
        "stage": "prod",
        "alarms": {"names": ["turnout-test_iris_v2_errors"], "prefix": "", "suffix": "_errors"},
    }
    assert program.of("cloudwatch/eventRule:EventRule")["prod.check"].inputs["scheduleExpression"] == "rate(1 minute)"
    assert json.loads(program.of("cloudwatch/eventTarget:EventTarget")["prod.check"].inputs["input"]) == event
    assert program.of("lambda/permission:Permission")["prod.check"].inputs["sourceArn"].endswith(".prod.check")
    checked = program.one("lambda/invocation:Invocation")
    assert json.loads(checked.inputs["input"]) == event
    assert {"prod", "guard-rail"} <= {urn.rpartition("::")[2] for urn in checked.after}


def test_another_share_is_checked_again() -> None:
    triggers = [
        deployed(manifest(stages=(stage(canary=Canary(percent, {"iris": "v2"})),)))
        .one("lambda/invocation:Invocation")
        .inputs["triggers"]
        for percent in (10.0, 25.0)
    ]
    assert triggers[0] != triggers[1]


def test_function_is_one_file_that_lambda_can_import() -> None:
    program = deployed(manifest(stages=(stage(canary=Canary(10.0, {"iris": "v2"})),)))
    made = program.of("lambda/function:Function")["guard-rail"].inputs
    module, name = made["handler"].split(".")
    assert list(made["code"].assets) == [f"{module}.py"]
    assert name == "handler"
    assert made["name"] == "turnout-test-guard-rail"


@pytest.mark.parametrize("named", [0, 10, 30])
def test_every_alarm_is_watched_by_rules_and_an_input_that_eventbridge_accepts(named: int) -> None:
    names = tuple(f"alarm-{number}-".ljust(255, "x") for number in range(named))
    canary = Canary(10.0, {"iris": "v2"}, judgement=Judgement(alarms=names))
    program = deployed(manifest(stages=(stage(canary=canary),)))
    patterns = [
        resource.inputs["eventPattern"]
        for resource in program.of("cloudwatch/eventRule:EventRule").values()
        if "eventPattern" in resource.inputs
    ]
    assert all(len(pattern) <= 2048 for pattern in patterns)
    watched = [resource for pattern in patterns for resource in json.loads(pattern)["resources"]]
    assert {entry.rpartition(":")[2] for entry in watched if isinstance(entry, str)} >= set(names)
    assert len(program.of("lambda/permission:Permission")) == len(patterns) + 1
    checked = program.of("cloudwatch/eventTarget:EventTarget")["prod.check"].inputs["input"]
    assert len(checked) <= 8192
    assert set(json.loads(checked)["alarms"]["names"]) >= set(names)


def with_routed(count: int, percent: float = 25.0, **judged: Any) -> Manifest:
    """Return models with a routed canary each, in a stage without a canary of its own."""
    names = [f"model-{number}" for number in range(count)]
    canary = RoutedCanary("v2", percent, {"v1": 100.0}, judgement=Judgement(**judged))
    weights = dict.fromkeys(names, canary.weights)
    routed = dict.fromkeys(names, canary)
    return manifest(tuple(model(name) for name in names), stages=(stage(serve={}, weights=weights, routed=routed),))


def test_routed_canary_ends_at_its_own_alarms() -> None:
    program = deployed(with_routed(1, alarms=("<sales>",)))
    alarms = ["turnout-test_model-0_v2_errors", "<sales>"]
    rules = program.of("cloudwatch/eventRule:EventRule")
    assert json.loads(rules["prod.routed"].inputs["eventPattern"])["resources"] == [
        f"{ALARM}:{name}" for name in alarms
    ]
    assert rules["prod.routed.check"].inputs["name"].endswith("-guard-rail.prod.routed.check")
    event = {
        "rest_api_id": "turnout-test_none-id",
        "stage": "prod",
        "routed": [
            {
                "model": "model-0",
                "variable": "model0Route",
                "version": "v2",
                "deployed": "v1.75,v2.25",
                "baseline": "v1.100",
                "alarms": alarms,
            }
        ],
    }
    targets = program.of("cloudwatch/eventTarget:EventTarget")
    assert json.loads(targets["prod.routed.check"].inputs["input"]) == event
    template = targets["prod.routed"].inputs["inputTransformer"]["inputTemplate"]
    assert template.count("<") == 1, "EventBridge takes other angle brackets for placeholders, too"
    assert json.loads(template) == {**event, "alarm": "<alarm>"}
    assert json.loads(program.one("lambda/invocation:Invocation").inputs["input"]) == event


SALES = "sales-per-minute-of-the-whole-shop-in-europe"


def test_each_of_many_routed_canaries_is_guarded_within_the_limits_of_eventbridge() -> None:
    program = deployed(with_routed(45, alarms=(SALES,)))
    targets = program.of("cloudwatch/eventTarget:EventTarget")
    checks = {name: made.inputs["input"] for name, made in targets.items() if name.endswith(".check")}
    assert list(checks) == ["prod.routed.check", "prod.routed2.check"]
    guarded = [entry["model"] for text in checks.values() for entry in json.loads(text)["routed"]]
    assert guarded == [f"model-{number}" for number in range(45)]
    templates = [made.inputs["inputTransformer"] for made in targets.values() if "inputTransformer" in made.inputs]
    assert all(len(text) <= 8192 for text in (*checks.values(), *(made["inputTemplate"] for made in templates)))
    rules = program.of("cloudwatch/eventRule:EventRule")
    patterns = [made.inputs["eventPattern"] for made in rules.values() if "eventPattern" in made.inputs]
    assert all(len(pattern) <= 2048 for pattern in patterns)
    watched = {name for pattern in patterns for name in json.loads(pattern)["resources"]}
    own = {f"turnout-test_model-{number}_v2_errors" for number in range(45)}
    assert watched == {f"{ALARM}:{name}" for name in (*own, SALES)}
    statements = [made.inputs["statementId"] for made in program.of("lambda/permission:Permission").values()]
    assert len(statements) == len(set(statements)) == len(rules)
    assert len({made.inputs["name"] for made in rules.values()}) == len(rules)


def test_routed_canary_without_auto_rollback_is_not_guarded() -> None:
    assert deployed(with_routed(1, auto_rollback=False)).of("turnout:infra:GuardRail") == {}


def test_another_share_of_a_routed_canary_is_checked_again() -> None:
    triggers = [
        deployed(with_routed(1, percent)).one("lambda/invocation:Invocation").inputs["triggers"]
        for percent in (25.0, 50.0)
    ]
    assert triggers[0] != triggers[1]

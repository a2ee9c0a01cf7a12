"""Canaries that change, end badly, or are ended by their guard rail, and an `up` that fails halfway."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest

from infra.observability.guard_rail_function import end_canary
from tests.engine.life import LEAVES_LOOPS, Life, functions, touched
from turnout.gateway.rules.stages import StageSettings

pytestmark = LEAVES_LOOPS

IRIS, DIGITS = "turnout-test_iris_v1", "turnout-test_digits_v1"


@pytest.fixture
def two_versions(life: Life) -> Life:
    """Two versions of both models; the first of each is served."""
    for name in ("iris", "digits"):
        life.project.tree["models"][name]["versions"]["v2"] = {"artifact": f"models/{name}/v2/model.onnx"}
    return life


def canary_of(stage: StageSettings) -> tuple[float, Mapping[str, str]]:
    assert stage.canary is not None
    return stage.canary.percent, stage.canary.overrides


def test_any_change_of_a_canary_is_one_call(two_versions: Life) -> None:
    life, prod = two_versions, two_versions.project.prod
    prod["canary"] = {"percent": 10, "serve": {"iris": "v2"}}
    life.up()

    # Another share of another model.
    prod["canary"] = {"percent": 30, "serve": {"digits": "v2"}}
    life.up()
    assert life.world.aws.stages.patches == [
        [
            "remove /canarySettings/stageVariableOverrides/iris",
            "replace /canarySettings/stageVariableOverrides/digits v2",
            "replace /canarySettings/percentTraffic 30.0",
        ]
    ]
    assert canary_of(life.stage) == (30.0, {"digits": "v2", "canary": "true"})
    assert guard_of("prod") == ["turnout-test_digits_v2_errors"]

    # One model is promoted, the other continues: still one call, so no request sees a half-done change.
    prod["canary"]["serve"] = {"iris": "v2"}
    prod["serve"]["digits"] = "v2"
    life.up()
    assert len(life.world.aws.stages.patches) == 1
    assert life.stage.variables["digits"] == "v2"
    assert canary_of(life.stage) == (30.0, {"iris": "v2", "canary": "true"})

    # A second canary, with a share of its own: its router is made, and API Gateway's canary stays as it is.
    prod["routed_canaries"] = {"digits": {"version": "v1", "percent": 40}}
    life.up()
    (patch,) = life.world.aws.stages.patches
    assert sorted(patch) == ["replace /variables/digits router", "replace /variables/digitsRoute v2.60,v1.40"]
    assert canary_of(life.stage) == (30.0, {"iris": "v2", "canary": "true"})
    assert "turnout-test_digits_router" in functions()

    # Its alarm ends it alone. An `up` without a change of the file does not restart it, another share does.
    alarm = "turnout-test_digits_v1_errors"
    assert guard_of("prod.routed") == [alarm]
    (target,) = boto3.client("events").list_targets_by_rule(Rule="turnout-test-guard-rail.prod.routed.check")["Targets"]
    check = json.loads(target["Input"])
    assert life.world.aws.check_canary(check)["ended"] is False
    set_alarm(alarm, "ALARM")
    assert life.world.aws.check_canary(check)["models"] == ["digits"]
    assert life.stage.variables["digitsRoute"] == "v2.100"
    assert canary_of(life.stage) == (30.0, {"iris": "v2", "canary": "true"})
    assert life.world.aws.check_canary(check)["ended"] is False
    prod["routed_canaries"]["digits"]["percent"] = 50
    life.up()
    assert life.stage.variables["digitsRoute"] == "v2.100"
    ended = "stages.prod.routed_canaries.digits: the guard rail ended it when it started, because one of its alarms was"
    assert ended in life.result.stdout
    set_alarm(alarm, "OK")
    prod["routed_canaries"]["digits"]["percent"] = 60
    life.up()
    assert life.stage.variables["digitsRoute"] == "v2.40,v1.60"

    # The guard rail and everything that belongs to it is deleted with the last canary, and so is the router.
    del prod["canary"], prod["routed_canaries"]
    done = touched(life.up())
    assert life.stage.variables["digits"] == "v2"
    assert "digitsRoute" not in life.stage.variables
    assert "turnout-test_digits_router" not in functions()
    assert {kind for verb, kind, _ in done if verb == "delete"} >= {
        "Function", "Role", "RolePolicy", "LogGroup", "EventRule", "EventTarget", "Permission"
    }  # fmt: skip
    assert boto3.client("events").list_rules()["Rules"] == []
    assert not [name for name in functions() if "guard" in name]


def guard_of(stage: str) -> list[str]:
    """Return the alarms that end a stage's canary."""
    rule = boto3.client("events").describe_rule(Name=f"turnout-test-guard-rail.{stage}")
    return [arn.rpartition(":alarm:")[2] for arn in json.loads(rule["EventPattern"])["resources"]]


def test_abandoned_release_leaves_the_old_code_for_all_requests(life: Life) -> None:
    project, prod = life.project, life.project.prod
    life.up()
    old = boto3.client("lambda").get_function(FunctionName=IRIS, Qualifier="live")["Configuration"]["CodeSha256"]
    project.code = "2"
    project.tree["models"]["iris"]["versions"]["v1"]["memory_mb"] = 2048
    prod["canary"] = {"percent": 10, "release": True}
    life.up()
    assert live_of(IRIS)["CodeSha256"] == old
    assert live_of(IRIS)["MemorySize"] == 1024
    baseline = life.stage.deployment_id

    # First the code, as docs/deploying.md says: the canary's share gets the old code again, the baseline is unchanged.
    project.code = "1"
    del project.tree["models"]["iris"]["versions"]["v1"]["memory_mb"]
    life.up()
    assert (life.alias(IRIS, "live"), life.alias(IRIS, "next")) == ("1", "3")
    assert life.stage.deployment_id == baseline

    # Then the canary.
    del prod["canary"]
    life.up()
    assert life.stage.canary is None
    assert life.alias(IRIS, "live") == "3"
    assert live_of(IRIS)["CodeSha256"] == old
    assert live_of(IRIS)["MemorySize"] == 1024


def live_of(function: str) -> dict[str, Any]:
    result: dict[str, Any] = boto3.client("lambda").get_function_configuration(FunctionName=function, Qualifier="live")
    return result


def test_canary_ended_by_its_guard_rail_never_restarts_without_its_overrides(two_versions: Life) -> None:
    life, prod = two_versions, two_versions.project.prod
    prod["canary"] = {"percent": 10, "serve": {"iris": "v2"}}
    life.up()
    event = {"rest_api_id": life.stage.api, "stage": "prod"}

    assert end_canary(life.world.aws.stages, event, guard_of("prod")[0])["ended"]
    assert canary_of(life.stage) == (0.0, {"iris": "v2", "canary": "true"})

    # An `up` that changes something else does not restart it.
    life.project.tree["models"]["digits"]["versions"]["v2"]["memory_mb"] = 512
    life.up()
    assert canary_of(life.stage) == (0.0, {"iris": "v2", "canary": "true"})

    # Another share, without a refresh: the canary that starts has its overrides.
    prod["canary"]["percent"] = 25
    life.up()
    assert canary_of(life.stage) == (25.0, {"iris": "v2", "canary": "true"})
    assert life.up() == []

    # Another version of another model, after it was ended again: its share stays 0% until the file sets another.
    end_canary(life.world.aws.stages, event, guard_of("prod")[0])
    prod["canary"]["serve"] = {"digits": "v2"}
    life.up()
    assert canary_of(life.stage) == (0.0, {"digits": "v2", "canary": "true"})

    # Removed from the file: it is deleted, without a refresh.
    del prod["canary"]
    life.up()
    assert life.stage.canary is None
    assert life.up() == []


def set_alarm(name: str, state: str) -> None:
    boto3.client("cloudwatch").set_alarm_state(AlarmName=name, StateValue=state, StateReason="the test says so")


def test_canary_that_starts_while_its_alarm_is_in_alarm_is_ended_immediately(two_versions: Life) -> None:
    life, prod = two_versions, two_versions.project.prod
    # A fallback gets requests, so it has an alarm.
    life.project.tree["models"]["iris"]["routing"] = {"fallback": "v2"}
    life.up()
    alarm = "turnout-test_iris_v2_errors"
    set_alarm(alarm, "ALARM")

    # EventBridge reports only changes of a state, and this one has changed before.
    prod["canary"] = {"percent": 10, "serve": {"iris": "v2"}}
    life.up()
    assert canary_of(life.stage) == (0.0, {"irisRoute": "v2.100", "canary": "true"})
    assert f"because the alarm {alarm} was in ALARM" in life.result.stdout

    # The same if an existing canary gets a larger share.
    prod["canary"]["percent"] = 25
    life.up()
    assert canary_of(life.stage) == (0.0, {"irisRoute": "v2.100", "canary": "true"})

    # Once the alarm is OK, it starts.
    set_alarm(alarm, "OK")
    prod["canary"]["percent"] = 30
    life.up()
    assert canary_of(life.stage) == (30.0, {"irisRoute": "v2.100", "canary": "true"})

    # In any case the state is checked every minute.
    set_alarm(alarm, "ALARM")
    rules = boto3.client("events")
    assert rules.describe_rule(Name="turnout-test-guard-rail.prod.check")["ScheduleExpression"] == "rate(1 minute)"
    (target,) = rules.list_targets_by_rule(Rule="turnout-test-guard-rail.prod.check")["Targets"]
    assert life.world.aws.check_canary(json.loads(target["Input"]))["ended"]
    assert canary_of(life.stage)[0] == 0.0


def test_up_that_fails_halfway_is_continued_by_the_next(two_versions: Life) -> None:
    life = two_versions
    life.world.provider.refuse("aws:lambda/function:Function", "digits_v1", "ServiceException: try again")

    message = life.fail()

    assert "ServiceException: try again" in message
    done = {name for _, kind, name, _ in life.world.provider.journal.take() if kind.endswith(":Function")}
    assert "digits_v1" not in done
    assert life.world.aws.stages.kept == {}, "no stage sends traffic to functions that are not there"

    again = touched(life.up())
    assert ("create", "Function", "digits_v1") in again
    assert not [entry for entry in again if entry[1] == "Function" and entry[2] in done]
    assert {IRIS, DIGITS} <= functions()
    assert life.stage.variables["iris"] == "v1"
    assert life.up() == []


def test_one_up_adds_a_version_and_starts_its_canary(life: Life) -> None:
    project, prod = life.project, life.project.prod
    life.up()
    first = life.stage.deployment_id

    # A route that only the new deployment has; AWS keeps the stage's own while a canary starts.
    project.tree["models"]["iris"]["versions"]["v2"] = {"artifact": "models/iris/v2/model.onnx"}
    prod["canary"] = {"percent": 10, "serve": {"iris": "v2"}}
    life.up()
    note = "only the canary's share sees POST /models/iris/v2/inference until the canary ends"
    assert note in life.result.stdout
    assert life.result.outputs["canary_routes"].value == {"prod": ["POST /models/iris/v2/inference"]}
    assert life.stage.deployment_id == first
    assert life.stage.canary is not None
    second = life.stage.canary.deployment_id
    assert second != first
    assert canary_of(life.stage) == (10.0, {"iris": "v2", "canary": "true"})
    assert life.up() == []

    # Another version while the canary is on: the canary's share sees its route, the baseline does not.
    project.tree["models"]["digits"]["versions"]["v2"] = {"artifact": "models/digits/v2/model.onnx"}
    life.up()
    assert life.stage.deployment_id == first
    assert life.stage.canary.deployment_id not in {first, second}

    # The canary ends: all requests see the newest routes, in one call that ends the canary first.
    del prod["canary"]
    prod["serve"]["iris"] = "v2"
    life.up()
    (operations,) = life.world.aws.stages.patches
    assert operations[0] == "remove /canarySettings"
    assert life.stage.deployment_id not in {first, second}
    assert life.stage.canary is None
    assert life.up() == []

    # With shared routes, versions and models that are added while a canary is on change no document.
    project.tree["routes"] = "shared"
    life.up()
    prod["canary"] = {"percent": 10, "serve": {"iris": "v1"}}
    life.up()
    shared, canary = life.stage.deployment_id, life.stage.canary.deployment_id
    project.tree["models"]["digits"]["versions"]["v3"] = {"artifact": "models/digits/v2/model.onnx"}
    project.tree["models"]["added"] = {"versions": {"v1": {"artifact": "models/digits/v1/model.onnx"}}}
    prod["serve"]["added"] = "v1"
    done = touched(life.up())
    assert ("create", "Function", "digits_v3") in done
    assert ("create", "Function", "added_v1") in done
    assert not {kind for _, kind, _ in done} & {"RestApi", "Deployment"}
    assert "only the canary's share sees" not in life.result.stdout
    assert life.stage.variables["added"] == "v1"
    assert (life.stage.deployment_id, life.stage.canary.deployment_id) == (shared, canary)
    assert canary_of(life.stage) == (10.0, {"iris": "v1", "canary": "true"})

    # Versions that share their routes move into a pool under the canary: the router knows where they are.
    project.tree["models"]["digits"]["pool"] = "small"
    done = touched(life.up())
    assert ("create", "Function", "small_pool") in done
    assert {("delete", "Function", f"digits_{version}") for version in ("v1", "v2", "v3")} <= done
    assert not {kind for _, kind, _ in done} & {"RestApi", "Deployment", "Stage"}
    assert {name for verb, kind, name in done if (verb, kind) == ("create", "BucketObjectv2")} == {
        f"pooled/{digest}/model.onnx" for digest in digests_of(project.folder, "digits")
    }
    assert "turnout-test_small_pool" in functions()

    # A canary between two versions of the pool changes the stage in one call, and measures the two by their names.
    prod["canary"] = {"percent": 10, "serve": {"digits": "v2"}}
    done = touched(life.up())
    assert len(life.world.aws.stages.patches) == 1
    assert ("create", "MetricAlarm", "digits_v2_errors") in done
    assert not {kind for _, kind, _ in done} & {"RestApi", "Deployment", "Function"}
    assert canary_of(life.stage) == (10.0, {"digits": "v2", "canary": "true"})
    assert life.stage.variables["PoolMetrics"] == "digits"
    life.check_deployer_policy()
    prod["serve"]["digits"] = "v2"
    del prod["canary"]
    assert ("delete", "MetricAlarm", "digits_v2_errors") in touched(life.up())
    assert "PoolMetrics" not in life.stage.variables
    assert life.up() == []

    # So many models that a table has their choices: it is written before the one call that names it.
    prod["canary"] = {"percent": 10, "serve": {"digits": "v1"}}
    life.up()
    version = {"v" * 20: {"artifact": "models/digits/v1/model.onnx"}, "v2": {"artifact": "models/digits/v2/model.onnx"}}
    many = {f"{'x' * 35}{number:03}": {"pool": "small", "versions": version} for number in range(780)}
    project.tree["models"] |= many
    prod["serve"]["*"] = "newest"
    rows = life.up()
    order = [(verb, kind.rpartition(":")[2]) for verb, kind, _, _ in rows]
    assert order.index(("create", "BucketObjectv2")) < order.index(("update", "Stage"))
    assert not {kind for _, kind in order} & {"RestApi", "Deployment"}
    assert len(life.world.aws.stages.patches) == 1
    first, moved = life.stage.variables["ChoiceTable"], canary_of(life.stage)[1]["ChoiceTable"]
    assert differing(first, moved) == {"digits"}

    # Its canary ends: another name, another object, and the former one stays for requests that are on their way.
    prod["serve"]["digits"] = "v1"
    del prod["canary"]
    life.up()
    assert life.stage.variables["ChoiceTable"] == moved
    assert differing(first, moved) == {"digits"}
    assert life.up() == []


def differing(first: str, second: str) -> set[str]:
    """Return the models with different versions in two tables."""
    client, bucket = boto3.client("s3"), boto3.client("s3").list_buckets()["Buckets"][0]["Name"]
    tables = (
        json.loads(client.get_object(Bucket=bucket, Key=f"choices/{name}.json")["Body"].read())
        for name in (first, second)
    )
    one, other = tables
    return {model for model in one if one[model] != other[model]}


def digests_of(folder: Path, model: str) -> set[str]:
    """Return the digests of a model's versions."""
    return {hashlib.sha256(file.read_bytes()).hexdigest() for file in (folder / "models" / model).rglob("model.onnx")}

"""Recorded answers of the real API Gateway, compared with the local control plane through boto3 in the same order.

Each recorded test is replayed step by step; each of its placeholders (`<deployment-id:1>`) must stand for one id
throughout.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.builders.control_scene import (
    COPIES,
    DEPLOYMENT,
    OVERRIDES,
    PERCENT,
    ControlScene,
    copying,
    removing,
    replacing,
)
from turnout.gateway.rules.stages import CanarySettings

FOLDER = Path(__file__).parents[2] / "fixtures" / "aws_recorded"
CREATED_ELSEWHERE = {"documentationVersion"}
"""Fields that only CreateStage sets, which is not supported here."""


def recording(file: str, test: str) -> Mapping[str, Any]:
    tests = json.loads((FOLDER / f"apigateway_{file}.json").read_text())
    (result,) = (entry["recorded-content"] for name, entry in tests.items() if name.endswith(f"::{test}"))
    return result  # type: ignore[no-any-return]


class Comparison:
    """One recorded test, and the values of its placeholders so far."""

    def __init__(self, file: str, test: str) -> None:
        self._steps = recording(file, test)
        self._bound: dict[str, str] = {}

    def match(self, step: str, call: Callable[[], Any], **bound: str) -> Any:
        """Make the call and compare its answer, or the error that it raises."""
        try:
            actual = call()
        except ClientError as error:
            actual = error.response
        expected = self._steps[step]
        assert actual["ResponseMetadata"]["HTTPStatusCode"] == expected["ResponseMetadata"]["HTTPStatusCode"], actual
        if "Error" in expected:
            assert {key: actual["Error"][key] for key in ("Code", "Message")} == expected["Error"]
        else:
            self._compare(expected, actual, step)
        return actual

    def _compare(self, expected: Any, actual: Any, at: str) -> None:
        if isinstance(expected, dict):
            wanted = expected.keys() - {"ResponseMetadata"} - CREATED_ELSEWHERE
            assert actual.keys() - {"ResponseMetadata"} == wanted, at
            for key in wanted:
                self._compare(expected[key], actual[key], f"{at}.{key}")
        elif expected == "datetime":
            assert isinstance(actual, datetime), at
        elif isinstance(expected, str) and expected.startswith("<"):
            assert self._bound.setdefault(expected, actual) == actual, at
            assert list(self._bound.values()).count(actual) == 1, at
        else:
            assert actual == expected, at


def test_overrides_are_changed_and_a_canary_removed(scene: ControlScene) -> None:
    aws = Comparison("canary", "TestStageCrudCanary::test_create_update_stages")
    first = aws.match("create-deployment-1", scene.deploy)["id"]
    second = aws.match("create-deployment-2", scene.deploy)["id"]
    canary = CanarySettings(50, {"testVar": "canary"}, second)
    scene.put(variables={"testVar": "default"}, canary=canary, deployment=first, description="dev stage")

    aws.match("get-stage", scene.get)
    changing = replacing(f"{OVERRIDES}/testVar", "updated")
    aws.match("update-stage-canary-settings-overrides", lambda: scene.update(changing))
    aws.match("update-stage-remove-canary-settings", lambda: scene.update(removing("/canarySettings")))
    aws.match("get-stage-after-remove", scene.get)


@pytest.mark.parametrize("test", ["test_create_canary_deployment_with_stage", "test_create_canary_deployment"])
def test_canary_deployment_is_created(scene: ControlScene, test: str) -> None:
    aws = Comparison("canary", f"TestStageCrudCanary::{test}")
    first = aws.match("create-deployment", scene.deploy)["id"]
    has_canary = test == "test_create_canary_deployment"
    name, step, value = ("dev1", "get-stage-1", "canary2") if has_canary else ("dev", "get-stage", "canary")
    canary = CanarySettings(40, {"testVar": "canary1"}, first) if has_canary else None
    scene.put(name, {"testVar": "default"}, canary=canary, deployment=first, description="dev stage")

    settings = {"percentTraffic": 50, "stageVariableOverrides": {"testVar": value}}
    aws.match("create-canary-deployment", lambda: scene.deploy(stageName=name, canarySettings=settings))
    aws.match(step, lambda: scene.get(name))


def test_first_change_creates_the_canary(scene: ControlScene) -> None:
    aws = Comparison("canary", "TestStageCrudCanary::test_create_canary_deployment_by_stage_update")
    first = aws.match("create-deployment", scene.deploy)["id"]
    second = aws.match("create-deployment-2", scene.deploy)["id"]
    scene.put(variables={"testVar": "default"}, deployment=first, description="dev stage")

    aws.match("update-stage-with-deployment", lambda: scene.update(replacing(DEPLOYMENT, second)))
    aws.match("remove-stage-canary", lambda: scene.update(removing("/canarySettings")))
    aws.match("update-stage-with-percent", lambda: scene.update(replacing(PERCENT, "50")))
    aws.match("get-stage", scene.get)


@pytest.mark.parametrize(
    ("step", "wanted"),
    [
        ("create-canary-deployment-no-stage", {}),
        ("create-canary-deployment-empty-stage", {"stageName": ""}),
        ("create-canary-deployment-non-existing-stage", {"stageName": "non-existing"}),
    ],
)
def test_canary_deployment_needs_a_stage(scene: ControlScene, step: str, wanted: Mapping[str, str]) -> None:
    aws = Comparison("canary", "TestStageCrudCanary::test_create_canary_deployment_validation")
    settings = {"percentTraffic": 50, "stageVariableOverrides": {"testVar": "canary"}}

    aws.match(step, lambda: scene.deploy(canarySettings=settings, **wanted))

    before = len(scene.client.get_deployments(restApiId="a1b2c3d4e5")["items"])
    with pytest.raises(ClientError):
        scene.deploy(canarySettings=settings, **wanted)
    assert len(scene.client.get_deployments(restApiId="a1b2c3d4e5")["items"]) == before


@pytest.mark.parametrize(
    ("step", "operation"),
    [
        ("update-stage-canary-settings-remove-overrides", removing(OVERRIDES)),
        ("update-stage-canary-settings-bad-path", removing("/canarySettings/badPath")),
        ("update-stage-canary-settings-bad-path-2", replacing("/canarySettings", "test")),
        ("update-stage-canary-settings-replace-bad-path", replacing("/canarySettings/badPath", "badPath")),
        ("update-stage-add-deployment", {"op": "add", "path": DEPLOYMENT, "value": "deployment"}),
        ("update-stage-no-deployment", replacing(DEPLOYMENT, "deployment")),
    ],
)
def test_invalid_canary_operations_are_rejected(scene: ControlScene, step: str, operation: Mapping[str, str]) -> None:
    aws = Comparison("canary", "TestStageCrudCanary::test_update_stage_canary_deployment_validation")
    aws.match("get-stage", scene.get)
    scene.deploy(
        stageName="dev", canarySettings={"percentTraffic": 50, "stageVariableOverrides": {"testVar": "canary"}}
    )
    before = scene.stage

    aws.match(step, lambda: scene.update(operation))

    assert scene.stage == before


def test_promotion_copies_the_canary(scene: ControlScene) -> None:
    aws = Comparison("canary", "TestStageCrudCanary::test_update_stage_with_copy_ops")
    first = aws.match("deployment-1", scene.deploy)["id"]
    scene.put(variables={"testVar": "test", "testVar2": "test2"}, deployment=first)

    wrong = copying("/variables", OVERRIDES)
    aws.match("copy-with-bad-statement", lambda: scene.update(wrong))
    aws.match("copy-with-no-replace", lambda: scene.update(*COPIES))
    aws.match("update-stage-with-copy", lambda: scene.update(replacing(PERCENT, "0.0"), *COPIES))
    settings = {"percentTraffic": 50, "stageVariableOverrides": {"testVar": "override"}}
    aws.match("deployment-canary", lambda: scene.deploy(stageName="dev", canarySettings=settings))
    aws.match("get-stage", scene.get)
    aws.match("update-stage-with-copy-2", lambda: scene.update(replacing(PERCENT, "0.0"), *COPIES))


def test_invocation_of_a_recorded_canary_has_its_overrides(scene: ControlScene) -> None:
    aws = Comparison("canary", "TestCanaryDeployments::test_invoking_canary_deployment")
    first = aws.match("create-deployment-1", scene.deploy)["id"]
    second = aws.match("create-deployment-2", scene.deploy)["id"]
    scene.put(variables={"testVar": "default", "defaultVar": "default"}, deployment=first)

    aws.match(
        "update-stage",
        lambda: scene.update(
            replacing(DEPLOYMENT, second),
            replacing(PERCENT, "100.0"),
            replacing(f"{OVERRIDES}/testVar", "canary"),
            replacing(f"{OVERRIDES}/noStageVar", "canary"),
        ),
    )


@pytest.mark.parametrize(
    ("test", "step", "operation"),
    [
        ("test_create_update_stages", "error-update-doc-version", replacing("/documentation_version", "foo")),
        ("test_create_update_stages", "error-update-tags", replacing("/tags/tag1", "value1")),
        ("test_update_stage_remove_wildcard", "delete-error", removing("/*/*")),
    ],
)
def test_invalid_stage_operations_are_rejected(
    scene: ControlScene, test: str, step: str, operation: Mapping[str, str]
) -> None:
    Comparison("common", f"TestStages::{test}").match(step, lambda: scene.update(operation))


def test_removing_all_method_settings_leaves_none(scene: ControlScene) -> None:
    aws = Comparison("common", "TestStages::test_update_stage_remove_wildcard")
    scene.put("s1", description="my stage")
    aws.match("get-stage", lambda: scene.get("s1"))

    scene.update(replacing("/*/*/throttling/burstLimit", "123"), stage="s1")

    aws.match("update-stage-reset", lambda: scene.update(removing("/*/*"), stage="s1"))
    aws.match("get-stage-after-reset", lambda: scene.get("s1"))

"""The control plane through boto3: AWS's recipes, rejected changes, and answers."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.builders.aws_clients import refusal
from tests.builders.control_scene import (
    API_ID,
    COPIES,
    DEPLOYMENT,
    FIRST,
    NOW,
    OVERRIDES,
    PERCENT,
    ControlScene,
    Operation,
    copying,
    removing,
    replacing,
)
from tests.builders.waiting import PATIENCE_S
from turnout.gateway.rules.stages import CanarySettings
from turnout.manifest.parser import Throttle

BAD = (400, "BadRequestException")
V1 = {"iris": "v1", "spam": "v1"}
CANARY = CanarySettings(10, {"iris": "v2", "spam": "v2"}, FIRST)


@pytest.mark.parametrize(
    ("operations", "variables", "canary"),
    [
        (
            [
                replacing(PERCENT, "10.5"),
                replacing("/canarySettings/useStageCache", "false"),
                replacing(f"{OVERRIDES}/iris", "v2"),
            ],
            V1,
            CanarySettings(10.5, {"iris": "v2"}, FIRST),
        ),
        ([replacing(f"{OVERRIDES}/iris", "v2")], V1, CanarySettings(0, {"iris": "v2"}, FIRST)),
        ([replacing("/canarySettings/useStageCache", "true")], V1, CanarySettings(0, {}, FIRST, use_stage_cache=True)),
        ([replacing(PERCENT, "0")], V1, CanarySettings(0, {}, FIRST)),
        ([replacing(PERCENT, "100")], V1, CanarySettings(100, {}, FIRST)),
        ([replacing("/variables/new_One", "a-._~:/?#&=,1")], {**V1, "new_One": "a-._~:/?#&=,1"}, None),
        ([removing("/variables/spam")], {"iris": "v1"}, None),
        ([], V1, None),
    ],
)
def test_stage_without_a_canary_is_changed(
    scene: ControlScene, operations: list[Operation], variables: Mapping[str, str], canary: CanarySettings | None
) -> None:
    scene.put(variables=V1)

    answer = scene.update(*operations)

    assert (scene.stage.variables, scene.stage.canary) == (variables, canary)
    del answer["ResponseMetadata"]
    assert answer.items() <= scene.get().items()


@pytest.mark.parametrize(
    ("operations", "variables", "canary"),
    [
        ([replacing(PERCENT, "25")], V1, CanarySettings(25, CANARY.overrides, FIRST)),
        ([removing(f"{OVERRIDES}/iris")], V1, CanarySettings(10, {"spam": "v2"}, FIRST)),
        ([replacing(PERCENT, "0.0"), *COPIES], dict(CANARY.overrides), CanarySettings(0, CANARY.overrides, FIRST)),
        ([removing("/canarySettings")], V1, None),
        (
            [replacing("/variables/iris", "v2"), removing(f"{OVERRIDES}/iris")],
            {"iris": "v2", "spam": "v1"},
            CanarySettings(10, {"spam": "v2"}, FIRST),
        ),
        ([*COPIES, removing("/canarySettings")], dict(CANARY.overrides), None),
    ],
    ids=["percent", "drop-override", "promote", "rollback", "promote-one", "promote-and-end"],
)
def test_stage_with_a_canary_is_changed(
    scene: ControlScene, operations: list[Operation], variables: Mapping[str, str], canary: CanarySettings | None
) -> None:
    scene.put(variables=V1, canary=CANARY)

    scene.update(*operations)

    assert (scene.stage.variables, scene.stage.canary) == (variables, canary)


@pytest.mark.parametrize(
    ("operation", "says"),
    [
        (replacing(PERCENT, "100.1"), "Invalid value '100.1' for /canarySettings/percentTraffic"),
        (replacing(PERCENT, "-1"), "Invalid value '-1'"),
        (replacing(PERCENT, "nan"), "Invalid value 'nan'"),
        (replacing(PERCENT, "ten"), "Invalid value 'ten'"),
        (replacing(PERCENT, "5_0"), "Invalid value '5_0'"),
        (replacing(PERCENT, "\u0665\u0660"), "Invalid value '\u0665\u0660'"),
        (replacing(PERCENT, "\uff15"), "Invalid value '\uff15'"),
        (replacing(PERCENT, " 5"), "Invalid value ' 5'"),
        (replacing(PERCENT, "5\n"), "Invalid value"),
        (replacing(PERCENT, "+5"), "Invalid value '+5'"),
        (replacing(PERCENT, "0x5"), "Invalid value '0x5'"),
        (replacing(PERCENT, ""), "Invalid value ''"),
        ({"op": "replace", "path": PERCENT}, "Invalid value None"),
        (replacing("/canarySettings/useStageCache", "1"), "must be true or false"),
        (replacing(f"{OVERRIDES}/iris", "v 2"), "Invalid value 'v 2' of stage variable iris"),
        (replacing(f"{OVERRIDES}/ir-is", "v2"), "Invalid stage variable name 'ir-is'"),
        (replacing("/variables/iris", ""), "Invalid value '' of stage variable iris"),
        (replacing("/variables/iris", "$LATEST"), "Invalid value '$LATEST'"),
        (replacing("/variables/iris", "v" * 513), "at most 512"),
        (replacing("/variables", "x"), "Invalid method setting path: /variables. Must be one of: [/deploymentId"),
        (replacing("/variables/a/b", "x"), "Invalid method setting path: /variables/a/b."),
        (replacing(OVERRIDES, "x"), f"Invalid method setting path: {OVERRIDES}."),
        (replacing("", "x"), "Invalid method setting path: . Must"),
        (replacing("/deploymentId", "nothere"), "Deployment id does not exist"),
        (replacing("/cacheClusterEnabled", "true"), "/cacheClusterEnabled has no effect on this machine"),
        (replacing("/models~1iris/POST/throttling/rateLimit", "5"), "has no effect on this machine"),
        (replacing("/*/*/throttling/rateLimit", "inf"), "must be a number, at least 0"),
        (removing("/variables/other"), "Cannot remove method setting variables/other because"),
        (removing(f"{OVERRIDES}/other"), "Cannot remove method setting canarySettings/stageVariableOverrides/other"),
        (removing("/deploymentId"), "Cannot remove method setting deploymentId because"),
        ({"op": "add", "path": "/variables/x", "value": "1"}, "Invalid add operation with path: /variables/x"),
        ({"op": "test", "path": "/variables/x", "value": "1"}, "Invalid test operation with path: /variables/x"),
        (
            copying(DEPLOYMENT, "/variables"),
            f"Invalid copy operation with path: /variables and from {DEPLOYMENT}. Valid",
        ),
        ({"op": "copy", "path": "/variables"}, "Invalid copy operation with path: /variables and from None"),
    ],
)
def test_call_with_an_invalid_operation_is_rejected_as_a_whole(
    scene: ControlScene, operation: Operation, says: str
) -> None:
    scene.put(variables=V1, canary=CANARY)
    before, generation = scene.stage, scene.state.generation()

    status, code, message = refusal(lambda: scene.update(replacing("/variables/iris", "v3"), operation))

    assert (status, code) == BAD
    assert says in message
    assert (scene.stage, scene.state.generation()) == (before, generation)


def test_missing_canary_cannot_be_removed(scene: ControlScene) -> None:
    assert refusal(lambda: scene.update(removing("/canarySettings"))) == (
        *BAD,
        "Cannot remove method setting canarySettings because there is no method setting for this method ",
    )


def test_stage_has_at_most_a_hundred_variables(scene: ControlScene) -> None:
    scene.put(variables={f"v{number}": "1" for number in range(99)})

    scene.update(replacing("/variables/last", "1"))

    assert refusal(lambda: scene.update(replacing("/variables/more", "1")))[:2] == BAD


def test_throttle_of_all_methods_is_the_throttle_of_the_stage(scene: ControlScene) -> None:
    scene.update(replacing("/*/*/throttling/rateLimit", "7.5"))
    assert scene.stage.throttle == Throttle(7.5, 5000)

    answer = scene.update(replacing("/*/*/throttling/burstLimit", "9"))
    assert scene.stage.throttle == Throttle(7.5, 9)
    settings = answer["methodSettings"]["*/*"]
    assert (settings["throttlingRateLimit"], settings["throttlingBurstLimit"]) == (7.5, 9)


def test_description_and_tracing_of_a_stage_are_kept(scene: ControlScene) -> None:
    before = scene.get()

    answer = scene.update(replacing("/description", "Ours, ä"), replacing("/tracingEnabled", "true"))

    assert (answer["description"], answer["tracingEnabled"]) == ("Ours, ä", True)
    assert (answer["createdDate"], answer["lastUpdatedDate"]) == (before["createdDate"], NOW)
    assert "description" not in scene.update(removing("/description"))


def test_deployment_moves_the_stage_that_it_names(scene: ControlScene) -> None:
    scene.put(variables=V1)

    made = scene.deploy(stageName="dev", description="second", variables={"iris": "v2"})

    assert scene.stage.deployment_id == made["id"]
    assert scene.stage.variables == {"iris": "v2", "spam": "v1"}
    assert scene.client.get_deployment(restApiId=API_ID, deploymentId=made["id"])["description"] == "second"
    scene.update(replacing("/deploymentId", FIRST))
    assert scene.stage.deployment_id == FIRST


def test_deployment_to_a_stage_with_a_canary_is_rejected(scene: ControlScene) -> None:
    scene.put(variables=V1, canary=CANARY)

    status, code, message = refusal(lambda: scene.deploy(stageName="dev"))

    assert (status, code) == BAD
    assert message == (
        "Invalid deployment content specified.Non canary deployment not supported on stage dev because Canary is "
        "enabled. Provide CanarySettings in deploymentInput."
    )


def test_deployment_creates_no_stages(scene: ControlScene) -> None:
    status, code, message = refusal(lambda: scene.deploy(stageName="new"))

    assert (status, code) == BAD
    assert message.endswith("Stage new is not in models.yaml, which alone makes stages")


def test_apis_stages_and_deployments_are_listed(scene: ControlScene) -> None:
    client = scene.client
    made = scene.deploy()["id"]

    (api,) = client.get_rest_apis()["items"]
    assert (api["id"], api["name"]) == (API_ID, "turnout-local_none")
    assert client.get_rest_api(restApiId=API_ID)["name"] == "turnout-local_none"
    assert [stage["stageName"] for stage in client.get_stages(restApiId=API_ID)["item"]] == ["dev"]
    assert client.get_stages(restApiId=API_ID, deploymentId=made)["item"] == []
    ids = [item["id"] for item in client.get_deployments(restApiId=API_ID)["items"]]
    assert (ids[0], ids[-1]) == (FIRST, made)


@pytest.mark.parametrize(
    ("operation", "arguments", "message"),
    [
        ("get_rest_api", {"restApiId": "nothere"}, "Invalid API identifier specified 000000000000:nothere"),
        ("get_stages", {"restApiId": "nothere"}, "Invalid API identifier specified 000000000000:nothere"),
        ("get_stage", {"restApiId": API_ID, "stageName": "nothere"}, "Invalid stage identifier specified"),
        (
            "update_stage",
            {"restApiId": API_ID, "stageName": "nothere", "patchOperations": []},
            "Invalid stage identifier specified",
        ),
        (
            "get_deployment",
            {"restApiId": API_ID, "deploymentId": "nothere"},
            "Invalid Deployment identifier specified",
        ),
    ],
)
def test_missing_resources_are_not_found(
    scene: ControlScene, operation: str, arguments: Mapping[str, Any], message: str
) -> None:
    call = getattr(scene.client, operation)

    assert refusal(lambda: call(**arguments)) == (404, "NotFoundException", message)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("DELETE", f"/restapis/{API_ID}/stages/dev", 404),
        ("POST", f"/restapis/{API_ID}/stages", 404),
        ("POST", "/restapis", 404),
        ("GET", f"/restapis/{API_ID}/resources", 404),
        ("GET", f"/restapis/{API_ID}/stages/dev/", 200),
        ("PATCH", f"/restapis/{API_ID}/stages/dev", 400),
    ],
)
def test_only_supported_operations_exist(scene: ControlScene, method: str, path: str, status: int) -> None:
    assert ask(scene, method, path, b"[1]")[0] == status


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"patchOperations": 1}',
        b'{"patchOperations": {}}',
        b'{"patchOperations": ""}',
        b'{"patchOperations": false}',
        b'{"patchOperations": [1]}',
        b'{"patchOperations": [{"op": "replace", "path": ["a"]}]}',
        b'{"patchOperations": [{"op": "replace", "path": "/canarySettings/percentTraffic", "value": 10}]}',
    ],
)
def test_malformed_body_is_a_client_error(scene: ControlScene, body: bytes) -> None:
    status, answer = ask(scene, "PATCH", f"/restapis/{API_ID}/stages/dev", body)

    assert status == 400
    assert json.loads(answer)["message"]


@pytest.mark.parametrize(
    "wanted",
    [
        {"stageName": 1},
        {"stageName": "dev", "canarySettings": []},
        {"stageName": "dev", "canarySettings": {"percentTraffic": "lots"}},
        {"stageName": "dev", "canarySettings": {"percentTraffic": "5_0"}},
        {"stageName": "dev", "canarySettings": {"percentTraffic": True}},
        {"stageName": "dev", "canarySettings": {"percentTraffic": 10, "stageVariableOverrides": []}},
        {"stageName": "dev", "variables": []},
        {"stageName": "dev", "canarySettings": {"percentTraffic": 10, "stageVariableOverrides": {"iris": 2}}},
        {"stageName": "dev", "variables": ["a"]},
        {"description": {}},
    ],
)
def test_deployment_of_other_types_is_rejected(scene: ControlScene, wanted: Mapping[str, Any]) -> None:
    assert ask(scene, "POST", f"/restapis/{API_ID}/deployments", json.dumps(wanted).encode())[0] == 400


def test_state_that_would_become_too_large_is_rejected(scene: ControlScene) -> None:
    large = "x" * 9_000_000
    scene.update(replacing("/description", large))

    body = json.dumps({"description": large}).encode()
    assert ask(scene, "POST", f"/restapis/{API_ID}/deployments", body)[0] == 429
    scene.update(removing("/description"))


def ask(scene: ControlScene, method: str, path: str, body: bytes) -> tuple[int, bytes]:
    """Send a request that boto3 would not send; return status and body of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", scene.port, timeout=PATIENCE_S)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("value", ["0", "10", "10.0", "12.5", "100", ".5", "5.", "1e1", "99.999"])
def test_percent_is_accepted_in_all_usual_notations(scene: ControlScene, value: str) -> None:
    scene.put(variables=V1)
    scene.update(replacing(PERCENT, value))
    assert scene.stage.canary is not None
    assert scene.stage.canary.percent == float(value)


@pytest.mark.parametrize("path", ["", f"/{API_ID}", f"/{API_ID}/stages", f"/{API_ID}/stages/dev", "/none"])
def test_head_has_the_status_of_get_and_no_body(scene: ControlScene, path: str) -> None:
    results = {}
    for method in ("GET", "HEAD"):
        connection = http.client.HTTPConnection("127.0.0.1", scene.port, timeout=20)
        try:
            connection.request(method, f"/restapis{path}")
            answer = connection.getresponse()
            results[method] = answer.status, answer.getheader("Content-Length")
            assert (answer.read() == b"") == (method == "HEAD")
        finally:
            connection.close()
    assert results["HEAD"] == results["GET"]

"""A stack's whole life with the real engine: after each step the account and the performed operations are checked."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import boto3
import pytest

from tests.builders.iam import refused_by
from tests.engine.life import LEAVES_LOOPS, Life, functions, touched
from tests.engine.project import ChangingProject
from tests.engine.stand_in.aws import REGION
from tests.engine.stand_in.clients import RECORDER
from tests.engine.stand_in.gateway_resources import set_logs_role
from turnout.artifacts.artifact import Artifact
from turnout.manifest.parser import Manifest
from turnout.plan.deployer.policy import DeployerScope, build_deployer_policies
from turnout.plan.planner import make_plan
from turnout.project.project import load_project

pytestmark = LEAVES_LOOPS

FUNCTIONS = {"turnout-test_iris_v1", "turnout-test_digits_v1", "turnout-test_router"}


def test_stack_from_creation_to_destruction(life: Life) -> None:
    project, prod = life.project, life.project.prod

    # From nothing.
    assert {verb for verb, *_ in life.up()} == {"create"}
    assert functions() == FUNCTIONS
    assert sorted(life.world.aws.sent) == sorted([*FUNCTIONS, "turnout-test_layer_arm64_python3-13"])
    assert life.stage.variables["iris"] == "v1"
    assert life.stage.canary is None
    first = life.stage.deployment_id
    key = life.result.outputs["api_keys"].value["prod"]
    assert key == boto3.client("apigateway").get_api_keys(includeValues=True)["items"][0]["value"]
    assert not [path for path in life.world.backend.rglob("*.json") if key in path.read_text()]

    # Again: nothing changes, nothing is sent.
    assert life.up() == []
    assert life.result.summary.resource_changes.keys() == {"same"}
    assert life.world.aws.sent == []

    # One more version touches only its own resources, the document, its deployment and the stage that serves it.
    project.tree["models"]["iris"]["versions"]["v2"] = {"artifact": "models/iris/v2/model.onnx"}
    project.write()
    output: list[str] = []
    life.stack.preview(on_output=output.append, diff=True)
    assert any("/models/iris/v2/inference" in line for line in output)
    done = touched(life.up())
    assert {entry for entry in done if not entry[2].startswith("iris_v2")} == {
        ("update", "RestApi", "turnout-test_api_key"),
        ("create", "Deployment", "turnout-test_api_key"),
        ("update", "Stage", "prod"),
    }
    assert functions() == FUNCTIONS | {"turnout-test_iris_v2"}
    # No stage uses it: in the engine's state it has three resources, within the component of its model.
    state = life.stack.export_stack().deployment["resources"]
    idle = [entry["type"] for entry in state if entry["urn"].rpartition("::")[2].startswith("iris_v2")]
    assert sorted(kind.rpartition(":")[2] for kind in idle) == ["Alias", "Function", "LogGroup"]
    assert "turnout-test_iris_v1" not in life.world.aws.sent
    assert "turnout-test_digits_v1" not in life.world.aws.sent
    second = life.stage.deployment_id
    assert second != first

    # A canary: only variables, no deployment, one call.
    prod["canary"] = {"percent": 10, "serve": {"iris": "v2"}}
    done = touched(life.up())
    assert ("update", "Stage", "prod") in done
    assert not [entry for entry in done if entry[1] in {"RestApi", "Deployment", "Alias"}]
    assert {entry for entry in done if entry[1] == "Function"} == {("create", "Function", "guard-rail")}
    assert life.stage.canary is not None
    assert (life.stage.canary.percent, life.stage.canary.overrides["iris"]) == (10.0, "v2")
    assert (life.stage.canary.deployment_id, life.stage.deployment_id) == (second, second)
    assert life.stage.variables["iris"] == "v1"

    # Its percentage: one operation.
    prod["canary"]["percent"] = 25
    life.up()
    assert life.world.aws.stages.patches == [["replace /canarySettings/percentTraffic 25.0"]]

    # Promoted: the variables change and the canary is removed, in one call.
    del prod["canary"]
    prod["serve"]["iris"] = "v2"
    life.up()
    assert life.world.aws.stages.patches == [["remove /canarySettings", "replace /variables/iris v2"]]
    assert life.stage.canary is None
    assert life.stage.variables["iris"] == "v2"

    # A canary that is rolled back leaves nothing behind.
    prod["canary"] = {"percent": 50, "serve": {"iris": "v1"}}
    before = life.stage
    life.up()
    assert life.stage.canary is not None
    del prod["canary"]
    life.up()
    assert life.stage == before

    # A stage accepts asynchronous requests, and stops.
    prod["async"] = {"time_to_live_s": 3600}
    done = touched(life.up())
    assert {entry[:2] for entry in done if "requests" in entry[2]} >= {
        ("create", kind)
        for kind in (
            "Bucket",
            "BucketLifecycleConfiguration",
            "BucketObjectv2",
            "BucketPublicAccessBlock",
            "BucketServerSideEncryptionConfiguration",
            "EventSourceMapping",
            "Function",
            "Queue",
            "Role",
        )
    }
    # An alarm that notifies nobody would be the only resource that is billed without requests.
    assert not [entry for entry in done if entry[1] == "MetricAlarm"]
    assert life.alias("turnout-test_iris_v1", "live_async") == life.alias("turnout-test_iris_v1", "live")
    (mapping,) = boto3.client("lambda").list_event_source_mappings()["EventSourceMappings"]
    assert (mapping["BatchSize"], mapping["FunctionResponseTypes"]) == (1, ["ReportBatchItemFailures"])
    environment = boto3.client("lambda").get_function_configuration(FunctionName="turnout-test_iris_v1")["Environment"]
    queues = boto3.client("sqs").list_queues()["QueueUrls"]
    assert environment["Variables"]["TURNOUT_REQUESTS_QUEUE"] in queues
    assert len(queues) == 2
    assert life.up() == []
    asynchronous = make_plan(*manifest_of(project), stack="test")
    prod["async"]["time_to_live_s"] = 172_800
    assert {entry[:2] for entry in touched(life.up())} == {
        ("update", "BucketLifecycleConfiguration"),
        ("update", "BucketObjectv2"),
    }
    # Pages of a stage with `cors` send parts to the bucket and fetch answers from it.
    prod["cors"] = {"origins": ["https://app.example"], "max_age_s": 60}
    assert ("create", "BucketCorsConfiguration") in {entry[:2] for entry in touched(life.up())}
    bucket = environment["Variables"]["TURNOUT_REQUESTS_BUCKET"]
    rules = boto3.client("s3").get_bucket_cors(Bucket=bucket)["CORSRules"]
    assert {method: rule["AllowedOrigins"] for rule in rules for method in rule["AllowedMethods"]} == {
        "PUT": ["https://app.example"],
        "GET": ["*"],
        "HEAD": ["*"],
    }
    del prod["async"], prod["cors"]
    life.up()
    assert boto3.client("lambda").list_event_source_mappings()["EventSourceMappings"] == []
    assert "QueueUrls" not in boto3.client("sqs").list_queues()

    # A model is removed, and nothing of the others.
    del project.tree["models"]["digits"]
    del prod["serve"]["digits"]
    done = touched(life.up())
    assert ("delete", "Function", "digits_v1") in done
    assert functions() == {"turnout-test_iris_v1", "turnout-test_iris_v2", "turnout-test_router"}
    assert "digits" not in life.stage.variables

    # Destroy everything.
    life.stack.destroy(on_output=lambda _: None)
    assert functions() == set()
    assert boto3.client("apigateway").get_rest_apis()["items"] == []
    # The role for logs belongs to every API of the region, so it stays, and so does the setting.
    (role,) = boto3.client("iam").list_roles()["Roles"]
    assert role["RoleName"] == f"turnout-test-logs-{REGION}"
    assert boto3.client("apigateway").get_account()["cloudwatchRoleArn"] == role["Arn"]
    assert boto3.client("logs").describe_log_groups()["logGroups"] == []
    assert boto3.client("cloudwatch").describe_alarms()["MetricAlarms"] == []

    # The deployer's policy allows each call of this life, and no named resource of another stack.
    policies = build_deployer_policies(asynchronous, DeployerScope(region=REGION, account="123456789012"))
    assert len(RECORDER.calls) > 100
    assert refused_by(policies, RECORDER.calls) == []
    listed = {"cloudwatch:DescribeAlarms"}  # AWS does not limit this action to names
    named = {call for call in RECORDER.calls if "turnout-test" in call.resource and call.action not in listed}
    others = {replace(call, resource=call.resource.replace("turnout-test", "turnout-prod")) for call in named}
    assert refused_by(policies, others) == sorted(others, key=lambda call: (call.action, call.resource))
    used = {call.action for call in RECORDER.calls}
    changes = {action for action in changing_actions(policies) if action not in used}
    assert changes <= OTHER_STACKS


OTHER_STACKS = {
    *(f"lambda:{action}" for action in (
        "DeleteFunctionConcurrency", "DeleteFunctionEventInvokeConfig", "DeleteProvisionedConcurrencyConfig",
        "InvokeFunction", "PublishVersion", "PutFunctionConcurrency", "PutFunctionEventInvokeConfig",
        "PutProvisionedConcurrencyConfig", "UpdateAlias", "UpdateFunctionCode", "UpdateFunctionConfiguration",
        "UpdateFunctionEventInvokeConfig",
    )),
    *(f"logs:{action}" for action in (
        "AssociateKmsKey", "CreateLogDelivery", "DeleteLogDelivery", "DeleteRetentionPolicy", "DisassociateKmsKey",
        "PutResourcePolicy", "UpdateLogDelivery",
    )),
    *(f"iam:{action}" for action in (
        "DeleteRolePermissionsBoundary", "DetachRolePolicy", "PutRolePermissionsBoundary", "UpdateAssumeRolePolicy",
        "UpdateRole",
    )),
    "apigateway:PUT",
    "lambda:UpdateEventSourceMapping",
    "sqs:SetQueueAttributes",
    *(f"s3:{action}" for action in (
        "CreateBucket", "DeleteBucket", "DeleteObject", "DeleteObjectTagging", "DeleteObjectVersion",
        "PutBucketPublicAccessBlock", "PutBucketTagging", "PutEncryptionConfiguration", "PutObject", "PutObjectTagging",
    )),
}  # fmt: skip
"""Actions that the policy allows and this life does not use: other projects need them, or AWS checks them itself."""


def changing_actions(policies: list[dict[str, Any]]) -> set[str]:
    """Return the actions that change something, except for tags."""
    actions = {action for policy in policies for entry in policy["Statement"] for action in entry["Action"]}
    reads = ("Get", "List", "Describe", "Tag", "Untag", "GET")
    return {action for action in actions if not action.partition(":")[2].startswith(reads)}


def manifest_of(project: ChangingProject) -> tuple[Manifest, Mapping[tuple[str, str], Artifact]]:
    """Return the project in its current state."""
    loaded = load_project(project.folder)
    return loaded.manifest, loaded.artifacts


def test_release_canary_gets_the_new_code_and_its_baseline_keeps_the_old(life: Life) -> None:
    project, prod = life.project, life.project.prod
    life.up()
    first = life.stage.deployment_id
    name = "turnout-test_iris_v1"
    assert aliases(name) == {"live": "1"}

    # New code and another document, for a tenth of the traffic.
    project.code = "2"
    project.tree["models"]["iris"]["description"] = "Another text in the document."
    prod["canary"] = {"percent": 10, "release": True}
    life.up()
    assert (life.alias(name, "live"), life.alias(name, "next")) == ("1", "2")
    assert life.stage.deployment_id == first
    assert life.stage.canary is not None
    assert life.stage.canary.deployment_id != first
    assert life.stage.canary.overrides["alias"] == "next"
    assert life.up() == []

    # Promoted: the baseline gets the new code.
    released = life.stage.canary.deployment_id
    del prod["canary"]
    life.up()
    assert (life.alias(name, "live"), life.alias(name, "next")) == ("2", "2")
    assert (life.stage.deployment_id, life.stage.canary) == (released, None)
    deployments = boto3.client("apigateway").get_deployments(restApiId=life.stage.api)["items"]
    assert {deployment["id"] for deployment in deployments} == {first, released}

    # No stage calls `next` any more, so it is deleted. Until then, a request may have been on its way to it.
    assert "the alias `next` stays until the next `pulumi up`" in life.result.stdout
    assert {entry[:2] for entry in touched(life.up())} == {("delete", "Alias")}
    assert aliases(name) == {"live": "2"}
    assert life.up() == []


def aliases(function: str) -> dict[str, str]:
    """Return the version of each alias of a function."""
    rows = boto3.client("lambda").list_aliases(FunctionName=function)["Aliases"]
    return {entry["Name"]: entry["FunctionVersion"] for entry in rows}


def test_project_over_its_budget_is_rejected_before_anything_is_made(life: Life) -> None:
    life.project.tree["budget"] = 2
    assert "budget: a month without calls costs" in life.fail()
    assert functions() == set()
    life.project.tree["budget"] = 20
    life.up()
    assert life.result.outputs["costs"].value["month"] == pytest.approx(5, abs=0.1)
    assert "a month without calls costs about $5" in life.result.stdout


def test_role_for_logs_that_another_program_set_is_not_changed(life: Life) -> None:
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "apigateway.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
    made = boto3.client("iam").create_role(RoleName="theirs", AssumeRolePolicyDocument=json.dumps(trust))
    theirs = made["Role"]["Arn"]
    set_logs_role(theirs)

    assert not {entry for entry in touched(life.up()) if entry[1] == "Account"}
    assert f"API Gateway writes logs in {REGION} as {theirs}" in life.result.stdout
    life.stack.destroy(on_output=lambda _: None)
    assert boto3.client("apigateway").get_account()["cloudwatchRoleArn"] == theirs


def test_stack_that_is_deployed_again_after_its_destruction_finds_its_role_for_logs(life: Life) -> None:
    assert ("create", "Account", "api-logs") in touched(life.up())
    assert "`pulumi destroy` leaves both the role and the setting" in life.result.stdout
    assert life.up() == []
    assert life.result.summary.resource_changes.keys() == {"same"}
    life.stack.destroy(on_output=lambda _: None)

    assert not {entry for entry in touched(life.up()) if entry[1] == "Account"}
    assert "which an earlier deployment of this stack set" in life.result.stdout
    assert life.up() == []


def _name_too_long(tree: dict[str, Any]) -> None:
    tree["platform"] = "x" * 32
    tree["models"]["i" * 40] = copy.deepcopy(tree["models"]["iris"])
    tree["stages"]["prod"]["serve"]["i" * 40] = "v1"


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda tree: tree["stages"]["prod"]["serve"].update(iris="v9"), "unknown version `v9`"),
        (lambda tree: tree["models"]["iris"]["versions"]["v1"].update(artifact="models/none.onnx"), "models/none.onnx"),
        (_name_too_long, "characters"),
    ],
)
def test_invalid_project_is_reported_before_anything_is_made(
    life: Life, spoil: Callable[[dict[str, Any]], None], expected: str
) -> None:
    spoil(life.project.tree)

    message = life.fail()

    assert expected in message
    assert "Traceback" not in message
    assert functions() == set()
    assert boto3.client("iam").list_roles()["Roles"] == []

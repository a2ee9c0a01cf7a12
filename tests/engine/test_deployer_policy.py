"""The deployer's policy under a company's rules for roles and tags: it allows each call of the engine, and no more."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import boto3
import pytest
from pulumi.automation import ConfigValue

from tests.builders.iam import Call
from tests.engine.life import LEAVES_LOOPS, Life, touched
from tests.engine.stand_in.clients import RECORDER
from tests.engine.stand_in.gateway_resources import set_logs_role

pytestmark = LEAVES_LOOPS

TAGS = {"team": "ml", "cost-center": "42"}
DOMAIN = {
    "name": "ml.example.com",
    "certificate_arn": "arn:aws:acm:eu-central-1:123456789012:certificate/1",
    "hosted_zone_id": "Z1",
}


def configure(life: Life, **settings: str) -> None:
    for name, value in settings.items():
        life.stack.set_config(f"turnout:{name}", ConfigValue(value))


def roles() -> dict[str, Mapping[str, Any]]:
    client = boto3.client("iam")
    return {
        role["RoleName"]: client.get_role(RoleName=role["RoleName"])["Role"] for role in client.list_roles()["Roles"]
    }


def tags_of(listed: list[dict[str, str]]) -> dict[str, str]:
    return {entry["Key"]: entry["Value"] for entry in listed}


def make_boundary(name: str) -> str:
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    made = boto3.client("iam").create_policy(PolicyName=name, PolicyDocument=json.dumps(document))
    arn: str = made["Policy"]["Arn"]
    return arn


@pytest.fixture
def busy(life: Life) -> Life:
    """A project with a canary, consumers and asynchronous requests, for the roles, tags and logs that these add."""
    life.project.tree["models"]["iris"]["versions"]["v2"] = {"artifact": "models/iris/v2/model.onnx"}
    life.project.prod["canary"] = {"percent": 10, "serve": {"iris": "v2"}}
    life.project.prod["consumers"] = {"web": {"models": ["iris"]}}
    life.project.prod["async"] = {}
    return life


def test_policy_allows_a_stack_with_a_role_path_a_boundary_tags_and_its_own_domain(busy: Life) -> None:
    first, second = make_boundary("first"), make_boundary("second")
    configure(busy, role_path="/ml/", permissions_boundary_arn=first, tags=json.dumps(TAGS), domain=json.dumps(DOMAIN))
    busy.up()

    made = roles()
    assert {name.removeprefix("turnout-test") for name in made} == {
        "-guard-rail", "-logs-eu-central-1", "-requests", "_callers", "_integration", "_models", "_router",
    }  # fmt: skip
    assert {role["Arn"] for role in made.values()} == {f"arn:aws:iam::123456789012:role/ml/{name}" for name in made}
    assert {role["PermissionsBoundary"]["PermissionsBoundaryArn"] for role in made.values()} == {first}
    assert all(tags_of(role["Tags"]) == TAGS for role in made.values())
    function = boto3.client("lambda").get_function(FunctionName="turnout-test_iris_v1")
    assert (function["Configuration"]["Role"], function["Tags"]) == (made["turnout-test_models"]["Arn"], TAGS)
    queue = boto3.client("sqs").get_queue_url(QueueName="turnout-test-requests")["QueueUrl"]
    assert boto3.client("sqs").list_queue_tags(QueueUrl=queue)["Tags"] == TAGS
    busy.check_deployer_policy()
    assert {call.action for call in RECORDER.calls} >= {"iam:AttachRolePolicy", "iam:TagRole", "sqs:TagQueue"}
    assert busy.up() == []

    # Another boundary and other tags change the roles in place.
    RECORDER.calls.clear()
    configure(busy, permissions_boundary_arn=second, tags='{"team": "platform"}')
    assert {verb for verb, kind, _ in touched(busy.up()) if kind == "Role"} == {"update"}
    assert {role["PermissionsBoundary"]["PermissionsBoundaryArn"] for role in roles().values()} == {second}
    assert all(tags_of(role["Tags"]) == {"team": "platform"} for role in roles().values())
    busy.check_deployer_policy()

    # Without these settings, the boundary and the tags are removed.
    RECORDER.calls.clear()
    for name in ("permissions_boundary_arn", "tags"):
        busy.stack.remove_config(f"turnout:{name}")
    busy.up()
    assert not any("PermissionsBoundary" in role or role.get("Tags") for role in roles().values())
    busy.stack.destroy(on_output=lambda _: None)
    assert roles().keys() == {"turnout-test-logs-eu-central-1"}
    busy.check_deployer_policy()


def test_deployer_of_a_stack_with_existing_roles_may_only_pass_these(busy: Life) -> None:
    del busy.project.prod["async"]  # its queue needs permissions of the role
    given = {
        name: make_role(name, f"{service}.amazonaws.com")
        for name, service in (("function", "lambda"), ("integration", "apigateway"), ("guard_rail", "lambda"))
    }
    set_logs_role(make_role("logs", "apigateway.amazonaws.com"))
    before = roles()
    RECORDER.calls.clear()
    configure(busy, account_logging="false", **{f"{name}_role_arn": arn for name, arn in given.items()})

    busy.up()
    busy.project.code = "2"
    busy.up()
    busy.stack.destroy(on_output=lambda _: None)

    assert roles() == before
    used = {call for call in RECORDER.calls if call.action.startswith("iam:")}
    services = {"function": "lambda", "integration": "apigateway", "guard_rail": "lambda"}
    assert used == {
        Call("iam:PassRole", arn, frozenset({("iam:PassedToService", f"{services[name]}.amazonaws.com")}))
        for name, arn in given.items()
    }
    (allowed,) = [
        entry
        for policy in busy.check_deployer_policy()
        for entry in policy["Statement"]
        if any(action.startswith("iam:") for action in entry["Action"])
    ]
    assert (allowed["Action"], allowed["Resource"]) == (["iam:PassRole"], sorted(given.values()))


def make_role(name: str, service: str) -> str:
    trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    made = boto3.client("iam").create_role(
        RoleName=f"company-{name}", Path="/company/", AssumeRolePolicyDocument=document
    )
    arn: str = made["Role"]["Arn"]
    return arn

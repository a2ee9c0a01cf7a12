"""The IAM policy of the deployer."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.builders.iam import Call, refused_by
from tests.builders.manifests import artifacts_of, manifest, model
from turnout.manifest.parser import Domain
from turnout.plan.deployer.policy import (
    POLICY_CHARACTERS,
    DeployerScope,
    build_deployer_policies,
    render_policy,
)
from turnout.plan.planner import make_plan
from turnout.plan.values import Plan

BOUNDARY = "arn:aws:iam::123456789012:policy/boundary"
ARN = "arn:aws:kms:eu-west-1:123456789012:key/0a"
TO_API_GATEWAY = frozenset({("iam:PassedToService", "apigateway.amazonaws.com")})
EVERYTHING = {
    "subnet_ids": ["subnet-1"],
    "web_acl_arn": "arn:aws:wafv2:eu-west-1:123456789012:regional/webacl/a/b",
    "environment_kms_key_arn": ARN,
    "bucket_kms_key_arn": ARN,
    "function_role_arn": "arn:aws:iam::123456789012:role/theirs",
    "role_path": "/ml/",
    "permissions_boundary_arn": BOUNDARY,
}


def plan_of(platform: str = "turnout", stack: str = "prod", versions: int = 2) -> Plan:
    of = manifest((model(versions=tuple(f"v{number}" for number in range(1, versions + 1))),), platform=platform)
    return make_plan(of, artifacts_of(of), stack=stack)


def statements_of(policies: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {entry["Sid"]: entry for policy in policies for entry in policy["Statement"]}


@pytest.mark.parametrize(("platform", "stack"), [("turnout", "prod"), ("x" * 32, "s" * 20), ("shop", "eu-Prod")])
@pytest.mark.parametrize("settings", [{}, EVERYTHING], ids=["plain", "everything"])
def test_each_policy_fits_into_iam_and_does_not_grow_with_the_project(
    platform: str, stack: str, settings: dict[str, Any]
) -> None:
    scope = DeployerScope(region="ap-southeast-2", account="123456789012", settings=settings)
    small, large = plan_of(platform, stack, 1), plan_of(platform, stack, 9)
    policies = build_deployer_policies(large, scope)
    assert policies == build_deployer_policies(small, scope)
    assert all(len(render_policy(policy["Statement"])) <= POLICY_CHARACTERS for policy in policies)
    names = [entry["Sid"] for policy in policies for entry in policy["Statement"]]
    assert len(set(names)) == len(names)


def test_nothing_is_allowed_on_names_of_another_stack() -> None:
    policies = build_deployer_policies(plan_of(), DeployerScope(region="eu-west-1", account="123456789012"))
    root = "eu-west-1:123456789012"
    mine = [
        Call("lambda:CreateFunction", f"arn:aws:lambda:{root}:function:turnout-prod_iris_v1"),
        Call("lambda:CreateFunction", f"arn:aws:lambda:{root}:function:turnout-prod-guard-rail"),
        Call("iam:CreateRole", "arn:aws:iam::123456789012:role/turnout-prod_models"),
        Call("iam:PassRole", "arn:aws:iam::123456789012:role/turnout-prod-logs-eu-west-1", TO_API_GATEWAY),
        Call("logs:CreateLogGroup", f"arn:aws:logs:{root}:log-group:/aws/apigateway/turnout-prod_none/prod"),
        Call("s3:PutObject", "arn:aws:s3:::turnout-prod-123456789012-eu-west-1/packages/a.zip"),
    ]
    assert refused_by(policies, mine) == []
    theirs = [
        replace(call, resource=call.resource.replace("turnout-prod", other))
        for call in mine
        for other in ("turnout-production", "turnout-dev", "shop-prod", "turnout")
    ]
    assert len(refused_by(policies, theirs)) == len(theirs)


def test_roles_may_be_passed_only_to_the_two_services() -> None:
    rows = statements_of(build_deployer_policies(plan_of(), DeployerScope()))
    assert rows["PassRoles"]["Condition"] == {
        "StringEquals": {"iam:PassedToService": ["apigateway.amazonaws.com", "lambda.amazonaws.com"]}
    }


def test_domain_adds_its_permissions() -> None:
    domain = Domain("ml.example.com", "arn:aws:acm:eu-west-1:1:certificate/a", hosted_zone_id="Z1")
    policies = build_deployer_policies(plan_of(), DeployerScope(domain=domain))
    calls = [
        Call("apigateway:POST", "arn:aws:apigateway:eu-west-1::/domainnames"),
        Call("apigateway:DELETE", "arn:aws:apigateway:eu-west-1::/domainnames/ml.example.com/basepathmappings/prod"),
        Call("route53:ChangeResourceRecordSets", "arn:aws:route53:::hostedzone/Z1"),
    ]
    assert refused_by(policies, calls) == []
    assert len(refused_by(build_deployer_policies(plan_of(), DeployerScope()), calls)) == 3
    other = Call("route53:ChangeResourceRecordSets", "arn:aws:route53:::hostedzone/Z2")
    assert refused_by(policies, [other]) == [other]


def test_only_settings_that_need_permissions_add_them() -> None:
    plain = statements_of(build_deployer_policies(plan_of(), DeployerScope()))
    ruled = statements_of(build_deployer_policies(plan_of(), DeployerScope(settings=EVERYTHING)))
    added = {"Networks", "WebAcl", "WebAclOfStages", "Keys", "BoundedRoles", "PassExistingRoles"}
    assert ruled.keys() - plain.keys() == added
    assert ruled["Keys"]["Resource"] == [ARN]
    assert not any("*" in action for entry in ruled.values() for action in entry["Action"])


ROLE = "arn:aws:iam::123456789012:role"


@pytest.mark.parametrize(
    ("settings", "made"),
    [
        ({}, ["_*", "-*"]),
        ({"guard_rail_role_arn": f"{ROLE}/g"}, ["_*", "-*"]),
        ({"function_role_arn": f"{ROLE}/f"}, ["_integration", "-guard-rail", "-logs-*"]),
        ({"function_role_arn": f"{ROLE}/f", "integration_role_arn": f"{ROLE}/i"}, ["-guard-rail", "-logs-*"]),
        ({f"{name}_role_arn": f"{ROLE}/{name}" for name in ("function", "integration", "guard_rail")}, ["-logs-*"]),
    ],
    ids=lambda value: ",".join(value) or "none",
)
@pytest.mark.parametrize("account_logging", [None, "true", "false", False])
def test_only_roles_that_the_stack_makes_may_be_made_and_only_used_ones_passed(
    settings: dict[str, str], made: list[str], account_logging: str | bool | None
) -> None:
    given = {**settings, "role_path": "/ml/", "account_logging": account_logging}
    if account_logging is None:
        del given["account_logging"]
    rows = statements_of(build_deployer_policies(plan_of(), DeployerScope(account="123456789012", settings=given)))
    is_off = str(account_logging).lower() == "false"
    roles = [f"{ROLE}/ml/turnout-prod{name}" for name in made if not (is_off and name == "-logs-*")]
    assert rows.get("Roles", {}).get("Resource", []) == rows.get("PassRoles", {}).get("Resource", []) == roles
    assert rows.get("PassExistingRoles", {}).get("Resource", []) == sorted(settings.values())


def test_roles_get_permissions_only_with_the_permissions_boundary() -> None:
    def may(action: str, boundary: str, settings: dict[str, str]) -> bool:
        context = frozenset({("iam:PermissionsBoundary", boundary)} if boundary else ())
        policies = build_deployer_policies(plan_of(), DeployerScope(settings=settings))
        return not refused_by(policies, [Call(f"iam:{action}", f"{ROLE}/turnout-prod_models", context)])

    ruled = {"permissions_boundary_arn": BOUNDARY}
    for action in ("AttachRolePolicy", "CreateRole", "PutRolePermissionsBoundary", "PutRolePolicy"):
        assert may(action, BOUNDARY, ruled)
        assert not may(action, "", ruled)
        assert not may(action, f"{BOUNDARY}-other", ruled)
        assert may(action, "", {})
    assert not may("DeleteRolePermissionsBoundary", BOUNDARY, ruled)
    assert may("DeleteRolePermissionsBoundary", BOUNDARY, {}), "a stack whose setting was deleted"


@pytest.mark.parametrize("as_text", [True, False])
def test_domain_of_the_stacks_configuration_adds_its_permissions(as_text: bool) -> None:
    own = {"name": "ml.example.com", "hosted_zone_id": "Z1"}
    settings = {"domain": json.dumps(own) if as_text else own}
    calls = [
        Call("apigateway:POST", "arn:aws:apigateway:eu-west-1::/domainnames"),
        Call("route53:ChangeResourceRecordSets", "arn:aws:route53:::hostedzone/Z1"),
    ]
    assert refused_by(build_deployer_policies(plan_of(), DeployerScope(settings=settings)), calls) == []
    named = DeployerScope(settings={"domain": {"hosted_zone_id": "Z2"}}, domain=Domain("ml.example.com"))
    assert refused_by(build_deployer_policies(plan_of(), named), calls) == calls[1:]

"""The stack's configuration: the effect of each key, and invalid values, which are rejected before anything is made."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pulumi
import pytest

from tests.builders.deployed import deployed, packages_of
from tests.builders.manifests import manifest, model, stage
from tests.builders.pulumi_program import ACCOUNT, REGION, Program
from turnout.manifest.parser import Canary

SUBNETS, GROUPS = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"], ["sg-0123456789abcdef0"]
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/11111111-2222-3333-4444-555555555555"
ENDPOINT = "vpce-0123456789abcdef0"
CANARY = stage(canary=Canary(10.0, {"iris": "v2"}))


def document_of(program: Program) -> dict[str, Any]:
    document: dict[str, Any] = orjson.loads(program.one("apigateway/restApi:RestApi").inputs["body"])
    return document


def test_apis_are_private_and_open_only_to_the_endpoint_and_the_addresses() -> None:
    program = deployed(manifest(), vpc_endpoint_ids=ENDPOINT, allowed_ips="203.0.113.0/24, 2001:db8::/32")
    api = program.one("apigateway/restApi:RestApi").inputs
    assert api["endpointConfiguration"] == {"types": "PRIVATE", "vpcEndpointIds": [ENDPOINT]}
    document = document_of(program)
    assert document["x-amazon-apigateway-endpoint-configuration"] == {"vpcEndpointIds": [ENDPOINT]}
    allow, endpoint, addresses = document["x-amazon-apigateway-policy"]["Statement"]
    assert (allow["Effect"], allow["Principal"], allow["Resource"]) == ("Allow", "*", ["execute-api:/*"])
    assert (endpoint["Effect"], endpoint["Condition"]) == ("Deny", {"StringNotEquals": {"aws:SourceVpce": [ENDPOINT]}})
    assert addresses["Condition"] == {"NotIpAddress": {"aws:VpcSourceIp": ["203.0.113.0/24", "2001:db8::/32"]}}


def test_public_api_with_a_list_checks_the_address_of_the_caller() -> None:
    program = deployed(manifest(), allowed_ips="198.51.100.7/32")
    assert program.one("apigateway/restApi:RestApi").inputs["endpointConfiguration"] == {"types": "REGIONAL"}
    (_, deny) = document_of(program)["x-amazon-apigateway-policy"]["Statement"]
    assert deny["Condition"] == {"NotIpAddress": {"aws:SourceIp": ["198.51.100.7/32"]}}


def test_signed_calls_still_need_the_permission_of_their_caller() -> None:
    program = deployed(manifest(stages=(stage(auth="iam"),)), allowed_ips="198.51.100.7/32")
    account, health, _ = document_of(program)["x-amazon-apigateway-policy"]["Statement"]
    assert account["Principal"] == {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
    assert health["Principal"] == "*"
    assert "execute-api:/*/GET/health/live" in health["Resource"]
    assert all("/health/" in resource for resource in health["Resource"])


def test_api_without_rules_has_no_policy() -> None:
    assert not {key for key in document_of(deployed(manifest())) if "policy" in key or "endpoint" in key}


def test_document_names_the_integrations_role_with_its_path() -> None:
    document = json.dumps(document_of(deployed(manifest(), role_path="/ml/models/")))
    assert f"arn:aws:iam::{ACCOUNT}:role/ml/models/turnout-test_integration" in document


def test_existing_roles_are_used_and_none_are_made() -> None:
    roles = {name: f"arn:aws:iam::{ACCOUNT}:role/company/{name}" for name in ("function", "integration", "guard_rail")}
    program = deployed(
        manifest((model(),), (CANARY,)),
        account_logging="false",
        **{f"{name}_role_arn": arn for name, arn in roles.items()},
    )
    assert program.of("iam/role:Role") == program.of("iam/rolePolicy:RolePolicy") == {}
    functions = program.of("lambda/function:Function")
    assert {functions[name].inputs["role"] for name in ("iris_v1", "iris_v2", "router")} == {roles["function"]}
    assert functions["guard-rail"].inputs["role"] == roles["guard_rail"]
    assert roles["integration"] in json.dumps(document_of(program))


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ({"subnet_ids": SUBNETS[0]}, "turnout:security_group_ids: is missing"),
        ({"security_group_ids": GROUPS[0]}, "turnout:subnet_ids: is missing"),
        ({"subnet_ids": "vpc-0123456789abcdef0"}, "turnout:subnet_ids: expected identifiers such as subnet-"),
        ({"subnet_ids": "[1]"}, "turnout:subnet_ids: must be a list of strings"),
        ({"subnet_ids": ",".join(2 * SUBNETS), "security_group_ids": GROUPS[0]}, "turnout:subnet_ids: names .* twice"),
        ({"vpc_endpoint_ids": "vpce-1"}, "turnout:vpc_endpoint_ids: expected"),
        ({"allowed_ips": "10.0.0.1/8"}, "turnout:allowed_ips: .*has host bits set"),
        ({"allowed_ips": "example.com"}, "turnout:allowed_ips: expected CIDR blocks"),
        ({"web_acl_arn": f"arn:aws:wafv2:{REGION}:{ACCOUNT}:global/webacl/a/b"}, "turnout:web_acl_arn: expected"),
        ({"log_kms_key_arn": "alias/logs"}, "turnout:log_kms_key_arn: expected the ARN of a KMS key"),
        ({"bucket_kms_key_arn": KEY.replace(":key/", ":alias/")}, "turnout:bucket_kms_key_arn: expected"),
        ({"permissions_boundary_arn": KEY}, "turnout:permissions_boundary_arn: expected the ARN of an IAM policy"),
        ({"role_path": "ml"}, "turnout:role_path: must start and end with a slash"),
        ({"function_role_arn": "role"}, "turnout:function_role_arn: expected the ARN of a role"),
        ({"tags": "team=ml"}, "turnout:tags: must be a mapping"),
        ({"tags": '{"aws:team": "ml"}'}, "turnout:tags: aws:team: AWS takes"),
        ({"tags": '{"team": ["ml"]}'}, "turnout:tags: team: must be a string"),
        ({"log_format": "xml"}, "turnout:log_format: must be one of json, text, got 'xml'"),
        ({"access_log_class": "cheap"}, "turnout:access_log_class: must be one of"),
        ({"alarm_topic_arn": KEY}, "turnout:alarm_topic_arn: expected the ARN of an SNS topic"),
        ({"account_logging": "yes"}, "turnout:account_logging: must be true or false, got 'yes'"),
        ({"keep_versions": "-1"}, "turnout:keep_versions: must be 0-1000, got -1"),
        ({"subnet_idz": SUBNETS[0]}, "turnout:subnet_idz: unknown setting: did you mean `subnet_ids`"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_invalid_value_is_rejected_by_its_key(configuration: dict[str, str], message: str) -> None:
    made: list[object] = []
    with pytest.raises(pulumi.RunError, match=message):
        deployed(manifest(), build=lambda _project, plan: made.append(plan) or packages_of(plan), **configuration)
    assert made == []


def test_all_problems_are_reported_together() -> None:
    with pytest.raises(pulumi.RunError) as raised:
        deployed(manifest(), role_path="x", log_format="y", allowed_ips="z")
    assert str(raised.value).count("turnout:") == 3

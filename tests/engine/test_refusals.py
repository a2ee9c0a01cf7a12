"""The stand-in rejects what AWS rejects; otherwise a program that AWS would reject would pass here."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.engine.stand_in.aws import ACCOUNT_ID, REGION
from tests.engine.stand_in.gateway_resources import (
    RefusedError,
    check_deployment_stays,
    check_import,
    check_log_format,
)
from tests.engine.stand_in.request_resources import CORS
from tests.engine.stand_in.trust import AssumeRoleError, assume_role
from turnout.gateway.rules.stages import CanarySettings, StageSettings
from turnout.gateway.services.stage_patches import PatchOperation
from turnout.openapi.documentation_parts import MOST_PARTS

ROLE = f"arn:aws:iam::{ACCOUNT_ID}:role/calls"
API_GATEWAY, LAMBDA = "apigateway.amazonaws.com", "lambda.amazonaws.com"


pytestmark = pytest.mark.usefixtures("moto_account")


def make_role(service: str, condition: dict[str, Any] | None) -> None:
    statement: dict[str, Any] = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    statement |= {"Condition": condition} if condition else {}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    boto3.client("iam").create_role(RoleName="calls", AssumeRolePolicyDocument=policy)


@pytest.mark.parametrize(
    ("service", "condition", "is_allowed"),
    [
        (API_GATEWAY, None, True),
        (API_GATEWAY, {"StringEquals": {"aws:SourceAccount": ACCOUNT_ID}}, False),
        (API_GATEWAY, {"StringLike": {"aws:SourceAccount": "*"}}, False),
        (API_GATEWAY, {"ArnLike": {"aws:SourceArn": f"arn:aws:execute-api:{REGION}:{ACCOUNT_ID}:*"}}, False),
        (API_GATEWAY, {"StringEqualsIfExists": {"aws:SourceAccount": ACCOUNT_ID}}, True),
        (LAMBDA, {"StringEqualsIfExists": {"aws:SourceAccount": ACCOUNT_ID}}, True),
        (LAMBDA, {"StringEquals": {"aws:SourceAccount": ACCOUNT_ID}}, False),
    ],
)
def test_role_is_assumed_if_its_condition_is_met_by_what_the_service_sends(
    service: str, condition: dict[str, Any] | None, is_allowed: bool
) -> None:
    make_role(service, condition)
    if is_allowed:
        assume_role(ROLE, service)
    else:
        with pytest.raises(AssumeRoleError, match=f"{service} does not have permission to assume"):
            assume_role(ROLE, service)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"allowedMethods": ["GET", "PATCH"]}, "Found unsupported HTTP method in CORS config"),
        ({"exposeHeaders": ["x-amz-meta-*"]}, "do not support wildcard for ExposeHeader"),
    ],
)
def test_cors_rules_that_s3_does_not_support_are_rejected(changed: dict[str, Any], message: str) -> None:
    boto3.client("s3").create_bucket(Bucket="pages", CreateBucketConfiguration={"LocationConstraint": REGION})
    rule = {
        "allowedOrigins": ["https://app.example"],
        "allowedMethods": ["GET"],
        "allowedHeaders": ["*"],
        "exposeHeaders": ["ETag"],
        "maxAgeSeconds": 60,
    }
    CORS.make({"bucket": "pages", "corsRules": [rule]})
    with pytest.raises(ClientError, match=message):
        CORS.make({"bucket": "pages", "corsRules": [rule | changed]})


def test_role_of_another_service_is_not_assumed() -> None:
    make_role(LAMBDA, None)
    with pytest.raises(AssumeRoleError):
        assume_role(ROLE, API_GATEWAY)


def document(operations: int, credentials: str = ROLE) -> str:
    integration = {"type": "aws_proxy", "credentials": credentials}
    operation = {"summary": "A call.", "x-amazon-apigateway-integration": integration}
    paths = {f"/{number}": {"post": operation} for number in range(operations)}
    return json.dumps({"info": {"title": "api"}, "paths": paths})


def test_import_before_its_roles_exist_is_rejected() -> None:
    with pytest.raises(AssumeRoleError, match="there is no such role"):
        check_import({"body": document(1)})


def test_import_of_too_many_documentation_parts_is_rejected_unless_it_ignores_them() -> None:
    make_role(API_GATEWAY, None)
    check_import({"body": document(MOST_PARTS)})
    with pytest.raises(RefusedError, match="documentation parts"):
        check_import({"body": document(MOST_PARTS + 1)})
    check_import({"body": document(MOST_PARTS + 1), "parameters": {"ignore": "documentation"}})


CANARY = CanarySettings(10.0, {"iris": "v2"}, "d1")
MOVE = PatchOperation("replace", "/deploymentId", "d2")
START = PatchOperation("replace", "/canarySettings/percentTraffic", "10.0")
END = PatchOperation("remove", "/canarySettings")


@pytest.mark.parametrize(
    ("canary", "operations", "is_refused"),
    [
        (None, [MOVE], False),
        (None, [START, MOVE], True),
        (None, [MOVE, START], True),
        (CANARY, [MOVE], True),
        (CANARY, [END, MOVE], False),
        (CANARY, [PatchOperation("remove", "/canarySettings/stageVariableOverrides/iris"), MOVE], True),
        (CANARY, [PatchOperation("replace", "/canarySettings/deploymentId", "d2")], False),
    ],
)
def test_stage_keeps_its_deployment_while_a_canary_is_on_or_starts(
    canary: CanarySettings | None, operations: list[PatchOperation], is_refused: bool
) -> None:
    stage = StageSettings("prod", "api", "d1", {}, canary)
    if is_refused:
        with pytest.raises(RefusedError, match="has a canary: it cannot be associated with another deployment"):
            check_deployment_stays(stage, operations)
    else:
        check_deployment_stays(stage, operations)


def test_access_log_without_a_request_identifier_is_rejected() -> None:
    check_log_format({})
    check_log_format({"accessLogSettings": {"format": "$context.extendedRequestId $context.status"}})
    with pytest.raises(RefusedError, match="Access Log format must contain"):
        check_log_format({"accessLogSettings": {"format": "$context.status"}})

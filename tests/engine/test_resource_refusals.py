"""The stand-in rejects what AWS rejects about networks, keys, web ACLs, domains, queues, functions and stages."""

from __future__ import annotations

import ast
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.engine.stand_in.aws import ACCOUNT_ID, REGION, Aws
from tests.engine.stand_in.company_rules import (
    WEB_ACL_ASSOCIATION,
    NotAllowedError,
    check_key,
    check_private,
    check_vpc,
)
from tests.engine.stand_in.domain_resources import Domains, MappedError
from tests.engine.stand_in.gateway_resources import RefusedError, check_mocks
from tests.engine.stand_in.lambda_resources import make_event_invoke_config, refuse_function
from tests.engine.stand_in.provider import Inputs
from tests.engine.stand_in.request_resources import EVENT_SOURCE_MAPPING, LIFECYCLE

pytestmark = pytest.mark.usefixtures("moto_account")

STAND_IN = Path(__file__).with_name("stand_in")
HERE = f"arn:aws:{{}}:{REGION}:{ACCOUNT_ID}:{{}}"
LAMBDA = "lambda.amazonaws.com"


def make_role(*actions: str, resource: str = "*") -> str:
    """Make a role of a function that allows these actions; return its ARN."""
    client = boto3.client("iam")
    trust = {"Effect": "Allow", "Principal": {"Service": LAMBDA}, "Action": "sts:AssumeRole"}
    role = client.create_role(RoleName="calls", AssumeRolePolicyDocument=json.dumps({"Statement": [trust]}))["Role"]
    allowed = {"Effect": "Allow", "Action": list(actions), "Resource": [resource]}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    client.put_role_policy(RoleName="calls", PolicyName="own", PolicyDocument=policy)
    arn: str = role["Arn"]
    return arn


def make_function(role: str, timeout_s: int = 30) -> None:
    """Make the function `worker`."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("handler.py", "")
    client = boto3.client("lambda")
    client.create_function(
        FunctionName="worker",
        Runtime="python3.13",
        Role=role,
        Handler="handler.run",
        Code={"ZipFile": packed.getvalue()},
        Timeout=timeout_s,
        Publish=True,
    )
    client.create_alias(FunctionName="worker", Name="live", FunctionVersion="1")


def make_network() -> tuple[str, str]:
    """Make a VPC; return a subnet and a security group."""
    client = boto3.client("ec2")
    vpc = client.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = client.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    return subnet, client.create_security_group(VpcId=vpc, GroupName="own", Description="own")["GroupId"]


def in_vpc(role: str, subnet: str, group: str) -> dict[str, Any]:
    """Return a function's inputs."""
    return {"role": role, "vpcConfig": {"subnetIds": [subnet], "securityGroupIds": [group]}}


def test_function_needs_one_vpc_that_exists_and_permission_to_join_it() -> None:
    subnet, group = make_network()
    _, elsewhere = make_network()
    allowed = make_role("ec2:CreateNetworkInterface")
    assert check_vpc(in_vpc(allowed, subnet, group)) == {"SubnetIds": [subnet], "SecurityGroupIds": [group]}
    assert check_vpc({"role": allowed}) == {}
    with pytest.raises(NotAllowedError, match="Security Groups are required to be in the same VPC"):
        check_vpc(in_vpc(allowed, subnet, elsewhere))
    with pytest.raises(ClientError, match="InvalidSubnetID"):
        check_vpc(in_vpc(allowed, "subnet-0", group))
    boto3.client("iam").delete_role_policy(RoleName="calls", PolicyName="own")
    with pytest.raises(NotAllowedError, match="The provided execution role does not have permissions to call Create"):
        check_vpc(in_vpc(allowed, subnet, group))


def test_key_must_exist_be_enabled_and_allow_the_service() -> None:
    client = boto3.client("kms")
    service = f"logs.{REGION}.amazonaws.com"
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "kms:*", "Resource": "*"}
    open_key, own_key = (
        client.create_key(Policy=json.dumps({"Version": "2012-10-17", "Statement": statements}))["KeyMetadata"]["Arn"]
        for statements in ([statement], [])
    )
    check_key(None)
    check_key(open_key, service)
    check_key(own_key)
    with pytest.raises(NotAllowedError, match="The specified KMS key does not exist or is not allowed to be used by"):
        check_key(own_key, service)
    client.disable_key(KeyId=open_key.rpartition("/")[2])
    with pytest.raises(NotAllowedError, match="KMSDisabledException"):
        check_key(open_key, service)
    with pytest.raises(ClientError, match="NotFoundException"):
        check_key(HERE.format("kms", "key/00000000-0000-0000-0000-000000000000"))


def test_private_api_needs_a_policy_and_endpoints_of_its_service() -> None:
    client = boto3.client("ec2")
    vpc = client.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]

    def private_with(service: str) -> Inputs:
        made = client.create_vpc_endpoint(
            VpcId=vpc, ServiceName=f"com.amazonaws.{REGION}.{service}", VpcEndpointType="Interface"
        )
        ids = [made["VpcEndpoint"]["VpcEndpointId"]]
        return {"endpointConfiguration": {"types": "PRIVATE", "vpcEndpointIds": ids}}

    private = private_with("execute-api")
    check_private(private, {"x-amazon-apigateway-policy": {}})
    check_private({"endpointConfiguration": {"types": "REGIONAL"}}, {})
    with pytest.raises(NotAllowedError, match="Private REST API doesn't have a resource policy attached to it"):
        check_private(private, {})
    with pytest.raises(NotAllowedError, match="are not endpoints of execute-api"):
        check_private(private_with("s3"), {"x-amazon-apigateway-policy": {}})
    missing = {"endpointConfiguration": {"types": "PRIVATE", "vpcEndpointIds": ["vpce-0"]}}
    with pytest.raises(ClientError, match="InvalidVpcEndpointId"):
        check_private(missing, {"x-amazon-apigateway-policy": {}})


def test_web_acl_of_a_stage_is_regional() -> None:
    stage = f"arn:aws:apigateway:{REGION}::/restapis/api/stages/prod"
    acl = f"arn:aws:wafv2:us-east-1:{ACCOUNT_ID}:global/webacl/own/1"
    with pytest.raises(NotAllowedError, match="WAFInvalidParameterException"):
        WEB_ACL_ASSOCIATION.create({"webAclArn": acl, "resourceArn": stage})


def test_path_of_a_domain_leads_to_one_stage_and_keeps_its_api() -> None:
    domains = Domains()
    resources = domains.resources()
    mapping = {"domainName": "ml.example.com", "basePath": "prod", "restApi": "api", "stageName": "prod"}
    mappings = resources["aws:apigateway/basePathMapping:BasePathMapping"]
    with pytest.raises(MappedError, match="Invalid domain name identifier specified"):
        mappings.create(mapping)
    resources["aws:apigateway/domainName:DomainName"].create({"domainName": "ml.example.com"})
    identity, _ = mappings.create(mapping)
    with pytest.raises(MappedError, match="Base path already exists for this domain name"):
        mappings.create(mapping)
    domains.check_unmapped("another")
    with pytest.raises(MappedError, match="Please remove all base path mappings related to the API"):
        domains.check_unmapped("api")
    mappings.delete(identity, mapping)
    domains.check_unmapped("api")


QUEUE = HERE.format("sqs", "requests")


def mapping_of() -> Inputs:
    """Return the inputs of the mapping from the queue to the worker."""
    return {
        "eventSourceArn": QUEUE,
        "functionName": HERE.format("lambda", "function:worker"),
        "batchSize": 1,
        "functionResponseTypes": ["ReportBatchItemFailures"],
        "scalingConfig": {"maximumConcurrency": 2},
    }


READ = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")


@pytest.mark.parametrize(
    ("visible_s", "actions", "resource", "message"),
    [
        (60, READ, QUEUE, ""),
        (29, READ, QUEUE, "seconds is less than Function timeout"),
        (60, READ[:2], QUEUE, "does not have permissions to call GetQueueAttributes on SQS"),
        (60, READ, f"{QUEUE}-dead", "The provided execution role does not have permissions to call "),
    ],
)
def test_queue_outlasts_its_function_which_may_read_it(
    visible_s: int, actions: tuple[str, ...], resource: str, message: str
) -> None:
    boto3.client("sqs").create_queue(QueueName="requests", Attributes={"VisibilityTimeout": str(visible_s)})
    make_function(make_role(*actions, resource=resource))
    if not message:
        EVENT_SOURCE_MAPPING.create(mapping_of())
        return
    with pytest.raises(ClientError, match=message):
        EVENT_SOURCE_MAPPING.create(mapping_of())


def test_rule_of_a_bucket_has_an_action() -> None:
    boto3.client("s3").create_bucket(Bucket="own", CreateBucketConfiguration={"LocationConstraint": REGION})
    rule = {"id": "old", "status": "Enabled", "filter": {"prefix": "answers/"}}
    LIFECYCLE.create({"bucket": "own", "rules": [{**rule, "expiration": {"days": 7}}]})
    with pytest.raises(ClientError, match="At least one action needs to be specified in a rule"):
        LIFECYCLE.create({"bucket": "own", "rules": [rule]})


def test_snapshot_excludes_a_large_disk_and_layers_must_exist() -> None:
    snapshot = {"snapStart": {"applyOn": "PublishedVersions"}}
    refuse_function({**snapshot, "ephemeralStorage": {"size": 512}})
    refuse_function({"ephemeralStorage": {"size": 1024}})
    with pytest.raises(ValueError, match="SnapStart is not supported with ephemeral storage of"):
        refuse_function({**snapshot, "ephemeralStorage": {"size": 1024}})
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        refuse_function({"layers": [HERE.format("lambda", "layer:runtime:1")]})


@pytest.mark.parametrize(
    ("qualifier", "retries", "age_s", "message"),
    [
        ("live", 2, 21_600, ""),
        ("live", 0, 60, ""),
        ("live", 3, 60, "at 'maximumRetryAttempts' failed to satisfy constraint"),
        ("live", 0, 59, "at 'maximumEventAgeInSeconds' failed to satisfy constraint"),
        ("live", 0, 21_601, "at 'maximumEventAgeInSeconds' failed to satisfy constraint"),
        ("next", 0, 60, "ResourceNotFoundException"),
    ],
)
def test_asynchronous_calls_have_the_bounds_of_botocore(qualifier: str, retries: int, age_s: int, message: str) -> None:
    make_function(make_role("logs:PutLogEvents"))
    inputs = {
        "functionName": "worker",
        "qualifier": qualifier,
        "maximumRetryAttempts": retries,
        "maximumEventAgeInSeconds": age_s,
    }
    configs = make_event_invoke_config({})
    if not message:
        configs.create(inputs)
        return
    with pytest.raises((ValueError, ClientError), match=message):
        configs.create(inputs)


def mock_with(declared: dict[str, Any]) -> dict[str, Any]:
    """Return a document with a preflight whose method declares these headers."""
    answer = {"statusCode": "204", "responseParameters": {"method.response.header.Vary": "'Origin'"}}
    integration = {"type": "mock", "responses": {"default": answer}}
    responses = {"204": {"headers": declared}}
    return {"paths": {"/": {"options": {"responses": responses, "x-amazon-apigateway-integration": integration}}}}


def test_mock_sets_only_headers_that_its_method_declares() -> None:
    check_mocks(mock_with({"Vary": {}}))
    with pytest.raises(RefusedError, match="Invalid mapping expression specified"):
        check_mocks(mock_with({}))


def test_stage_with_an_access_log_needs_the_role_of_the_account() -> None:
    stages = Aws().stages
    inputs = {
        "restApi": "api",
        "stageName": "prod",
        "deployment": "d1",
        "variables": {},
        "accessLogSettings": {"format": "$context.requestId", "destinationArn": HERE.format("logs", "log-group:own")},
    }
    with pytest.raises(RefusedError, match="CloudWatch Logs role ARN must be set in account settings"):
        stages.create(inputs)
    with pytest.raises(boto3.client("apigateway").exceptions.NotFoundException):
        stages.get_stage(restApiId="api", stageName="prod")


REFUSING = {"RefusedError", "NotAllowedError", "MappedError", "AssumeRoleError", "ValueError", "_refused"}


def refusals() -> Iterator[str]:
    """Yield the longest constant part of the message of each refusal in the stand-in."""
    for file in sorted(STAND_IN.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Raise) or not isinstance(node.exc, ast.Call):
                continue
            name = node.exc.func.id if isinstance(node.exc.func, ast.Name) else ""
            if name in REFUSING:
                parts = [part.value for part in ast.walk(node.exc.args[0]) if isinstance(part, ast.Constant)]
                yield max((str(part) for part in parts), key=len, default=f"{file.name}:{node.lineno}")


def texts(file: Path) -> Iterator[str]:
    """Yield the text constants of a file."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value.strip()


def test_every_refusal_is_provoked() -> None:
    tests = [*texts(Path(__file__)), *texts(Path(__file__).with_name("test_refusals.py"))]
    expected = [text for text in tests if len(text) >= 12]
    listed = list(refusals())
    assert len(listed) > 20
    assert [message for message in listed if not any(text in message for text in expected)] == []

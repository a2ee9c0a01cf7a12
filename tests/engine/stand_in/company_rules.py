"""Networks, keys and web ACLs: AWS's checks when a resource names one, against the account in moto.

The messages are AWS's. [LIVE] quoted in serverless-vpc-plugin issue 765 (VPC) and in many projects' notes
(CreateNetworkInterface, private API, key of a log group). [DOC] botocore: CreateLogGroup rejects a disabled key.
[LIVE] terraform-provider-aws issue 28753: a web ACL of CloudFront cannot be associated.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.engine.stand_in.clients import checking_client, client_of
from tests.engine.stand_in.provider import Calls, Inputs

NETWORK_INTERFACE = "ec2:CreateNetworkInterface"


class NotAllowedError(Exception):
    """A request that AWS rejects because of a network, a key or a web ACL."""


def check_vpc(inputs: Inputs) -> dict[str, Any]:
    """Return a function's VPC in the format of Lambda's API.

    Raises:
        NotAllowedError: a subnet or security group does not exist, they are in several VPCs, or the role may not make
            network interfaces, which Lambda checks with the role's current policies.
    """
    config = inputs.get("vpcConfig")
    if not config:
        return {}
    client = client_of("ec2")
    subnets = client.describe_subnets(SubnetIds=list(config["subnetIds"]))["Subnets"]
    groups = client.describe_security_groups(GroupIds=list(config["securityGroupIds"]))["SecurityGroups"]
    if len({entry["VpcId"] for entry in (*subnets, *groups)}) != 1:
        raise NotAllowedError("Security Groups are required to be in the same VPC")
    if not any(NETWORK_INTERFACE in actions for actions in _allowed(inputs["role"])):
        raise NotAllowedError(
            "The provided execution role does not have permissions to call CreateNetworkInterface on EC2"
        )
    return {"SubnetIds": list(config["subnetIds"]), "SecurityGroupIds": list(config["securityGroupIds"])}


def _allowed(role_arn: str) -> Iterator[list[str]]:
    """Yield the actions that a role's own policies allow."""
    client, role = checking_client("iam"), role_arn.rpartition("/")[2]
    for name in client.list_role_policies(RoleName=role)["PolicyNames"]:
        document = client.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        policy = json.loads(document) if isinstance(document, str) else document
        for statement in policy["Statement"]:
            actions = statement["Action"]
            if statement["Effect"] == "Allow":
                yield [actions] if isinstance(actions, str) else actions


def check_key(arn: str | None, service: str = "") -> None:
    """Reject a key that does not exist, is disabled, or has a policy that does not let a service use it."""
    if not arn:
        return
    client = checking_client("kms")
    key = client.describe_key(KeyId=arn)["KeyMetadata"]
    if not key["Enabled"]:
        raise NotAllowedError(f"KMSDisabledException: {arn} is disabled")
    policy = client.get_key_policy(KeyId=arn, PolicyName="default")["Policy"]
    if service and service not in policy:
        raise NotAllowedError(f"The specified KMS key does not exist or is not allowed to be used by {service}: {arn}")


def check_private(inputs: Inputs, document: dict[str, Any]) -> None:
    """Reject a private API without a resource policy, or with an endpoint that does not exist."""
    endpoint = inputs.get("endpointConfiguration") or {}
    if endpoint.get("types") != "PRIVATE":
        return
    ids = list(endpoint.get("vpcEndpointIds") or ())
    known = checking_client("ec2").describe_vpc_endpoints(VpcEndpointIds=ids)["VpcEndpoints"] if ids else []
    services = {entry["ServiceName"].rpartition(".")[2] for entry in known}
    if services - {"execute-api"}:
        raise NotAllowedError(f"The endpoints {ids} are not endpoints of execute-api")
    if "x-amazon-apigateway-policy" not in document:
        raise NotAllowedError("Private REST API doesn't have a resource policy attached to it")


def _associate(inputs: Inputs) -> tuple[str, dict[str, Any]]:
    arn, resource = inputs["webAclArn"], inputs["resourceArn"]
    if ":regional/webacl/" not in arn:
        raise NotAllowedError("WAFInvalidParameterException: the web ACL of a stage must be regional")
    client_of("wafv2").associate_web_acl(WebACLArn=arn, ResourceArn=resource)
    return f"{arn},{resource}", {}


WEB_ACL_ASSOCIATION = Calls(
    make=_associate,
    remove=lambda _, state: client_of("wafv2").disassociate_web_acl(ResourceArn=state["resourceArn"]),
    replaced_by=frozenset({"webAclArn", "resourceArn"}),
)

"""The IAM policy that a principal needs to deploy a project: the calls of Pulumi's AWS provider, and nothing else.

Resource names are patterns with the stack's prefix, so the policy does not grow with the project. Resources with names
made by AWS (APIs, usage plans, keys) are limited to their kind. Source: the calls of terraform-provider-aws v6 for each
resource type; Service Authorization Reference for resources.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from turnout.manifest.parser import Domain
from turnout.plan.values import Plan
from turnout.protocol.naming import function_prefix

from .actions import (
    ALARM_ACTIONS,
    BOUNDED_ROLE_ACTIONS,
    BUCKET_ACTIONS,
    LAMBDA_ACTIONS,
    LOG_ACTIONS,
    OBJECT_ACTIONS,
    QUEUE_ACTIONS,
    ROLE_ACTIONS,
    RULE_ACTIONS,
    VERBS,
)

POLICY_CHARACTERS = 6_144
"""Most characters of a managed policy, without white space. Source: IAM User Guide, "IAM and AWS STS quotas"."""

Statement = dict[str, Any]


@dataclass(frozen=True, slots=True)
class DeployerScope:
    """The scope of the policy.

    Args:
        partition: `aws`.
        region: a region, or `*`.
        account: an account, or `*`.
        settings: the stack's configuration, `web_acl_arn` and so on; some settings need more permissions.
        domain: domain of models.yaml, or None.
    """

    partition: str = "aws"
    region: str = "*"
    account: str = "*"
    settings: Mapping[str, Any] = field(default_factory=dict)
    domain: Domain | None = None

    @property
    def role_path(self) -> str:
        """Return the path of the stack's roles."""
        return str(self.settings.get("role_path") or "/")

    @property
    def domain_settings(self) -> Mapping[str, Any]:
        """Return the domain of models.yaml with the overrides of the stack's setting; empty if there is none."""
        given = self.settings.get("domain")
        own = json.loads(given) if isinstance(given, str) else given
        return {**(asdict(self.domain) if self.domain else {}), **(own or {})}

    def arn(self, service: str, resource: str) -> str:
        """Return the ARN of a resource in the account and region."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"


def build_deployer_policies(plan: Plan, scope: DeployerScope) -> list[dict[str, Any]]:
    """Return the policies: one, or several if one is too small for all statements.

    Args:
        plan: plan of the stack, with its name and needs.
        scope: target of the deployment.
    """
    policies: list[list[Statement]] = [[]]
    for statement in build_statements(plan, scope):
        if policies[-1] and len(render_policy([*policies[-1], statement])) > POLICY_CHARACTERS:
            policies.append([])
        policies[-1].append(statement)
    return [{"Version": "2012-10-17", "Statement": statements} for statements in policies]


def render_policy(statements: Sequence[Statement]) -> str:
    """Return a policy without white space, as IAM counts it."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)}, separators=(",", ":"))


def build_statements(plan: Plan, scope: DeployerScope) -> Iterator[Statement]:
    """Yield the statements that allow a deployment."""
    prefix = function_prefix(plan.platform, plan.stack)
    yield from _of_lambda(prefix, scope)
    yield from _of_api_gateway(scope)
    yield from _of_roles(prefix, scope)
    groups = [scope.arn("logs", f"log-group:{name}*") for name in _log_groups(prefix)]
    yield _allow("LogGroups", "logs", LOG_ACTIONS, groups)
    # A listing cannot be limited to names of groups. A stage's access log is delivered with the caller's permissions.
    deliveries = [
        "CreateLogDelivery", "DeleteLogDelivery", "DescribeLogGroups", "DescribeResourcePolicies", "GetLogDelivery",
        "ListLogDeliveries", "PutResourcePolicy", "UpdateLogDelivery",
    ]  # fmt: skip
    yield _allow("LogDelivery", "logs", deliveries, ["*"])
    alarms = [scope.arn("cloudwatch", f"alarm:{prefix}{separator}*") for separator in "_."]
    dashboard = f"arn:{scope.partition}:cloudwatch::{scope.account}:dashboard/{prefix}"
    yield _allow("Alarms", "cloudwatch", ALARM_ACTIONS, alarms)
    yield _allow("Dashboard", "cloudwatch", ("DeleteDashboards", "GetDashboard", "PutDashboard"), [dashboard])
    yield _allow("AlarmStates", "cloudwatch", ("DescribeAlarms",), ["*"])
    yield _allow("GuardRail", "events", RULE_ACTIONS, [scope.arn("events", f"rule/{prefix}-guard-rail.*")])
    # The account and the region are part of the bucket's name.
    bucket = f"arn:{scope.partition}:s3:::{prefix.lower()}-{scope.account}-{scope.region}"
    yield _allow("Bucket", "s3", BUCKET_ACTIONS, [bucket])
    yield _allow("Packages", "s3", OBJECT_ACTIONS, [f"{bucket}/*"])
    if plan.is_asynchronous:
        yield from _of_requests(prefix, scope)
    yield from _of_settings(scope)
    yield _allow("Identity", "sts", ("GetCallerIdentity",), ["*"])


def _of_requests(prefix: str, scope: DeployerScope) -> Iterator[Statement]:
    """Yield statements for asynchronous requests: a bucket, queues, and the mapping from a queue to the worker."""
    name = f"{prefix}-requests"
    bucket = f"arn:{scope.partition}:s3:::{name.lower()}-{scope.account}-{scope.region}"
    yield _allow("RequestBucket", "s3", (*BUCKET_ACTIONS, "PutBucketCORS", "PutLifecycleConfiguration"), [bucket])
    yield _allow("RequestObjects", "s3", OBJECT_ACTIONS, [f"{bucket}/*"])
    yield _allow("RequestQueues", "sqs", QUEUE_ACTIONS, [scope.arn("sqs", name), scope.arn("sqs", f"{name}-dead")])
    # AWS makes up a mapping's identifier; the function that it calls limits it.
    condition = {"ArnLike": {"lambda:FunctionArn": scope.arn("lambda", f"function:{name}*")}}
    changed = ("CreateEventSourceMapping", "DeleteEventSourceMapping", "UpdateEventSourceMapping")
    yield {**_allow("RequestMapping", "lambda", changed, ["*"]), "Condition": condition}
    read = ("GetEventSourceMapping", "ListEventSourceMappings", "ListTags", "TagResource", "UntagResource")
    yield _allow("RequestMappings", "lambda", read, [scope.arn("lambda", "event-source-mapping:*")])
    log = scope.arn("logs", f"log-group:/aws/lambda/{name}*")
    yield _allow("RequestLog", "logs", LOG_ACTIONS, [log])
    yield _allow("RequestWorker", "lambda", LAMBDA_ACTIONS["function"], [scope.arn("lambda", f"function:{name}*")])


def _of_settings(scope: DeployerScope) -> Iterator[Statement]:
    """Yield statements for the stack's settings: networks, a web ACL, keys, existing roles."""
    settings = scope.settings
    if zone_id := scope.domain_settings.get("hosted_zone_id"):
        zone = f"arn:{scope.partition}:route53:::hostedzone/{zone_id}"
        records = ("ChangeResourceRecordSets", "GetHostedZone", "ListResourceRecordSets")
        yield _allow("DomainRecord", "route53", records, [zone])
        yield _allow("DomainChange", "route53", ("GetChange",), [f"arn:{scope.partition}:route53:::change/*"])
    if settings.get("subnet_ids"):
        described = ("DescribeSecurityGroups", "DescribeSubnets", "DescribeVpcs")
        yield _allow("Networks", "ec2", described, ["*"])
    if acl := settings.get("web_acl_arn"):
        actions = ("AssociateWebACL", "DisassociateWebACL", "GetWebACLForResource")
        stages = f"arn:{scope.partition}:apigateway:{scope.region}::/restapis/*/stages/*"
        yield _allow("WebAcl", "wafv2", actions, [str(acl), stages])
        yield _allow("WebAclOfStages", "apigateway", ("SetWebACL",), [stages])
    keys = sorted({str(settings[key]) for key in ENCRYPTING_KEYS if settings.get(key)})
    if keys:
        # Lambda creates a grant for its own use of an environment's key, on the caller's behalf.
        uses = ("CreateGrant", "Decrypt", "DescribeKey", "Encrypt", "GenerateDataKey")
        yield _allow("Keys", "kms", uses, keys)
    roles = sorted({str(settings[key]) for key in EXISTING_ROLES if settings.get(key)})
    if roles:
        yield _pass_roles("PassExistingRoles", roles)


ENCRYPTING_KEYS = ("environment_kms_key_arn", "bucket_kms_key_arn")
EXISTING_ROLES = ("function_role_arn", "integration_role_arn", "guard_rail_role_arn")


def _of_lambda(prefix: str, scope: DeployerScope) -> Iterator[Statement]:
    names = [f"function:{prefix}_*", f"function:{prefix}-guard-rail*"]
    yield _allow("Functions", "lambda", LAMBDA_ACTIONS["function"], [scope.arn("lambda", name) for name in names])
    layers = [scope.arn("lambda", f"layer:{prefix}_*")]
    yield _allow("Layers", "lambda", LAMBDA_ACTIONS["layer"], layers)
    yield _allow("LambdaAccount", "lambda", LAMBDA_ACTIONS["account"], ["*"])


def _of_api_gateway(scope: DeployerScope) -> Iterator[Statement]:
    root = f"arn:{scope.partition}:apigateway:{scope.region}::"
    kinds = ["restapis", "usageplans", "apikeys", *(["domainnames"] if scope.domain_settings else [])]
    resources = [f"{root}/{kind}{below}" for kind in kinds for below in ("", "/*")]
    yield _allow("Apis", "apigateway", VERBS, [*resources, f"{root}/tags/*"])
    yield _allow("ApiAccount", "apigateway", ("GET", "PATCH"), [f"{root}/account"])


def _of_roles(prefix: str, scope: DeployerScope) -> Iterator[Statement]:
    """Yield statements for the roles that the stack makes; none if it uses only existing ones."""
    root = f"arn:{scope.partition}:iam::{scope.account}:role{scope.role_path}{prefix}"
    roles = [f"{root}{name}" for name in _made_roles(scope.settings)]
    if not roles:
        return
    boundary = scope.settings.get("permissions_boundary_arn")
    if boundary:
        yield _allow("Roles", "iam", ROLE_ACTIONS, roles)
        condition = {"StringEquals": {"iam:PermissionsBoundary": str(boundary)}}
        yield {**_allow("BoundedRoles", "iam", BOUNDED_ROLE_ACTIONS, roles), "Condition": condition}
    else:
        # A stack whose setting was deleted still has roles with a boundary.
        actions = sorted({*ROLE_ACTIONS, *BOUNDED_ROLE_ACTIONS, "DeleteRolePermissionsBoundary"})
        yield _allow("Roles", "iam", actions, roles)
    yield _pass_roles("PassRoles", roles)


def _made_roles(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield patterns of what follows the stack's prefix in the names of the roles that it makes."""
    if not settings.get("function_role_arn"):
        yield from ("_*", "-*")
        return
    if not settings.get("integration_role_arn"):
        yield "_integration"
    if not settings.get("guard_rail_role_arn"):
        yield "-guard-rail"
    if str(settings.get("account_logging", "true")).lower() != "false":
        yield "-logs-*"


def _pass_roles(name: str, roles: Sequence[str]) -> Statement:
    services = ["apigateway.amazonaws.com", "lambda.amazonaws.com"]
    return {
        **_allow(name, "iam", ("PassRole",), roles),
        "Condition": {"StringEquals": {"iam:PassedToService": services}},
    }


def _log_groups(prefix: str) -> tuple[str, ...]:
    return (f"/aws/lambda/{prefix}_", f"/aws/lambda/{prefix}-guard-rail", f"/aws/apigateway/{prefix}_")


def _allow(name: str, service: str, actions: Sequence[str], resources: Sequence[str]) -> Statement:
    return {
        "Sid": name,
        "Effect": "Allow",
        "Action": [f"{service}:{action}" for action in actions],
        "Resource": list(resources),
    }

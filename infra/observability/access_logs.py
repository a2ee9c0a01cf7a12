"""Access logs of a stage, a JSON line per request, and the role by which API Gateway writes them.

Requests that the canary answers are logged in a second group as well, `.../Canary`, which is made here lest API Gateway
make it without retention. Source: API Gateway Developer Guide, "Set up an API Gateway canary release deployment".
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from turnout.plan.deployment_notes import Outputs
from turnout.protocol.aws.access_log import ACCESS_LOG_FIELDS, CALLER_FIELD

from ..naming import Place
from ..policies import API_GATEWAY
from ..roles import make_role
from ..stack.log_groups import LogSettings, make_log_group


def render_format(*, has_consumers: bool) -> str:
    """Return what API Gateway writes of each request of a stage."""
    fields = {**ACCESS_LOG_FIELDS, **({"caller": CALLER_FIELD} if has_consumers else {})}
    return json.dumps(fields, separators=(",", ":"))


PUSH_TO_LOGS = "service-role/AmazonAPIGatewayPushToCloudWatchLogs"
"""AWS's own policy: API Gateway refuses a role that may less. Its resource is `*`, for it is the role of all APIs."""


def make_log_groups(
    name: str, api: str, stage: str, settings: LogSettings, opts: pulumi.ResourceOptions
) -> aws.cloudwatch.LogGroup:
    """The stage's log group; the canary has one of its own."""
    group = f"/aws/apigateway/{api}/{stage}"
    log = make_log_group(name, group, settings, opts, settings.access_log_class)
    make_log_group(f"{name}_canary", f"{group}/Canary", settings, opts, settings.access_log_class)
    return log


@dataclass(frozen=True, slots=True)
class LoggingPlan:
    """A stack's handling of the account's role for logs.

    Args:
        makes: whether the stack has the role and the setting among its resources.
        note: what the user should know, or empty.
    """

    makes: bool
    note: str = ""


def plan_logging(place: Place, role: str | None, outputs: Outputs | None) -> LoggingPlan:
    """Return whether the stack sets the role: only where none is set, or where it was this stack that set it.

    Args:
        place: names the role.
        role: the one that is set, empty for none; None where that cannot be read.
        outputs: of the stack's last deployment, empty where there is none; None where they are not known.
    """
    own = place.role_arn(place.logs_role)
    known = outputs or {}
    # A stack deployed by an older version has the setting but no such output, and would reset it for the whole account.
    is_old = bool(known) and "account_logging" not in known
    has_made = is_old or bool(known.get("account_logging"))
    if is_old or (role is None and has_made) or (role == own and (has_made or outputs is None)):
        return LoggingPlan(makes=True)
    if role == "":
        return LoggingPlan(makes=True, note=_SET.format(region=place.region, role=own))
    if role is None:
        return LoggingPlan(makes=False, note=_UNKNOWN.format(region=place.region))
    whose = "an earlier deployment of this stack set" if role == own else "was set elsewhere"
    return LoggingPlan(makes=False, note=_LEFT.format(region=place.region, role=role, whose=whose))


_SET = (
    "no role for API Gateway's logs is set in {region}: this stack sets {role}, for every API of the account and "
    "region. `pulumi destroy` leaves both the role and the setting"
)
_UNKNOWN = (
    "the role for API Gateway's logs cannot be read (apigateway:GET on /account), so it stays as it is. Where none is "
    "set in {region}, AWS refuses the stages: set one, once for the account and region"
)
_LEFT = "API Gateway writes logs in {region} as {role}, which {whose}: it stays as it is"


class AccountLogging(pulumi.ComponentResource):
    """The role for all logs of API Gateway in this account and region; without one no stage may have an access log.

    It is everybody's once it is set, so it stays when the stack is destroyed: the provider would end the logs of every
    API of the region.
    """

    def __init__(
        self, name: str, place: Place, boundary_arn: str = "", opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("turnout:infra:AccountLogging", name, None, opts)
        within = pulumi.ResourceOptions(parent=self, retain_on_delete=True)
        role = make_role(name, place.logs_role, API_GATEWAY, place, boundary_arn, within)
        policy = f"arn:{place.partition}:iam::aws:policy/{PUSH_TO_LOGS}"
        attached = aws.iam.RolePolicyAttachment(name, role=role.name, policy_arn=policy, opts=within)
        aws.apigateway.Account(
            name,
            cloudwatch_role_arn=role.arn,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[attached], retain_on_delete=True),
        )
        self.register_outputs({})

"""A stage's access logs, one JSON line per request, and the role with which API Gateway writes them.

Requests that the canary answers are logged in a second log group as well, `.../Canary`. It is created here, because API
Gateway would create it without a retention. Source: API Gateway Developer Guide, "Set up an API Gateway canary release
deployment".
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
    """Return the access log format of a stage: what API Gateway writes for each request."""
    fields = {**ACCESS_LOG_FIELDS, **({"caller": CALLER_FIELD} if has_consumers else {})}
    return json.dumps(fields, separators=(",", ":"))


PUSH_TO_LOGS = "service-role/AmazonAPIGatewayPushToCloudWatchLogs"
"""AWS's own policy: API Gateway rejects a role with fewer permissions. Its resource is `*`, because the role serves all
APIs.
"""


def make_log_groups(
    name: str, api: str, stage: str, settings: LogSettings, opts: pulumi.ResourceOptions
) -> aws.cloudwatch.LogGroup:
    """Make the stage's log group and one for its canary; return the stage's."""
    group = f"/aws/apigateway/{api}/{stage}"
    log = make_log_group(name, group, settings, opts, settings.access_log_class)
    make_log_group(f"{name}_canary", f"{group}/Canary", settings, opts, settings.access_log_class)
    return log


@dataclass(frozen=True, slots=True)
class LoggingPlan:
    """How a stack handles the account's role for logs.

    Args:
        makes: whether the role and the account setting are resources of the stack.
        note: a note for the user, or empty.
    """

    makes: bool
    note: str = ""


def plan_logging(place: Place, role: str | None, outputs: Outputs | None) -> LoggingPlan:
    """Return whether the stack sets the role: only if none is set, or if this stack has set it.

    Args:
        place: contains the role's name.
        role: the current role, empty for none; None if it cannot be read.
        outputs: outputs of the stack's last deployment, empty if there is none; None if they are unknown.
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
    """The role for all logs of API Gateway in this account and region. Without it no stage can have an access log.

    Once set, it serves the whole account, so it stays when the stack is destroyed: resetting it would end the logs of
    every API of the region.
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

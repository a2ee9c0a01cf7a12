"""A stack's place, and its resources' names and ARNs, known before anything is made."""

from __future__ import annotations

from dataclasses import dataclass

from turnout.protocol.naming import LIVE, NEXT

INTEGRATION = "integration"
"""The last word of the role by which API Gateway calls functions. No function is called like that."""


@dataclass(frozen=True, slots=True)
class Place:
    """One account, one region, one stack.

    Args:
        partition: `aws`, `aws-cn`, `aws-us-gov`.
        region: `eu-west-1`.
        account: twelve digits.
        prefix: `turnout-prod`: what every name starts with. It holds no underscore, so that `turnout-prod_` starts the
            names of this stack's functions and of nothing else.
        role_path: of the roles that the stack makes.
    """

    partition: str
    region: str
    account: str
    prefix: str
    role_path: str = "/"

    def name(self, *words: str) -> str:
        """`turnout-prod_api_prod`."""
        return "_".join((self.prefix, *words))

    @property
    def own_role_path(self) -> str | None:
        """The path of roles as an argument; None where it is AWS's default."""
        return None if self.role_path == "/" else self.role_path

    def role_arn(self, name: str) -> str:
        """Of a role that the stack makes."""
        return f"arn:{self.partition}:iam::{self.account}:role{self.role_path}{name}"

    def function_arns(self, name: str) -> list[str]:
        """Of a function's aliases, the only way in which it is called; `*` in the name is IAM's."""
        return [f"{self._arn('lambda')}:function:{name}:{alias}" for alias in (LIVE, NEXT)]

    def log_stream_arns(self, log_group: str) -> str:
        """Of a log group's streams, whose names Lambda makes up."""
        return f"{self._arn('logs')}:log-group:{log_group}:log-stream:*"

    def alarm_arn(self, name: str) -> str:
        """Of a CloudWatch alarm of this account and region."""
        return f"{self._arn('cloudwatch')}:alarm:{name}"

    def stage_arn(self, rest_api_id: str, stage: str) -> str:
        """Of a stage as the control plane's permissions name it."""
        return f"arn:{self.partition}:apigateway:{self.region}::/restapis/{rest_api_id}/stages/{stage}"

    @property
    def bucket(self) -> str:
        """The bucket of what is too large to be sent directly; the names of buckets are everybody's."""
        return f"{self.prefix}-{self.account}-{self.region}".lower()

    @property
    def guard_rail(self) -> str:
        """The guard rail's function and role. A hyphen: what the prefix and an underscore begin, API Gateway calls."""
        return f"{self.prefix}-guard-rail"

    def guard_rail_rule(self, stage: str) -> str:
        """The rule that receives the alarms of a stage's canary. A dot, which neither a prefix nor a stage has."""
        return f"{self.guard_rail}.{stage}"

    def guard_rail_check(self, stage: str) -> str:
        """The rule that has the alarms' states checked every minute."""
        return f"{self.guard_rail_rule(stage)}.check"

    @property
    def logs_role(self) -> str:
        """By which API Gateway writes logs. Roles are the whole account's, this one is for one region of it."""
        return f"{self.prefix}-logs-{self.region}"

    @property
    def integration_role(self) -> str:
        """By which API Gateway calls functions."""
        return self.name(INTEGRATION)

    def _arn(self, service: str) -> str:
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}"


def stage_alarm_name(place: Place, stage: str, kind: str) -> str:
    """An alarm of a stage. A dot, which no function's name has: a function's alarms start with its name."""
    return f"{place.prefix}.{stage}_{kind}"

"""A stack's account and region, and the names and ARNs of its resources, all known before anything is created."""

from __future__ import annotations

from dataclasses import dataclass

from turnout.protocol.aws_requests.settings import bucket_name, dead_letters_name, requests_name
from turnout.protocol.naming import LIVE, NEXT, stack_bucket_name

INTEGRATION = "integration"
"""The last word in the name of the role with which API Gateway calls functions. No function has this name."""


@dataclass(frozen=True, slots=True)
class Place:
    """One account, one region, one stack.

    Args:
        partition: `aws`, `aws-cn`, `aws-us-gov`.
        region: `eu-west-1`.
        account: twelve digits.
        prefix: `turnout-prod`, the start of every name. It contains no underscore, so only names of this stack's
            functions start with `turnout-prod_`.
        role_path: path of the roles that the stack makes.
    """

    partition: str
    region: str
    account: str
    prefix: str
    role_path: str = "/"

    def name(self, *words: str) -> str:
        """Return a resource's name, such as `turnout-prod_api_prod`."""
        return "_".join((self.prefix, *words))

    @property
    def own_role_path(self) -> str | None:
        """The path of roles as an argument; None for AWS's default."""
        return None if self.role_path == "/" else self.role_path

    def role_arn(self, name: str) -> str:
        """Return the ARN of a role that the stack makes."""
        return f"arn:{self.partition}:iam::{self.account}:role{self.role_path}{name}"

    def function_arns(self, name: str, *, with_async: bool = False) -> list[str]:
        """Return the ARNs of a function's aliases; functions are called only through these.

        Args:
            name: the function's name; `*` is IAM's wildcard.
            with_async: whether to include the aliases of asynchronous runs, whose names begin like the others.
        """
        end = "*" if with_async else ""
        return [f"{self._arn('lambda')}:function:{name}:{alias}{end}" for alias in (LIVE, NEXT)]

    def log_stream_arns(self, log_group: str) -> str:
        """Return the ARNs of a log group's streams, whose names Lambda chooses."""
        return f"{self._arn('logs')}:log-group:{log_group}:log-stream:*"

    def alarm_arn(self, name: str) -> str:
        """Return the ARN of a CloudWatch alarm in this account and region."""
        return f"{self._arn('cloudwatch')}:alarm:{name}"

    def stage_arn(self, rest_api_id: str, stage: str) -> str:
        """Return the ARN of a stage for permissions on the control plane."""
        return f"arn:{self.partition}:apigateway:{self.region}::/restapis/{rest_api_id}/stages/{stage}"

    @property
    def bucket(self) -> str:
        """The bucket for packages that are too large to be sent directly, for stored models, and for choice tables."""
        return stack_bucket_name(self.prefix, self.account, self.region)

    @property
    def requests(self) -> str:
        """Return the name of the queue and the worker of asynchronous requests."""
        return requests_name(self.prefix)

    @property
    def dead_letters(self) -> str:
        """Return the name of the queue of failed asynchronous requests."""
        return dead_letters_name(self.prefix)

    @property
    def requests_bucket(self) -> str:
        """Return the name of the bucket of asynchronous requests."""
        return bucket_name(self.prefix, self.account, self.region)

    def bucket_arn(self, bucket: str) -> str:
        """Return the ARN of a bucket."""
        return f"arn:{self.partition}:s3:::{bucket}"

    def queue_arn(self, queue: str) -> str:
        """Return the ARN of a queue of this account and region."""
        return f"{self._arn('sqs')}:{queue}"

    @property
    def guard_rail(self) -> str:
        """Name of the guard rail's function and role.

        It has a hyphen because API Gateway may call functions named with the prefix and an underscore.
        """
        return f"{self.prefix}-guard-rail"

    def guard_rail_rule(self, stage: str) -> str:
        """Name of the rule that receives the alarms of a stage's canary.

        It has a dot, which neither prefixes nor stages contain.
        """
        return f"{self.guard_rail}.{stage}"

    def guard_rail_routed(self, stage: str, group: int) -> str:
        """Name of the rule that receives the alarms of one group of a stage's routed canaries; groups count from 1."""
        return f"{self.guard_rail_rule(stage)}.routed{'' if group == 1 else group}"

    @staticmethod
    def guard_rail_check(rule: str) -> str:
        """Name of the rule that checks the alarms' states of such a rule every minute."""
        return f"{rule}.check"

    @property
    def logs_role(self) -> str:
        """Name of the role with which API Gateway writes logs.

        Roles belong to the whole account; this one is for one region.
        """
        return f"{self.prefix}-logs-{self.region}"

    @property
    def integration_role(self) -> str:
        """Name of the role with which API Gateway calls functions."""
        return self.name(INTEGRATION)

    def _arn(self, service: str) -> str:
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}"


def stage_alarm_name(place: Place, stage: str, kind: str) -> str:
    """Return the name of a stage's alarm.

    It has a dot, which no function name contains: a function's alarms start with its name.
    """
    return f"{place.prefix}.{stage}_{kind}"

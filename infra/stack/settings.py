"""Settings: where a stack is deployed, under which rules of the company, and who receives its alarms.

What is served is defined only in models.yaml. All values are checked here, before any resource is created.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi
from pulumi.runtime import config

from turnout.plan.checks.quotas import KEPT_VERSIONS
from turnout.plan.log_groups import LOG_GROUPINGS, PER_FUNCTION

from .log_groups import LogSettings
from .setting_values import SettingValues

RETENTION_DAYS = frozenset(
    {1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653}
)
"""The values that CloudWatch Logs accepts. Source: botocore, `PutRetentionPolicy.retentionInDays`."""

MOST_KEPT_VERSIONS = 1000
"""More is a mistake: each old version of each function counts its zip against the account's code storage."""

MOST_ALARM_ACTIONS = 5
"""Most actions of an alarm. Source: botocore, `PutMetricAlarm.AlarmActions`."""

MOST_SUBNETS, MOST_SECURITY_GROUPS = 16, 5
"""Most subnets and security groups of a function. Source: botocore, `VpcConfig`."""

LOG_FORMATS = {"json": "JSON", "text": "Text"}
LOG_CLASSES = {"standard": "STANDARD", "infrequent_access": "INFREQUENT_ACCESS"}


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """Networks that functions are connected to, and from which the APIs can be called.

    Args:
        subnet_ids: subnets of the functions, empty for none.
        security_group_ids: security groups of the functions, empty for none.
        vpc_endpoint_ids: the only endpoints through which the APIs can be called, which makes the APIs private; empty
            for public APIs.
        allowed_ips: the only CIDR blocks from which the APIs can be called, empty for no restriction.
        web_acl_arn: the web ACL with which AWS WAF checks requests, or empty.
    """

    subnet_ids: tuple[str, ...] = ()
    security_group_ids: tuple[str, ...] = ()
    vpc_endpoint_ids: tuple[str, ...] = ()
    allowed_ips: tuple[str, ...] = ()
    web_acl_arn: str = ""


@dataclass(frozen=True, slots=True)
class KeySettings:
    """Customer managed KMS keys, each an ARN or empty.

    Args:
        logs: the key of all log groups.
        environment: the key of the functions' environment variables, snapshots and zips.
        bucket: the key of the stack's own bucket.
    """

    logs: str = ""
    environment: str = ""
    bucket: str = ""


@dataclass(frozen=True, slots=True)
class RoleSettings:
    """Rules for roles.

    Args:
        path: path of new roles, `/` or `/team/`.
        boundary_arn: the permissions boundary of new roles, or empty.
        function_arn: an existing role for all functions, or empty.
        integration_arn: an existing role with which API Gateway calls functions, or empty.
        guard_rail_arn: an existing role for the guard rail's function, or empty.
    """

    path: str = "/"
    boundary_arn: str = ""
    function_arn: str = ""
    integration_arn: str = ""
    guard_rail_arn: str = ""


@dataclass(frozen=True, slots=True)
class StackSettings:
    """A stack's configuration.

    Args:
        log_retention_days: one of `RETENTION_DAYS`.
        alarm_topic_arns: the SNS topics that receive alarms.
        keep_versions: how many old versions of each function and layer are kept, in addition to those in use.
        new_names: whether a stack deployed by an older version may get other names, and with them other addresses.
        log_groups: which functions share a log group, one of `LOG_GROUPINGS`.
        next_alias: whether functions have the alias `next` while no release canary is on; None keeps it while a stage
            calls it.
        account_logging: whether this stack sets API Gateway's role for logs, which is shared by an account and region.
        log_format: format of the functions' logs, a value of `LOG_FORMATS`.
        access_log_class: class of the access logs' groups, a value of `LOG_CLASSES`; empty to name none.
        tags: tags of every resource that accepts tags.
    """

    log_retention_days: int = 30
    alarm_topic_arns: tuple[str, ...] = ()
    account_logging: bool = True
    keep_versions: int = KEPT_VERSIONS
    new_names: bool = False
    log_groups: str = PER_FUNCTION
    next_alias: bool | None = None
    log_format: str = "JSON"
    access_log_class: str = "STANDARD"
    tags: Mapping[str, str] = field(default_factory=dict)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    keys: KeySettings = field(default_factory=KeySettings)
    roles: RoleSettings = field(default_factory=RoleSettings)

    @property
    def logs(self) -> LogSettings:
        """Settings of all log groups."""
        return LogSettings(self.log_retention_days, self.keys.logs, self.access_log_class)

    @property
    def alarm_actions(self) -> list[str]:
        """The actions of every alarm."""
        return list(self.alarm_topic_arns)


def _given() -> Mapping[str, Any]:
    """Return the whole configuration: the engine's, or that of a program in this process."""
    return {**config.get_config_env(), **config.CONFIG.get()}


def read_settings() -> StackSettings:
    """Return the stack's settings.

    Raises:
        pulumi.RunError: keys do not exist, or AWS would not accept their values; the message lists all of them.
    """
    values = SettingValues(pulumi.Config("turnout"), _given(), "turnout")
    values.text("domain")  # checked together with models.yaml's domain (infra/access/domain.py)
    made = StackSettings(
        log_retention_days=values.choice_of_int("log_retention_days", RETENTION_DAYS, 30),
        alarm_topic_arns=values.arns("alarm_topic_arn", "sns", "an SNS topic", MOST_ALARM_ACTIONS),
        account_logging=values.boolean("account_logging") is not False,
        keep_versions=values.integer("keep_versions", 0, MOST_KEPT_VERSIONS, KEPT_VERSIONS),
        new_names=values.boolean("new_names") is True,
        log_groups=values.choice("log_groups", {name: name for name in LOG_GROUPINGS}, PER_FUNCTION),
        next_alias=values.boolean("next_alias"),
        log_format=values.choice("log_format", LOG_FORMATS, "json"),
        access_log_class=values.choice("access_log_class", LOG_CLASSES, "standard"),
        tags=values.tags("tags"),
        network=NetworkSettings(
            values.ids("subnet_ids", "subnet-", MOST_SUBNETS),
            values.ids("security_group_ids", "sg-", MOST_SECURITY_GROUPS),
            values.ids("vpc_endpoint_ids", "vpce-", 5),
            values.networks("allowed_ips"),
            values.arn("web_acl_arn", "wafv2", "a regional web ACL", r"regional/webacl/[^/]+/[^/]+"),
        ),
        keys=KeySettings(
            *(
                values.arn(f"{name}_kms_key_arn", "kms", "a KMS key", r"key/[A-Za-z0-9-]+")
                for name in ("log", "environment", "bucket")
            )
        ),
        roles=RoleSettings(
            values.role_path("role_path"),
            values.arn("permissions_boundary_arn", "iam", "an IAM policy", r"policy/.+"),
            *(
                values.arn(f"{name}_role_arn", "iam", "a role", r"role/.+")
                for name in ("function", "integration", "guard_rail")
            ),
        ),
    )
    if bool(made.network.subnet_ids) != bool(made.network.security_group_ids):
        missing = "security_group_ids" if made.network.subnet_ids else "subnet_ids"
        values.refuse(missing, "is missing: a function in a VPC needs both `subnet_ids` and `security_group_ids`")
    values.finish()
    return made

"""A stack's settings: its place, and who receives its alarms. Only models.yaml says what is served."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi

from turnout.plan.checks.quotas import KEPT_VERSIONS
from turnout.plan.log_groups import LOG_GROUPINGS, PER_FUNCTION

RETENTION_DAYS = frozenset(
    {1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653}
)
"""The values that CloudWatch Logs accepts. Source: botocore, `PutRetentionPolicy.retentionInDays`."""


MOST_KEPT_VERSIONS = 1000
"""More is a mistake: each old version of each function takes its zip of the account's code storage."""


@dataclass(frozen=True, slots=True)
class StackSettings:
    """A stack's configuration.

    Args:
        log_retention_days: one of `RETENTION_DAYS`.
        alarm_topic_arn: the SNS topic that alarms are sent to, or empty.
        keep_versions: how many old versions of each function and layer stay, beside those in use.
        new_names: whether a stack that an older version deployed may get other names, and with them other addresses.
        log_groups: which functions share a log group, one of `LOG_GROUPINGS`.
        next_alias: whether functions have the alias `next` while no release canary is on; None keeps it as long as a
            stage calls it.
        account_logging: whether this stack sets API Gateway's role for logs, one for all of an account and region.
    """

    log_retention_days: int = 30
    alarm_topic_arn: str = ""
    account_logging: bool = True
    keep_versions: int = KEPT_VERSIONS
    new_names: bool = False
    log_groups: str = PER_FUNCTION
    next_alias: bool | None = None

    @property
    def alarm_actions(self) -> list[str]:
        """Of every alarm."""
        return [self.alarm_topic_arn] if self.alarm_topic_arn else []


def read_settings() -> StackSettings:
    """The stack's own.

    Raises:
        pulumi.RunError: a value is none that AWS takes.
    """
    config = pulumi.Config("turnout")
    days = config.get_int("log_retention_days")
    days = 30 if days is None else days
    if days not in RETENTION_DAYS:
        allowed = ", ".join(map(str, sorted(RETENTION_DAYS)))
        raise pulumi.RunError(f"turnout:log_retention_days: must be one of {allowed}, got {days}")
    topic = config.get("alarm_topic_arn") or ""
    if topic and not topic.startswith("arn:"):
        raise pulumi.RunError(f"turnout:alarm_topic_arn: expected the ARN of an SNS topic, got {topic!r}")
    account_logging = config.get_bool("account_logging")
    keep = config.get_int("keep_versions")
    keep = KEPT_VERSIONS if keep is None else keep
    if not 0 <= keep <= MOST_KEPT_VERSIONS:
        raise pulumi.RunError(f"turnout:keep_versions: must be 0-{MOST_KEPT_VERSIONS}, got {keep}")
    groups = config.get("log_groups") or PER_FUNCTION
    if groups not in LOG_GROUPINGS:
        raise pulumi.RunError(f"turnout:log_groups: must be one of {', '.join(LOG_GROUPINGS)}, got {groups!r}")
    return StackSettings(
        days,
        topic,
        account_logging is not False,
        keep,
        config.get_bool("new_names") is True,
        groups,
        config.get_bool("next_alias"),
    )

"""CloudWatch log groups: their retention and their encryption key."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws


@dataclass(frozen=True, slots=True)
class LogSettings:
    """The settings that all log groups of a stack share.

    Args:
        retention_days: how long events are kept.
        kms_key_arn: the key that encrypts them, or empty.
        access_log_class: class of the access logs' groups.
    """

    retention_days: int
    kms_key_arn: str = ""
    access_log_class: str = "STANDARD"


def make_log_group(
    name: str, log_group: str, settings: LogSettings, opts: pulumi.ResourceOptions, log_class: str = "STANDARD"
) -> aws.cloudwatch.LogGroup:
    """Make a log group."""
    return aws.cloudwatch.LogGroup(
        name,
        name=log_group,
        retention_in_days=settings.retention_days,
        kms_key_id=settings.kms_key_arn or None,
        # None instead of the default class: existing groups then show no difference.
        log_group_class=None if log_class == "STANDARD" else log_class,
        opts=opts,
    )


class SharedLogs(pulumi.ComponentResource):
    """The log groups that several functions write to: one for each model, or one for all."""

    def __init__(
        self,
        name: str,
        groups: Collection[str],
        settings: LogSettings,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("turnout:infra:SharedLogs", name, None, opts)
        within = pulumi.ResourceOptions(parent=self)
        self.names: Mapping[str, pulumi.Output[str]] = {
            group: make_log_group(group.rpartition("_")[2], group, settings, within).name for group in sorted(groups)
        }
        self.register_outputs({})

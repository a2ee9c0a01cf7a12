"""CloudWatch log groups: their retention and their encryption key."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws


@dataclass(frozen=True, slots=True)
class LogSettings:
    """The settings that all log groups of a stack share.

    Args:
        retention_days: how long events are kept.
        kms_key_arn: the key that encrypts them, or empty.
        access_log_class: class of the access logs' groups; without one, existing groups keep theirs.
    """

    retention_days: int
    kms_key_arn: str = ""
    access_log_class: str = ""


def make_log_group(
    name: str, log_group: str, settings: LogSettings, opts: pulumi.ResourceOptions, log_class: str = ""
) -> aws.cloudwatch.LogGroup:
    """Make a log group."""
    return aws.cloudwatch.LogGroup(
        name,
        name=log_group,
        retention_in_days=settings.retention_days,
        kms_key_id=settings.kms_key_arn or None,
        log_group_class=log_class or None,
        opts=opts,
    )


STANDARD = "STANDARD"


@dataclass(frozen=True, slots=True)
class LogClassPlan:
    """The class of the access logs in a deployment.

    Args:
        name: the class to name, or empty for none.
        note: a note for the user, or empty.
    """

    name: str
    note: str = ""


def plan_log_class(wanted: str, outputs: Mapping[str, Any] | None) -> LogClassPlan:
    """Return the class that access logs get.

    The provider replaces a log group to change its class, and keeps the class of a group for which none is named.
    Source: terraform-provider-aws, internal/service/logs/group.go (`log_group_class`: Optional, Computed, ForceNew).

    Args:
        wanted: the class in the stack's configuration.
        outputs: outputs of the last deployment; empty if there was none, None if they are unknown.
    """
    present = (outputs or {}).get("access_log_class", STANDARD)
    # No name instead of the default class: groups that an older version of the provider made show no difference.
    name = "" if wanted == present == STANDARD else wanted
    return LogClassPlan(name, REPLACED.format(name=wanted) if outputs and wanted != present else "")


REPLACED = (
    "the class of a log group cannot be changed: this deployment deletes the log groups of all access logs with their "
    "events, and makes new ones of the class {name}. Export first what you need"
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

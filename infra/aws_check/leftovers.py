"""Finds the stack's resources that still exist in the account; after the stack is destroyed there should be none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Client = Callable[[str], Any]
"""Returns boto3's client of a service."""


def find_leftovers(client: Client, prefix: str) -> list[str]:
    """Return everything whose name starts with the stack's prefix, each as `kind name`."""
    return sorted(f"{kind} {name}" for kind, name in _list_names(client) if _belongs(name, prefix))


def undo_logs_role(client: Client, prefix: str) -> None:
    """Reset the role with which API Gateway writes logs, if this stack has set it.

    Other stacks leave it to the rest of the account when they are destroyed. This stack existed for minutes only, in a
    region that had no such role.
    """
    gateway, iam = client("apigateway"), client("iam")
    own = f"{prefix}-logs-"
    if (gateway.get_account().get("cloudwatchRoleArn") or "").rpartition("/")[2].startswith(own):
        gateway.update_account(patchOperations=[{"op": "replace", "path": "/cloudwatchRoleArn", "value": ""}])
    for page in iam.get_paginator("list_roles").paginate():
        for name in [role["RoleName"] for role in page["Roles"] if role["RoleName"].startswith(own)]:
            for policy in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
                iam.detach_role_policy(RoleName=name, PolicyArn=policy["PolicyArn"])
            iam.delete_role(RoleName=name)


def _belongs(name: str, prefix: str) -> bool:
    """Whether a name belongs to `turnout-check1`: `turnout-check1_iris` does, `turnout-check12_iris` does not."""
    last = name.removeprefix("/aws/lambda/").removeprefix("/aws/apigateway/")
    return last.startswith(prefix) and (len(last) == len(prefix) or last[len(prefix)] in "_-./")


def _list_names(client: Client) -> Iterator[tuple[str, str]]:
    for service, operation, key, name, kind in (
        ("lambda", "list_functions", "Functions", "FunctionName", "function"),
        ("lambda", "list_layers", "Layers", "LayerName", "layer"),
        ("apigateway", "get_rest_apis", "items", "name", "API"),
        ("apigateway", "get_usage_plans", "items", "name", "usage plan"),
        ("apigateway", "get_api_keys", "items", "name", "API key"),
        ("iam", "list_roles", "Roles", "RoleName", "role"),
        ("logs", "describe_log_groups", "logGroups", "logGroupName", "log group"),
        ("cloudwatch", "describe_alarms", "MetricAlarms", "AlarmName", "alarm"),
        ("cloudwatch", "list_dashboards", "DashboardEntries", "DashboardName", "dashboard"),
        ("events", "list_rules", "Rules", "Name", "rule"),
    ):
        for page in client(service).get_paginator(operation).paginate():
            for entry in page.get(key, []):
                yield kind, entry[name]
    for entry in client("s3").list_buckets()["Buckets"]:
        yield "bucket", entry["Name"]

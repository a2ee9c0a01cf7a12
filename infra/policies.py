"""IAM policies as JSON: who may assume a role, and what a role may do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from .naming import Place

Statement = dict[str, Any]


LAMBDA = "lambda.amazonaws.com"
API_GATEWAY = "apigateway.amazonaws.com"

SENDS_SOURCE_ACCOUNT = frozenset({LAMBDA})
"""Services that may send `aws:SourceAccount` when they assume a role. API Gateway never does: with a trust policy that
requires it, every request returns 500, and the account settings reject the role for logs.
"""


def render_trust(place: Place, service: str) -> str:
    """Return the trust policy of a role that one service assumes.

    If the service may send the account on whose behalf it acts, it must be this account. The condition is
    `StringEqualsIfExists`, because Lambda's documentation does not promise that the account is always sent. Source: IAM
    User Guide, "The confused deputy problem".
    """
    statement: Statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    if service in SENDS_SOURCE_ACCOUNT:
        statement["Condition"] = {"StringEqualsIfExists": {"aws:SourceAccount": place.account}}
    return render_policy([statement])


def render_policy(statements: Sequence[Statement]) -> str:
    """Return the policy document of these statements."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)}, separators=(",", ":"))


def allow(actions: Sequence[str], resources: Sequence[str]) -> Statement:
    """Return a statement that allows actions on resources."""
    return {"Effect": "Allow", "Action": list(actions), "Resource": list(resources)}


def allow_logs(place: Place, log_group: str) -> Statement:
    """Return a statement that allows writing to an existing log group; `*` in its name is IAM's wildcard."""
    return allow(["logs:CreateLogStream", "logs:PutLogEvents"], [place.log_stream_arns(log_group)])


def allow_invoke(place: Place, functions: Sequence[str], *, with_async: bool = False) -> Statement:
    """Return a statement that allows calling functions through their aliases.

    Args:
        place: names the functions.
        functions: names of functions; `*` is a wildcard.
        with_async: see `Place.function_arns`.
    """
    arns = [arn for name in functions for arn in place.function_arns(name, with_async=with_async)]
    return allow(["lambda:InvokeFunction"], arns)


def deny_invoke(place: Place, functions: Sequence[str], *, with_async: bool = False) -> Statement:
    """Return a statement that denies calling functions that the pattern of `allow_invoke` matches."""
    return {**allow_invoke(place, functions, with_async=with_async), "Effect": "Deny"}


DESCRIBE_ALARMS = allow(["cloudwatch:DescribeAlarms"], ["*"])
"""With a narrower resource, DescribeAlarms hides composite alarms. Source: CloudWatch API Reference, "DescribeAlarms".
"""

TRACE = allow(["xray:PutTraceSegments", "xray:PutTelemetryRecords"], ["*"])
"""X-Ray has no resource ARNs for these two actions. Source: Service Authorization Reference, "AWS X-Ray"."""

VPC_ACCESS = allow(
    [
        "ec2:AssignPrivateIpAddresses",
        "ec2:CreateNetworkInterface",
        "ec2:DeleteNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:UnassignPrivateIpAddresses",
    ],
    ["*"],
)
"""Actions that Lambda performs with the function's role to connect it to a VPC. Source: the managed policy
`AWSLambdaVPCAccessExecutionRole`, whose resource is `*`.
"""

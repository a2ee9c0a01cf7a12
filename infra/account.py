"""What holds for the whole account in the stack's region, read before anything is made.

An account's quotas are known to nobody but AWS. Where they cannot be read, for want of a permission
(`lambda:GetAccountSettings`) or because boto3 finds other credentials than the provider, the program goes on without.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pulumi

from turnout.system.aws_client import make_aws_client

from .naming import Place

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """Lambda's settings of the account in one region.

    Args:
        code_bytes: how much all functions' versions and layers may take.
        code_bytes_used: how much they take.
        concurrency: calls that may run at once.
    """

    code_bytes: int
    code_bytes_used: int
    concurrency: int


def read_account(place: Place) -> AccountSettings | None:
    """The settings, or None where they cannot be read."""

    def ask(session: Any) -> AccountSettings:
        found = make_aws_client("lambda", session=session).get_account_settings()
        limit, usage = found["AccountLimit"], found["AccountUsage"]
        return AccountSettings(limit["TotalCodeSize"], usage["TotalCodeSize"], limit["ConcurrentExecutions"])

    return _ask_account(place, ask)


def read_logs_role(place: Place) -> str | None:
    """Return the role by which API Gateway writes logs, empty where none is set; None where it cannot be read."""

    def ask(session: Any) -> str:
        role: str | None = make_aws_client("apigateway", session=session).get_account().get("cloudwatchRoleArn")
        return role or ""

    return _ask_account(place, ask)


def _ask_account(place: Place, ask: Callable[[Any], Answer]) -> Answer | None:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        session = boto3.Session(profile_name=pulumi.Config("aws").get("profile"), region_name=place.region)
        if make_aws_client("sts", session=session).get_caller_identity()["Account"] != place.account:
            return None
        return ask(session)
    except (BotoCoreError, ClientError, KeyError) as error:
        pulumi.log.debug(f"the account's settings cannot be read: {error}")
        return None

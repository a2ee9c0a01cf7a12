"""What AWS allows the account in the stack's region, read before anything is made.

An account's quotas are known to nobody but AWS. Where they cannot be read, for want of a permission
(`lambda:GetAccountSettings`) or because boto3 finds other credentials than the provider, the program goes on without.
"""

from __future__ import annotations

from dataclasses import dataclass

import pulumi

from .naming import Place


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
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        session = boto3.Session(profile_name=pulumi.Config("aws").get("profile"), region_name=place.region)
        if session.client("sts").get_caller_identity()["Account"] != place.account:
            return None
        found = session.client("lambda").get_account_settings()
        limit, usage = found["AccountLimit"], found["AccountUsage"]
        return AccountSettings(limit["TotalCodeSize"], usage["TotalCodeSize"], limit["ConcurrentExecutions"])
    except (BotoCoreError, ClientError, KeyError) as error:
        pulumi.log.debug(f"Lambda's account settings cannot be read: {error}")
        return None

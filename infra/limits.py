"""Limits of AWS that can be checked only at deployment: sizes of packages, lengths of names that contain the account.

The plan checks what depends on models.yaml alone (turnout/plan/checks/quotas.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import pulumi

from turnout.packaging.build import BuiltPackage
from turnout.plan.checks.quotas import KEPT_VERSIONS, UNRESERVED_CONCURRENCY, UNZIPPED_BYTES, reserved_calls
from turnout.plan.deployment_notes import Outputs
from turnout.plan.guard_alarms import find_routed_guards, group_routed_guards
from turnout.plan.values import Plan
from turnout.protocol.naming import plain_prefix
from turnout.wording import size_text

from .account import AccountSettings
from .naming import Place
from .packages import is_large

_PLAIN_STACK = re.compile(r"[a-z0-9]+")

NAME_CHARACTERS = 64
"""Longest name of a role and of an EventBridge rule."""

BUCKET_CHARACTERS = 63


def check_names(plan: Plan, place: Place, outputs: Outputs | None) -> None:
    """Check that a stack deployed by an older version keeps its names, and with them its addresses.

    Args:
        plan: contains the stack's name.
        place: contains the prefix of the new names.
        outputs: outputs of the last deployment; None if they are unknown.

    Raises:
        pulumi.RunError: every resource would be replaced by one with another name.
    """
    old = plain_prefix(plan.platform, plan.stack)
    functions = (outputs or {}).get("functions") or ()
    if place.prefix == old or not any(name.startswith(f"{old}_") for name in functions):
        return
    platform, _, stack = old.rpartition("-")
    keep = (
        f"To keep them, run `pulumi stack rename {stack}` and set `platform: {platform}` in models.yaml. "
        if _PLAIN_STACK.fullmatch(stack)
        else ""
    )
    raise pulumi.RunError(
        f"the names of this stack start with `{old}`. This release starts them with `{place.prefix}`, which no other "
        f"platform and stack share, and so creates everything again, at other addresses. {keep}To accept that, run "
        "`pulumi config set turnout:new_names true`."
    )


def check_limits(
    plan: Plan,
    place: Place,
    built: Sequence[BuiltPackage],
    *,
    keep_versions: int = KEPT_VERSIONS,
    account: AccountSettings | None = None,
) -> None:
    """Check that AWS accepts what was built, with its names, in this account.

    Args:
        plan: the plan that is deployed.
        place: account, region and prefix of the stack.
        built: the packages.
        keep_versions: how many old versions of each function and layer are kept.
        account: the account's quotas; None if they could not be read.

    Raises:
        pulumi.RunError: AWS would reject something; the message lists all of it.
    """
    problems = [*_too_large(built), *_too_long(plan, place, built), *_elsewhere(plan, place)]
    if account is not None:
        problems += _over_account(plan, built, keep_versions, account)
    if problems:
        raise pulumi.RunError("\n".join(problems))
    sent = sum(package.zip_bytes for package in built)
    if account is not None and account.code_bytes_used + sent > account.code_bytes:
        pulumi.warn(
            f"code storage: {size_text(account.code_bytes_used)} of the account's {size_text(account.code_bytes)} are "
            f"used, and an update of every function adds {size_text(sent)}: delete old versions of other functions, or "
            "ask AWS to raise `Function and layer storage`"
        )


def _over_account(
    plan: Plan, built: Sequence[BuiltPackage], keep_versions: int, account: AccountSettings
) -> Iterator[str]:
    """Check the account's quotas; exceeding one would stop an update in the middle."""
    needed = sum(package.zip_bytes for package in built) * (keep_versions + 2)
    if needed > account.code_bytes:
        yield (
            f"code storage: {size_text(needed)} with {keep_versions} old versions of each function and layer, "
            f"{size_text(account.code_bytes)} allowed: keep large models in S3, lower `turnout:keep_versions`, or ask "
            "AWS to raise `Function and layer storage`"
        )
    reserved = sum(map(reserved_calls, plan.functions))
    allowed = max(0, account.concurrency - UNRESERVED_CONCURRENCY)
    if reserved > allowed:
        yield (
            f"reserved_concurrency: {reserved:,} in all, {allowed:,} allowed ({account.concurrency:,} of the account "
            f"less {UNRESERVED_CONCURRENCY} that AWS keeps; `provisioned` without `reserved_concurrency` counts, too): "
            "reserve less, or ask AWS to raise `Concurrent executions`"
        )


def _elsewhere(plan: Plan, place: Place) -> Iterator[str]:
    """Check that a bucket is in the stack's region, and its encryption key in the bucket's region."""
    for served in plan.versions:
        version = served.version
        region = version.kms_key_arn.split(":")[3] if version.kms_key_arn else place.region
        if region != place.region:
            yield (
                f"models.{version.model}.versions.{version.name}.kms_key_arn: the key is in {region}, "
                f"the stack in {place.region}: use a bucket, and its key, of the stack's region"
            )


def _too_large(built: Sequence[BuiltPackage]) -> Iterator[str]:
    sizes = {package.name: package.unzipped_bytes for package in built}
    for package in built:
        size = package.unzipped_bytes + sizes.get(package.layer, 0)
        if size > UNZIPPED_BYTES:
            yield (
                f"{package.name}: {size_text(size)} unzipped with its layer, {size_text(UNZIPPED_BYTES)} allowed: "
                "take packages out of the transform's `requirements`"
            )


def _guard_rules(plan: Plan, place: Place) -> Iterator[str]:
    """Yield the names of the guard rail's rules."""
    for stage in (stage for api in plan.apis for stage in api.stages):
        if stage.canary:
            yield place.guard_rail_rule(stage.name)
        for group, _ in enumerate(group_routed_guards(find_routed_guards(plan, stage)), start=1):
            yield place.guard_rail_routed(stage.name, group)


def _too_long(plan: Plan, place: Place, built: Sequence[BuiltPackage]) -> Iterator[str]:
    names = {place.integration_role: NAME_CHARACTERS, place.logs_role: NAME_CHARACTERS}
    names |= dict.fromkeys(map(place.guard_rail_check, _guard_rules(plan, place)), NAME_CHARACTERS)
    if plan.is_asynchronous:
        names |= {place.requests: NAME_CHARACTERS, place.requests_bucket: BUCKET_CHARACTERS}
    if any(is_large(package) or package.stored for package in built):
        names[place.bucket] = BUCKET_CHARACTERS
    for name, allowed in names.items():
        if len(name) > allowed:
            yield f"`{name}`: {len(name)} characters, {allowed} allowed: shorten `platform` or the stack's name"

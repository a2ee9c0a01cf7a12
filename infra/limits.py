"""Limits of AWS that can be known only now: sizes of what was built, lengths of names with the account in them.

Comes in: what is about to be deployed. Goes out: nothing, or a `RunError` with all that AWS would refuse. Called by the
program before the first resource. What depends on models.yaml alone is the plan's affair (turnout/quotas.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pulumi

from turnout.packaging.build import BuiltPackage
from turnout.plan import Plan
from turnout.quotas import UNZIPPED_BYTES
from turnout.sizes import size_text

from .naming import Place
from .packages import is_large

NAME_CHARACTERS = 64
"""Of roles and of EventBridge's rules."""

BUCKET_CHARACTERS = 63


def check_limits(plan: Plan, place: Place, built: Sequence[BuiltPackage]) -> None:
    """That AWS takes what was built, under the names that it gets.

    Raises:
        pulumi.RunError: it would not; the message says all of it.
    """
    found = [*_too_large(built), *_too_long(plan, place, built)]
    if found:
        raise pulumi.RunError("\n".join(found))


def _too_large(built: Sequence[BuiltPackage]) -> Iterator[str]:
    sizes = {package.name: package.unzipped_bytes for package in built}
    for package in built:
        size = package.unzipped_bytes + sizes.get(package.layer, 0)
        if size > UNZIPPED_BYTES:
            yield (
                f"{package.name}: {size_text(size)} unzipped with its layer, {size_text(UNZIPPED_BYTES)} allowed: "
                "take packages out of the transform's `requirements`"
            )


def _too_long(plan: Plan, place: Place, built: Sequence[BuiltPackage]) -> Iterator[str]:
    names = {place.integration_role: NAME_CHARACTERS, place.logs_role: NAME_CHARACTERS}
    names |= {
        place.guard_rail_rule(stage.name): NAME_CHARACTERS for api in plan.apis for stage in api.stages if stage.canary
    }
    if any(is_large(package) or package.stored for package in built):
        names[place.bucket] = BUCKET_CHARACTERS
    for name, allowed in names.items():
        if len(name) > allowed:
            yield f"`{name}`: {len(name)} characters, {allowed} allowed: shorten `platform` or the stack's name"

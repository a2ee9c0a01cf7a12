"""Finds the differences of two plans of a project, for callers, traffic, quotas, cost and cold starts. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from turnout.manifest.parser import Domain, Manifest, Stage, Version
from turnout.plan.budget import REST, compare_costs, describe_difference, export_costs
from turnout.plan.checks.compatibility import check_drop_in
from turnout.plan.checks.quotas import find_tightest
from turnout.plan.costs import Costs
from turnout.plan.values import Api, Plan, Quota, ServedVersion, StagePlan
from turnout.wording import listed, size_text

BREAKING, CONTRACT, TRAFFIC, QUOTA, COST, COLD_START = "breaking", "contract", "traffic", "quota", "cost", "cold-start"
DISAGREEMENT, AGREEMENT, MEASURED = "disagreement", "agreement", "measured"

KINDS = (BREAKING, DISAGREEMENT, CONTRACT, TRAFFIC, AGREEMENT, QUOTA, COST, COLD_START, MEASURED)
"""Kinds of changes, in the order in which they are shown."""

NEAR = 0.8
"""The share of a quota from which a growing use is reported."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change.

    Args:
        kind: one of `KINDS`. `contract` is a change that requires no action of callers.
        subject: the changed object: `prod`, `prod: iris`, `iris v2`.
        text: the change, a phrase.
    """

    kind: str
    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class Reviewed:
    """One side: a project's plan with its manifest and its cost."""

    manifest: Manifest
    plan: Plan
    costs: Costs


def find_changes(before: Reviewed, after: Reviewed) -> tuple[Change, ...]:
    """Return everything that changes, sorted by kind, in the order of the file."""
    changes = [
        *_of_stages(before, after),
        *_of_versions(before.plan, after.plan),
        *_of_domain(before.manifest, after.manifest),
        *_of_quotas(before.plan, after.plan),
        *_of_costs(before.costs, after.costs),
    ]
    return tuple(sorted(dict.fromkeys(changes), key=lambda change: KINDS.index(change.kind)))


def _of_stages(before: Reviewed, after: Reviewed) -> Iterator[Change]:
    old, new = (
        {stage.name: (api, stage) for api in side.plan.apis for stage in api.stages} for side in (before, after)
    )
    for name in dict.fromkeys((*old, *new)):
        if name not in new:
            yield Change(BREAKING, name, "the stage is removed")
        elif name not in old:
            yield Change(CONTRACT, name, "a new stage")
        else:
            yield from _of_stage(*old[name], *new[name], after.manifest.domain)
            yield from _of_traffic(before.manifest.stage(name), after.manifest.stage(name), before.plan, after.plan)


def _of_stage(old_api: Api, old: StagePlan, new_api: Api, new: StagePlan, domain: Domain | None) -> Iterator[Change]:
    """Yield the changes that callers of a stage see, besides its versions."""
    name = old.name
    if old.auth != new.auth:
        yield Change(BREAKING, name, f"`auth` changes from {old.auth} to {new.auth}")
    elif old.jwt != new.jwt:
        yield Change(BREAKING, name, "takes tokens of another issuer or audience")
    if old_api.name != new_api.name:
        stays = "one at a domain stays"
        if domain is not None and domain.base_path:
            stays = f"{domain.path_of(name)} at {domain.name} is missing for some seconds (see `base_path`)"
        yield Change(BREAKING, name, f"moves to another API: its address at execute-api changes, {stays}")
    gone = [
        f"{method} {path}" for method, path in _routes(old_api) if (method, path) not in dict.fromkeys(_routes(new_api))
    ]
    if gone:
        more = f" and {len(gone) - 3} more" if len(gone) > 3 else ""
        yield Change(BREAKING, name, f"{', '.join(gone[:3])}{more} no longer exist")
    if old.version_override and not new.version_override:
        yield Change(BREAKING, name, "callers may no longer choose the version")
    if old.cors != new.cors:
        kind = CONTRACT if old.cors is None else BREAKING
        yield Change(kind, name, "`cors` changes: check the origins of your web pages")
    yield from _of_consumers(old, new)
    if old.throttle != new.throttle:
        yield Change(TRAFFIC, name, f"the throttle changes from {_throttle(old)} to {_throttle(new)}")


def _of_consumers(old: StagePlan, new: StagePlan) -> Iterator[Change]:
    callers = {consumer.name: consumer for consumer in new.consumers}
    for consumer in old.consumers:
        if consumer.name not in callers:
            yield Change(BREAKING, old.name, f"the consumer {consumer.name} is removed")
        elif callers[consumer.name] != consumer:
            yield Change(TRAFFIC, old.name, f"the consumer {consumer.name} has changed rules")


def _routes(api: Api) -> Iterator[tuple[str, str]]:
    return ((route.method, route.path) for route in api.routes)


def _throttle(stage: StagePlan) -> str:
    return f"{stage.throttle.rate:g}/s, burst {stage.throttle.burst}" if stage.throttle else "none"


def _of_traffic(old: Stage, new: Stage, before: Plan, after: Plan) -> Iterator[Change]:
    """Yield changes of the versions that answer, and whether each can replace the previous ones."""
    signatures = {side: _by_version(plan) for side, plan in (("old", before), ("new", after))}
    for model in dict.fromkeys((*old.serve, *old.weights)):
        served, serving = _served(old, model), _served(new, model)
        subject = f"{old.name}: {model}"
        if served == serving:
            continue
        if not serving:
            yield Change(BREAKING, subject, "is no longer served")
            continue
        yield Change(TRAFFIC, subject, f"{_shares(served)} becomes {_shares(serving)}")
        yield from _of_contract(model, subject, served, serving, signatures)
    for model in dict.fromkeys((*new.serve, *new.weights)):
        if not _served(old, model):
            yield Change(CONTRACT, f"{new.name}: {model}", f"is served now: {_shares(_served(new, model))}")
    if _canary(old) != _canary(new):
        yield Change(TRAFFIC, new.name, f"the canary changes from {_canary(old)} to {_canary(new)}")
    if new.canary is not None:
        for model, version in new.canary.serve.items():
            served = _served(new, model)
            tested = {version: 100.0}
            if old.canary is None or old.canary.serve.get(model) != version:
                yield from _of_contract(model, f"{new.name}: {model} (canary)", served, tested, signatures)


def _of_contract(
    model: str,
    subject: str,
    served: Mapping[str, float],
    serving: Mapping[str, float],
    signatures: Mapping[str, Mapping[tuple[str, str], ServedVersion]],
) -> Iterator[Change]:
    for version in serving:
        for former in served:
            old = signatures["old"].get((model, former)) or signatures["new"].get((model, former))
            new = signatures["new"].get((model, version))
            if old is None or new is None or former == version:
                continue
            if not old.signature.inputs or not new.signature.inputs:
                yield Change(CONTRACT, subject, f"{version} instead of {former}: the tensors are not known here")
                continue
            reasons = check_drop_in(old.signature, new.signature)
            if reasons:
                yield Change(BREAKING, subject, f"{version} cannot replace {former}: {'; '.join(reasons)}")
            else:
                yield Change(CONTRACT, subject, f"{version} takes and returns what {former} does")


def _of_versions(before: Plan, after: Plan) -> Iterator[Change]:
    """Yield versions that are added or removed, whose file changes, or that start more slowly."""
    old, new = _by_version(before), _by_version(after)
    for key in dict.fromkeys((*old, *new)):
        name = " ".join(key)
        if key not in old:
            yield Change(CONTRACT, name, f"a new version, {size_text(new[key].size_bytes)}")
        elif key in new:
            yield from _of_version(name, old[key], new[key])


def _of_version(name: str, old: ServedVersion, new: ServedVersion) -> Iterator[Change]:
    if old.sha256 != new.sha256:
        yield Change(BREAKING, name, "its model file changes under the same name: a changed model is a new version")
    reasons = check_drop_in(old.signature, new.signature) if old.signature.inputs and new.signature.inputs else ()
    if reasons:
        yield Change(BREAKING, name, "; ".join(reasons))
    for what, former, later in _starts(old.version, new.version):
        if former != later:
            yield Change(COLD_START, name, f"{what} changes from {former} to {later}")


def _starts(old: Version, new: Version) -> Iterator[tuple[str, object, object]]:
    """Return the values that a cold start depends on."""
    yield "memory", f"{old.memory_mb:,} MB", f"{new.memory_mb:,} MB"
    yield "`provisioned`", old.warm.provisioned, new.warm.provisioned
    yield "`snap_start`", str(old.warm.snap_start).lower(), str(new.warm.snap_start).lower()
    yield "architecture", old.architecture, new.architecture
    yield "`requirements`", listed(old.requirements) or "none", listed(new.requirements) or "none"


def _of_domain(before: Manifest, after: Manifest) -> Iterator[Change]:
    old, new = before.domain, after.domain
    if old == new:
        return
    if old is None or new is None:
        kind = BREAKING if new is None else CONTRACT
        yield Change(kind, "domain", "is removed" if new is None else f"every stage is also available at {new.name}")
        return
    if (old.name, old.base_path) != (new.name, new.base_path):
        yield Change(BREAKING, "domain", "every address changes")
    if new.disable_execute_api and not old.disable_execute_api:
        yield Change(BREAKING, "domain", "the addresses at execute-api stop working")


def _of_quotas(before: Plan, after: Plan) -> Iterator[Change]:
    """Yield quotas that are nearly used up and whose use grows."""
    shares = {(quota.name, quota.subject): quota.share for quota in before.quotas}
    fullest: dict[int, Quota] = {id(quota): quota for quota in find_tightest(after.quotas)}
    for quota in fullest.values():
        former = shares.get((quota.name, quota.subject), 0.0)
        if quota.share >= NEAR and quota.share > former:
            yield Change(QUOTA, quota.subject, f"{quota.name}: {quota.share:.0%} used, {former:.0%} before")


def _of_costs(before: Costs, after: Costs) -> Iterator[Change]:
    for difference in compare_costs(after, {"costs": export_costs(before)}) or ():
        if difference.name != REST and difference.deployed is None:
            continue  # a new version has no cost before its calls
        if round(difference.dollars, 2) or (difference.name != REST and difference.planned is None):
            name = difference.name if difference.name == REST else f"a million calls of {difference.name}"
            yield Change(COST, name, describe_difference(difference).replace(" than deployed", ""))


def _by_version(plan: Plan) -> dict[tuple[str, str], ServedVersion]:
    return {(served.version.model, served.version.name): served for served in plan.versions}


def _served(stage: Stage, model: str) -> Mapping[str, float]:
    """Return the versions that answer a model's calls in a stage, each with its percentage."""
    if model in stage.weights:
        return {version: share for version, share in stage.weights[model].items() if share}
    return {stage.serve[model]: 100.0} if model in stage.serve else {}


def _shares(served: Mapping[str, float]) -> str:
    if len(served) == 1:
        return next(iter(served))
    return ", ".join(f"{version} {share:g}%" for version, share in served.items())


def _canary(stage: Stage) -> str:
    if stage.canary is None:
        return "none"
    models = listed(f"{model} {version}" for model, version in stage.canary.serve.items())
    release = "the new release" if stage.canary.release else ""
    return f"{stage.canary.percent:g}% to {' and '.join(filter(None, (models, release)))}"

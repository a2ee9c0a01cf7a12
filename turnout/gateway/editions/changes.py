"""Compares two editions, and carries the control state over a reload."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from turnout.gateway.editions.edition import Edition
from turnout.gateway.functions.invocation import title_of
from turnout.gateway.rules.stages import StageSettings
from turnout.gateway.shared.state import ControlState

MOST_SHOWN = 8
"""Most changes that are named; more are counted."""


def describe_changes(before: Edition, after: Edition) -> str:
    """Return `iris v1 changed, stage prod changed`; empty if nothing changed that matters to users."""
    changes = [*_functions(before, after), *_stages(before, after)]
    if not changes and (before.apis != after.apis or before.keys != after.keys):
        changes = ["descriptions and examples"]
    if len(changes) > MOST_SHOWN:
        changes = [*changes[:MOST_SHOWN], f"{len(changes) - MOST_SHOWN} more changes"]
    return ", ".join(changes)


def _functions(before: Edition, after: Edition) -> Iterator[str]:
    old = {function.name: function for function in before.plan.unpooled_functions}
    new = {function.name: function for function in after.plan.unpooled_functions}
    for name in [*new, *(name for name in old if name not in new)]:
        function = new.get(name) or old[name]
        title = title_of(function)
        fingerprints = [edition.fingerprints.get(name) for edition in (before, after)]
        digests = [fingerprint.digest if fingerprint is not None else "" for fingerprint in fingerprints]
        if name not in old:
            yield f"{title} is new"
        elif name not in new:
            yield f"{title} was removed"
        elif digests[0] != digests[1] or old[name] != new[name]:
            yield f"{title} changed"


def _stages(before: Edition, after: Edition) -> Iterator[str]:
    old, new = _planned(before), _planned(after)
    for name in [*new, *(name for name in old if name not in new)]:
        if name not in old:
            yield f"stage {name} is new"
        elif name not in new:
            yield f"stage {name} was removed"
        elif not _is_same(old[name], new[name]) or before.api_keys.get(name) != after.api_keys.get(name):
            yield f"stage {name} changed"


def carry_over(state: ControlState, before: Edition, after: Edition) -> ControlState:
    """Return the control state under a new edition.

    A stage whose plan did not change keeps the control plane's settings.

    Args:
        state: the current state.
        before: the edition that it belongs to.
        after: the next edition.
    """
    live = {stage.name: stage for stage in state.stages}
    old, new = _planned(before), _planned(after)
    stages = []
    for name, planned in new.items():
        is_kept = name in live and name in old and _is_same(old[name], planned)
        stages.append(_moved(live[name], old[name], planned) if is_kept else planned)
    known = before.api_keys
    keys = {
        name: state.api_keys[name] if name in state.api_keys and known.get(name) == planned else planned
        for name, planned in after.api_keys.items()
    }
    apis = {api.id for api in after.apis}
    deployments = tuple(deployment for deployment in state.deployments if deployment.api in apis)
    return replace(state, stages=tuple(stages), api_keys=keys, deployments=deployments)


def _planned(edition: Edition) -> dict[str, StageSettings]:
    return {stage.name: stage for api in edition.apis for stage in api.stages}


def _is_same(one: StageSettings, other: StageSettings) -> bool:
    """Whether two plans of a stage are the same, regardless of the document's digest."""

    def wanted(stage: StageSettings) -> object:
        canary = stage.canary and (stage.canary.percent, stage.canary.overrides)
        return stage.variables, canary, stage.throttle

    return wanted(one) == wanted(other)


def _moved(live: StageSettings, old: StageSettings, new: StageSettings) -> StageSettings:
    """Return a stage unchanged, on the new document."""

    def moved(deployment_id: str) -> str:
        return new.deployment_id if deployment_id == old.deployment_id else deployment_id

    canary = live.canary and replace(live.canary, deployment_id=moved(live.canary.deployment_id))
    return replace(live, api=new.api, deployment_id=moved(live.deployment_id), canary=canary)

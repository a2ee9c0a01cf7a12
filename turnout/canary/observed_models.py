"""Determines the observation of each model with a canary, and its start, and names its checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from turnout.canary.judging.checks import Check
from turnout.canary.rollout.action import WATCHING
from turnout.canary.rollout.log import RETURN, Rollout
from turnout.manifest.parser import Stage
from turnout.plan.served_by import Watched, watched_of, watched_routed
from turnout.plan.values import Plan


def watch_models(
    plan: Plan,
    stage: Stage,
    variables: Mapping[str, str],
    overrides: Mapping[str, str] | None,
    tables: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, tuple[Watched, ...]]:
    """Return what to observe for each canary, by model; a release is observed as a whole, under an empty name.

    Args:
        plan: names the functions.
        stage: as the manifest has it.
        variables: the stage's own.
        overrides: overrides of its canary; None if it has none.
        tables: the tables that they name.
    """
    routed: dict[str, tuple[Watched, ...]] = {model: (watched_routed(plan, stage, model),) for model in stage.routed}
    if stage.canary is None or overrides is None:
        return routed
    split = watched_of(plan, variables, overrides, tables)
    if stage.canary.release:
        return {"": split, **routed}
    return {**{pair.model: (pair,) for pair in split if pair.model not in routed}, **routed}


def find_start(rollouts: Sequence[Rollout], model: str, *, is_routed: bool) -> Rollout | None:
    """Return the rollout since which a model's canary has its share: its start or the last change of its share.

    If the canary was started manually, return the end of the previous one.

    Args:
        rollouts: of the stage, the oldest first.
        model: name of the model; empty for a release.
        is_routed: whether its router splits the traffic.
    """
    for rollout in reversed(rollouts):
        is_started = rollout.action in WATCHING and (model in rollout.routed) == is_routed
        if model in rollout.after and (is_started or rollout.action not in WATCHING):
            return rollout
        if not model and rollout.is_of(""):
            return rollout
    return None


def records_of(rollouts: Sequence[Rollout], model: str) -> tuple[Rollout, ...]:
    """Return the rollouts of a model's routed canary; without a model, all that may change the stage's own canary.

    The latter do not include runs of routed canaries.
    """
    if model:
        return tuple(rollout for rollout in rollouts if rollout.is_of(model))
    own = (rollout for rollout in rollouts if rollout.action != RETURN)
    return tuple(rollout if rollout.is_of("") else replace(rollout, run={}) for rollout in own)


def name_checks(judged: Mapping[str, tuple[Check, ...]]) -> tuple[Check, ...]:
    """Return all checks; if there are several models, each check has its model's name."""
    if len(judged) == 1:
        return next(iter(judged.values()))
    return tuple(
        check if not model or check.name.endswith(f" of {model}") else replace(check, name=f"{check.name} of {model}")
        for model, checks in judged.items()
        for check in checks
    )

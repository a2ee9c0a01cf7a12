"""Finds the canaries of a stage: its own, which several models can share, and the routed ones of single models.

API Gateway has one canary per stage, with one percentage. A routed canary does not use it: the model's router splits
its requests by weights.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from turnout.manifest.parser import Canary, Manifest, Stage
from turnout.protocol.routing.choice import spell_route
from turnout.wording import did_you_mean, listed
from turnout.yaml_text.editor import EditError

DEFAULT_PERCENT = 10.0
"""The share of a canary that is started without a share."""


@dataclass(frozen=True, slots=True)
class Placement:
    """The place of a new canary.

    Args:
        percent: its share.
        is_routed: whether the model's router splits the traffic; else it is, or joins, the stage's canary.
        reason: why it is routed although this was not requested, a sentence; else empty.
    """

    percent: float
    is_routed: bool = False
    reason: str = ""


def place_canary(stage: Stage, percent: float | None, *, release: bool = False, routed: bool = False) -> Placement:
    """Return the place of a new canary: with an equal share it joins an existing canary, else it is routed.

    Args:
        stage: as it is.
        percent: the requested share, or None.
        release: whether the share also gets new code and routes, which only the stage's own canary can provide.
        routed: whether a routed canary is requested.
    """
    canary = stage.canary
    share = DEFAULT_PERCENT if percent is None else percent
    if release or routed or canary is None:
        return Placement(share, is_routed=routed and not release)
    if canary.release:
        return Placement(share, is_routed=True, reason=f"no model can join the release canary of {stage.name}")
    if percent is None or percent == canary.percent:
        return Placement(canary.percent)
    reason = f"{describe_canary(canary)} are {stage.name}'s canary, and API Gateway has one percentage for a stage"
    return Placement(percent, is_routed=True, reason=reason)


def choose_models(stage: Stage, models: Collection[str]) -> tuple[str, ...]:
    """Return the models of a command: the given ones, else those of the stage's canary, or the only routed one.

    Return none for a canary that is only a release.

    Raises:
        EditError: the stage has no canary, none of a given model, or several routed ones and no model is given.
    """
    canary, own = stage.canary, stage.canary.serve if stage.canary else {}
    if canary is None and not stage.routed:
        hint = f"Start one: turnout canary start {stage.name} --model MODEL --to VERSION --percent 10"
        raise EditError(f"{stage.name} has no canary", hint)
    known = (*own, *stage.routed)
    for model in models:
        if model not in known:
            if not stage.routed and canary is not None:
                message = f"the canary of {stage.name} does not serve {model}{did_you_mean(model, own)}"
                raise EditError(message, f"Its canary: {describe_canary(canary)}.")
            message = f"{stage.name} has no canary of {model}{did_you_mean(model, known)}"
            raise EditError(message, f"Its canaries: {describe_canaries(stage)}.")
    if models:
        return tuple(dict.fromkeys(models))
    if canary is not None:
        return tuple(own)
    if len(stage.routed) > 1:
        message = f"{stage.name} has several routed canaries: {describe_canaries(stage)}"
        raise EditError(message, f"Name one: --model {next(iter(stage.routed))}")
    return tuple(stage.routed)


def version_of(stage: Stage, model: str) -> str:
    """Return the version that the canary of a model serves."""
    if model in stage.routed:
        return stage.routed[model].version
    assert stage.canary is not None  # `choose_models` has refused a stage without one
    return stage.canary.serve[model]


def served_text(stage: Stage, model: str) -> str:
    """The version that a stage's baseline serves of a model: `v1`, or `v1.90,v2.10` where it has weights."""
    if model in stage.routed:
        stage = stage.with_canary_of(model)
    weights = stage.weights.get(model)
    if weights is None:
        return stage.serve[model]
    served = [version for version, share in weights.items() if share]
    return served[0] if len(served) == 1 else spell_route(weights)


def views_of(stage: Stage) -> dict[str, Stage]:
    """Return a view of the stage with only one canary, for each of them: by model, with an empty name for its own."""
    views = {"": stage} if stage.canary is not None else {}
    return {**views, **{model: stage.with_canary_of(model) for model in stage.routed}}


def view_of(stage: Stage, model: str) -> tuple[str, Stage]:
    """Return the view of a chosen canary, and the name of its model if it is routed.

    Raises:
        EditError: there is none, the choice is ambiguous, or the model shares the stage's canary with others.
    """
    chosen = choose_models(stage, [model] if model else [])
    if len(chosen) == 1 and chosen[0] in stage.routed:
        return chosen[0], stage.with_canary_of(chosen[0])
    assert stage.canary is not None  # `choose_models` has refused a stage without one
    if model and len(stage.canary.serve) > 1:
        message = f"{model} shares the canary of {stage.name}: {describe_canary(stage.canary)}"
        hint = f"Omit --model, or give it a share of its own: `turnout canary set {stage.name} --model {model}`."
        raise EditError(message, hint)
    return "", stage


def find_stage(manifest: Manifest, name: str) -> Stage:
    """The stage of that name; an EditError that lists the known ones where there is none."""
    for stage in manifest.stages:
        if stage.name == name:
            return stage
    names = [stage.name for stage in manifest.stages]
    raise EditError(f"unknown stage {name}{did_you_mean(name, names)}", f"Known stages: {listed(names)}.")


def find_canary(manifest: Manifest, stage: str, model: str = "") -> Canary:
    """Return the stage's canary or a model's routed one.

    Raise an EditError if the stage or the canary does not exist.
    """
    _, view = view_of(find_stage(manifest, stage), model)
    assert view.canary is not None  # as every view
    return view.canary


def describe_canary(canary: Canary) -> str:
    """Return `10% of requests to iris v2, digits v2 and the new release`."""
    seen = listed(f"{model} {version}" for model, version in canary.serve.items())
    release = "the new release" if canary.release else ""
    return f"{canary.percent:g}% of requests to {' and '.join(filter(None, (seen, release)))}"


def describe_canaries(stage: Stage) -> str:
    """Return each canary of a stage: `10% of requests to iris v2; 25% of requests to digits v2`."""
    return "; ".join(describe_canary(view.canary) for view in views_of(stage).values() if view.canary)

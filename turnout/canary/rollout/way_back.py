"""Undoes a promotion: returns to what a stage served before, as recorded in rollouts.jsonl."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from turnout.canary.rollout.action import Action
from turnout.canary.rollout.log import RETURN, Rollout
from turnout.canary.rollout.stage_canaries import served_text
from turnout.manifest.values import Stage
from turnout.wording import listed
from turnout.yaml_text.editor import EditError


def find_promotion(rollouts: Iterable[Rollout], models: Collection[str] = ()) -> Rollout | None:
    """The latest promotion of a stage that was not returned from; None where there is none.

    Args:
        rollouts: of the stage, the oldest first.
        models: models that the promotion must have moved; it is limited to them.
    """
    open_promotions: list[Rollout] = []
    for rollout in rollouts:
        if models and not set(models) <= rollout.after.keys():
            continue
        if rollout.action == "promote":
            open_promotions.append(rollout)
        elif rollout.action == RETURN and open_promotions:
            open_promotions.pop()
    if not open_promotions:
        return None
    last = open_promotions[-1]
    if not models:
        return last
    before, after = ({model: moved[model] for model in models} for moved in (last.before, last.after))
    return replace(last, before=before, after=after)


def make_return(stage: Stage, rollouts: Iterable[Rollout], models: Collection[str] = ()) -> Action:
    """Return the action that restores what a stage, or these models in it, served before their latest promotion.

    Raises:
        EditError: there is no promotion to undo, one of its models has a canary, or the stage has changed since.
    """
    promotion = find_promotion(rollouts, models)
    if stage.canary is not None and (promotion is None or stage.canary.release):
        hint = f"End it first: `turnout canary rollback {stage.name}`."
        raise EditError(f"{stage.name} has a canary: --to-previous only undoes a promotion", hint)
    if promotion is None:
        of = f"{listed(models)} on {stage.name}" if models else stage.name
        raise EditError(f"rollouts.jsonl has no promotion of {of} to undo")
    for model in promotion.after:
        if model in stage.routed or (stage.canary is not None and model in stage.canary.serve):
            hint = f"End it first: `turnout canary rollback {stage.name} --model {model}`."
            raise EditError(f"{model} has a canary on {stage.name}: --to-previous only undoes a promotion", hint)
    if not promotion.after:
        message = (
            f"the promotion of {promotion.time} released code and routes: models.yaml serves the same "
            "versions as before"
        )
        raise EditError(message, "Check out the earlier code and deploy it with `pulumi up`.")
    for model, version in promotion.after.items():
        if not _serves_only(stage, model, version):
            serves = served_text(stage, model) if model in stage.serve or model in stage.weights else "nothing"
            message = f"{stage.name} serves {model} {serves}, not the {version} that was promoted {promotion.time}"
            raise EditError(message, f"Edit models.yaml: before the promotion it served {describe(promotion)}.")
    return Action(RETURN, stage.name, dict(promotion.before))


def describe(promotion: Rollout) -> str:
    """Return the versions served before a promotion: `iris v1, digits v2`."""
    return listed(f"{model} {served}" for model, served in promotion.before.items())


def offer_of(stage: Stage, rollouts: Iterable[Rollout]) -> str:
    """Return the command that undoes the latest promotion of a stage; empty if it cannot be undone."""
    rollouts = tuple(rollouts)
    promotion = find_promotion(rollouts)
    try:
        make_return(stage, rollouts)
    except EditError:
        return ""
    if promotion is None:
        return ""
    command = f"turnout canary rollback {stage.name} --to-previous"
    if promotion.endpoint_url:
        return f"{command} --now --url {promotion.endpoint_url}"
    return f"{command} --now --stack {promotion.stack}" if promotion.stack else command


def _serves_only(stage: Stage, model: str, version: str) -> bool:
    """Whether a stage sends all of a model's calls to one version."""
    weights = stage.weights.get(model)
    if weights is None:
        return stage.serve.get(model) == version
    return {name for name, share in weights.items() if share} == {version}

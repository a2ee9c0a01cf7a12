"""Describes a rollout in one sentence."""

from __future__ import annotations

from turnout.canary.rollout.log import Rollout


def sentence_of(rollout: Rollout) -> str:
    """Return the sentence: `Started canary on prod: iris v2 gets 10% of requests (baseline v1).`."""
    after = [f"{model} {version}" for model, version in rollout.after.items()] + ["the new release"] * rollout.release
    before = [f"{model} {version}" for model, version in rollout.before.items()]
    before += ["the release before"] * rollout.release
    new, old = " and ".join(after), " and ".join(before)
    share = f"{new} {'gets' if len(after) == 1 else 'get'} {rollout.percent:g}% of requests"
    is_routed = bool(rollout.routed) and set(rollout.routed) == rollout.after.keys() and not rollout.release
    canary = "routed canary" if is_routed else "canary"
    if is_routed and len(after) == 1:
        share += f" to {rollout.routed[0]}"
    baseline = ", ".join(rollout.before.values()) or "as deployed"
    match rollout.action:
        case "promote":
            return f"Promoted: {rollout.stage} serves {new} to all requests."
        case "return":
            return f"Rolled back: {rollout.stage} serves {new} to all requests, instead of {old}."
        case "rollback":
            return f"Rolled back: {rollout.stage} serves {old} to all requests."
        case "set":
            return f"Updated {canary} on {rollout.stage}: {share} (baseline {baseline})."
        case _:
            return f"Started {canary} on {rollout.stage}: {share} (baseline {baseline})."

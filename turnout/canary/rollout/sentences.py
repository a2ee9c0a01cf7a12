"""What a rollout did, as one sentence for people."""

from __future__ import annotations

from turnout.canary.rollout.log import Rollout


def sentence_of(row: Rollout) -> str:
    """What a rollout did: `Started canary on prod: iris v2 gets 10% of requests (baseline v1).`."""
    after = [f"{model} {version}" for model, version in row.after.items()] + ["the new release"] * row.release
    before = [f"{model} {version}" for model, version in row.before.items()] + ["the release before"] * row.release
    new, old = " and ".join(after), " and ".join(before)
    gets = "gets" if len(after) == 1 else "get"
    baseline = ", ".join(row.before.values()) or "as deployed"
    match row.action:
        case "promote":
            return f"Promoted: {row.stage} serves {new} to all requests."
        case "return":
            return f"Rolled back: {row.stage} serves {new} to all requests, instead of {old}."
        case "rollback":
            return f"Rolled back: {row.stage} serves {old} to all requests."
        case "set":
            return f"Updated canary on {row.stage}: {new} {gets} {row.percent:g}% of requests (baseline {baseline})."
        case _:
            return f"Started canary on {row.stage}: {new} {gets} {row.percent:g}% of requests (baseline {baseline})."

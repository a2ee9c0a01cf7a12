"""A canary's run in words: its steps and bake time as users write them, what it will do, and how it ended."""

from __future__ import annotations

import re
from itertools import pairwise

from turnout.canary.judging.checks import shares_of
from turnout.canary.judging.states import Phase, State
from turnout.manifest.judgement import Judgement

LOCAL_INTERVAL_S = 2.0
AWS_INTERVAL_S = 30.0
"""CloudWatch counts whole minutes."""

LOOKS_PER_BAKE = 10
SHORTEST_INTERVAL_S = 0.2
UNITS_MINUTES = {"s": 1 / 60, "m": 1.0, "h": 60.0}

_PERCENT = re.compile(r"[0-9]+(?:\.[0-9]+)?")


def find_percent(text: str) -> float | None:
    """Return the share in a text; None if it contains none.

    `float()` would also accept `5_0`, `nan` and digits of other scripts, which are probably mistakes in a share.
    """
    percent = float(text) if _PERCENT.fullmatch(text) else None
    return None if percent is None or percent > 100 else percent


def parse_steps(text: str) -> tuple[float, ...] | None:
    """Parse steps such as `5,25,50`, increasing; None for an empty text.

    Raises:
        ValueError: the text has another format.
    """
    if not text:
        return None
    percents = [find_percent(part.strip()) for part in text.split(",")]
    steps = tuple(step for step in percents if step)
    is_rising = all(low < high for low, high in pairwise(steps))
    if not is_rising or len(steps) < len(percents) or steps == (100.0,):
        raise ValueError(f"must be increasing percentages such as 5,25,50, not {text!r}")
    return steps


def parse_bake(text: str) -> float | None:
    """Return minutes; None for an empty text.

    Raises:
        ValueError: the text is not a duration.
    """
    if not text:
        return None
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smh])", text)
    if not match:
        raise ValueError(f"must be a number with s, m or h, such as 90s or 10m, not {text!r}")
    return float(match[1]) * UNITS_MINUTES[match[2]]


def interval_of(judgement: Judgement, *, is_local: bool) -> float:
    """Return the seconds between two ticks of a run."""
    longest_s = LOCAL_INTERVAL_S if is_local else AWS_INTERVAL_S
    return max(SHORTEST_INTERVAL_S, min(longest_s, judgement.bake_minutes * 60 / LOOKS_PER_BAKE))


def plan_text(judgement: Judgement, percent: float) -> str:
    """Return `5%, 25%, 50%; at least 10 minutes per step; judged with 95% confidence.`.

    Args:
        judgement: the run's own judgement.
        percent: the canary's share, for a judgement without steps.
    """
    shares = ", ".join(f"{share:g}%" for share in shares_of(judgement) or (percent,))
    confidence = f"judged with {100 * judgement.confidence:g}% confidence"
    return f"{shares}; at least {duration_text(judgement.bake_minutes)} per step; {confidence}."


def duration_text(minutes: float) -> str:
    """Return `10 minutes`, `90 seconds`."""
    return f"{minutes:g} minutes" if minutes >= 2 else f"{minutes * 60:g} seconds"


def ending_of(state: State, stage: str) -> str:
    """Describe how a run ended, and the next command."""
    match state.phase:
        case Phase.PROMOTED:
            return f"Promoted: {stage} serves it to all requests."
        case Phase.ROLLED_BACK:
            return f"Rolled back: {state.reason}."
        case Phase.PAUSED:
            then = f"`auto_rollback` is off. End the canary with `turnout canary rollback {stage}`."
            return f"Failed, stopped at {state.percent:g}%: {state.reason}.\n{then}"
    then = (
        f"Decide with `turnout canary promote {stage}` or `turnout canary rollback {stage}`, or run again "
        "with a longer --bake."
    )
    return f"Stopped at {state.percent:g}%: inconclusive. {state.reason}.\n{then}"

"""The states of a canary's run, and the transitions between them.

Pure functions: a tick changes nothing, and a stored state continues as if it had not been stored.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from turnout.canary.judging.checks import Check, Verdict, judge, shares_of, verdict_of
from turnout.canary.judging.observed import AgreementCounts, Arm, Observation
from turnout.manifest.judgement import Judgement

__all__ = [
    "MOST_BAKES",
    "TERMINAL",
    "AgreementCounts",
    "Arm",
    "Check",
    "Observation",
    "Phase",
    "State",
    "Verdict",
    "judge",
    "start",
    "step",
    "verdict_of",
]

MOST_BAKES = 3
"""An undecided step is watched for this number of bake times; then the canary keeps its share."""


class Phase(StrEnum):
    """The phases of a run."""

    BAKING = "baking"  # the canary has its share and is watched at least for the bake time
    WAITING = "waiting"  # the bake time is over and the checks are undecided
    PROMOTED = "promoted"  # every step was successful: all traffic goes to the new versions
    ROLLED_BACK = "rolled_back"  # a check failed: no traffic goes to the new versions
    PAUSED = "paused"  # a check failed and `auto_rollback` is off: the canary keeps its share until a user decides
    LEFT = "left"  # the checks were undecided for too long: the canary keeps its share until a user decides


TERMINAL = frozenset({Phase.PROMOTED, Phase.ROLLED_BACK, Phase.PAUSED, Phase.LEFT})
"""Final phases of a run."""


@dataclass(frozen=True, slots=True)
class State:
    """A run between two ticks.

    Args:
        phase: the current phase.
        step: index of the share that it has reached.
        percent: the canary's share, 0-100.
        step_started_s: when that share was reached; observations start there.
        reason: the reason of the last transition.
    """

    phase: Phase
    step: int
    percent: float
    step_started_s: float
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> State:
        """Inverse of `to_json`."""
        return cls(**{**fields, "phase": Phase(fields["phase"])})


def start(judgement: Judgement, percent: float, now_s: float) -> State:
    """Return the state of a new run; `percent` is the canary's own, for a judgement without steps."""
    shares = shares_of(judgement) or (percent,)
    return State(Phase.BAKING, 0, shares[0], now_s)


def step(judgement: Judgement, state: State, observation: Observation | None, now_s: float) -> State:
    """Return the state after one tick.

    Args:
        judgement: the same in every tick of a run.
        state: the state before.
        observation: since `state.step_started_s`; None if nothing could be observed, which changes nothing.
        now_s: seconds since 1970.
    """
    if observation is None:
        return state
    return step_by(judgement, state, judge(judgement, observation), now_s)


def step_by(judgement: Judgement, state: State, checks: tuple[Check, ...], now_s: float) -> State:
    """Do the same with existing checks, of one model or of several."""
    if state.phase in TERMINAL:
        return state
    verdict = verdict_of(checks)
    if verdict is Verdict.FAILED:
        return _fail(judgement, state, checks)
    bakes = _bakes(judgement, state, now_s)
    if bakes < 1 or verdict is Verdict.ERROR:
        return state
    if verdict is Verdict.SUCCESSFUL:
        return _advance(judgement, state, now_s)
    reason = _reasons(checks, Verdict.INCONCLUSIVE)
    return replace(state, phase=Phase.LEFT if bakes >= MOST_BAKES else Phase.WAITING, reason=reason)


def is_last(judgement: Judgement, state: State) -> bool:
    """Whether the next step is the promotion."""
    return state.step + 1 >= len(shares_of(judgement))


def is_baked(judgement: Judgement, state: State, since_s: float, now_s: float) -> bool:
    """Whether the observation since a moment has lasted for the step's bake."""
    return _bakes(judgement, replace(state, step_started_s=max(since_s, state.step_started_s)), now_s) >= 1


def _bakes(judgement: Judgement, state: State, now_s: float) -> float:
    """Return the number of bake times that the step has lasted; a bake time of zero is over immediately."""
    bake_s = judgement.bake_minutes * 60
    return (now_s - state.step_started_s) / bake_s if bake_s else 1.0


def _fail(judgement: Judgement, state: State, checks: tuple[Check, ...]) -> State:
    reason = _reasons(checks, Verdict.FAILED)
    if judgement.auto_rollback:
        return replace(state, phase=Phase.ROLLED_BACK, percent=0.0, reason=reason)
    return replace(state, phase=Phase.PAUSED, reason=reason)


def _advance(judgement: Judgement, state: State, now_s: float) -> State:
    shares = shares_of(judgement)
    following = state.step + 1
    if following < len(shares):
        return State(Phase.BAKING, following, shares[following], now_s, f"{state.percent:g}% was successful")
    return replace(state, phase=Phase.PROMOTED, percent=100.0, reason=f"{state.percent:g}% was successful")


def _reasons(checks: tuple[Check, ...], verdict: Verdict) -> str:
    return "; ".join(f"{check.name}: {check.sentence}" for check in checks if check.verdict is verdict)

"""Observations of a stage's two shares during its canary, as frozen values.

Made by turnout.canary.observation, read by turnout.canary.judging.checks and by `turnout canary status`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Arm:
    """One share of the traffic.

    Args:
        requests: that reached its functions.
        errors: those that its functions failed: an answer of 500 and more, a crash, a timeout, no room (429), even
            where a router's fallback hid it.
        durations: requests by the observation's bounds, one number more than there are bounds.
    """

    requests: int = 0
    errors: int = 0
    durations: tuple[int, ...] = ()

    def slower(self, bound: int) -> int:
        """Requests that took longer than the bound of that index."""
        return sum(self.durations[bound + 1 :])


@dataclass(frozen=True, slots=True)
class AgreementCounts:
    """Counts of the agreement of two versions.

    Args:
        compared: requests that both answered, or that one answered and the other did not.
        agreed: those whose outputs agreed.
        note: what was not compared, and why, a clause; empty where all was.
    """

    compared: int
    agreed: int
    note: str = ""

    def plus(self, later: AgreementCounts) -> AgreementCounts:
        """Both together, with the later one's reason for not comparing."""
        return AgreementCounts(self.compared + later.compared, self.agreed + later.agreed, later.note)


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything since the canary's present step began.

    Args:
        baseline: the share that sees the stage's own variables.
        canary: the share that sees the overrides.
        bounds_s: upper bounds of the durations' buckets, each included.
        alarms: name -> `OK`, `ALARM`, `INSUFFICIENT_DATA`, or `MISSING` where there is none of that name.
        agreement: model -> its counts.
    """

    baseline: Arm
    canary: Arm
    bounds_s: tuple[float, ...]
    alarms: Mapping[str, str] = field(default_factory=dict)
    agreement: Mapping[str, AgreementCounts] = field(default_factory=dict)


def quantile_s(arm: Arm, bounds_s: tuple[float, ...], share: float) -> float | None:
    """The bound that so large a share of the arm's requests did not exceed: 0.99 is the p99, rounded up to a bound.

    Returns:
        Seconds; infinity where it is over the last bound, None without requests.
    """
    total = sum(arm.durations)
    if not total:
        return None
    seen = 0
    for bound_s, count in zip(bounds_s, arm.durations, strict=False):
        seen += count
        if seen >= share * total:
            return bound_s
    return math.inf

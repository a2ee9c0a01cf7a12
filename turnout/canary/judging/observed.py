"""Observations of a stage's two shares during its canary, as frozen values.

Made by turnout.canary.observation, read by turnout.canary.judging.checks and by `turnout canary status`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Arm:
    """One share of the traffic.

    Args:
        requests: requests that reached its functions.
        errors: requests that its functions failed: an answer of 500 and more, a crash, a timeout, a throttled call
            (429), even if a router's fallback hid it.
        durations: requests by the observation's bounds, one number more than there are bounds.
    """

    requests: int = 0
    errors: int = 0
    durations: tuple[int, ...] = ()

    def slower(self, bound: int) -> int:
        """Return the number of requests that took longer than the bound with this index."""
        return sum(self.durations[bound + 1 :])

    def plus(self, other: Arm) -> Arm:
        """Return the sum of both; an arm without buckets has no requests."""
        if self.durations and other.durations:
            durations = tuple(a + b for a, b in zip(self.durations, other.durations, strict=True))
        else:
            durations = self.durations or other.durations
        return Arm(self.requests + other.requests, self.errors + other.errors, durations)


@dataclass(frozen=True, slots=True)
class AgreementCounts:
    """How often two versions agree.

    Args:
        compared: requests that both answered, or that one answered and the other did not.
        agreed: requests whose outputs agreed.
        note: what was not compared, and why, as a clause; empty if everything was.
    """

    compared: int
    agreed: int
    note: str = ""

    def plus(self, later: AgreementCounts) -> AgreementCounts:
        """Return the sum of both, with the later one's note."""
        return AgreementCounts(self.compared + later.compared, self.agreed + later.agreed, later.note)


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything since the start of the canary's current step.

    Args:
        baseline: the share that uses the stage's own variables.
        canary: the share that uses the overrides.
        bounds_s: upper bounds of the durations' buckets, inclusive.
        alarms: name -> `OK`, `ALARM`, `INSUFFICIENT_DATA`, or `MISSING` if there is no such alarm.
        agreement: model -> its counts.
    """

    baseline: Arm
    canary: Arm
    bounds_s: tuple[float, ...]
    alarms: Mapping[str, str] = field(default_factory=dict)
    agreement: Mapping[str, AgreementCounts] = field(default_factory=dict)


def merge(observations: Iterable[Observation]) -> Observation:
    """Merge the observations of several models; they come from one source."""
    merged: Observation | None = None
    for other in observations:
        if merged is None:
            merged = other
            continue
        merged = Observation(
            merged.baseline.plus(other.baseline),
            merged.canary.plus(other.canary),
            merged.bounds_s,
            {**merged.alarms, **other.alarms},
            {**merged.agreement, **other.agreement},
        )
    return merged or Observation(Arm(), Arm(), ())


def quantile_s(arm: Arm, bounds_s: tuple[float, ...], share: float) -> float | None:
    """Return the bound that this share of the arm's requests did not exceed: 0.99 is the p99, rounded up to a bound.

    Returns:
        In seconds; infinity if it is over the last bound, None without requests.
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

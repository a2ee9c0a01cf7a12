"""Possible observations of a canary."""

from __future__ import annotations

from collections.abc import Mapping

from turnout.canary.judging.observed import AgreementCounts, Arm, Observation

BOUNDS_S = (0.01, 0.1, 1.0)


def arm(requests: int, errors: int = 0, slow: int = 0) -> Arm:
    """Requests that took at most 10 ms, except the slow ones, which took up to a second."""
    return Arm(requests, errors, (requests - slow, 0, slow, 0))


def observation(
    baseline: Arm,
    canary: Arm,
    alarms: Mapping[str, str] | None = None,
    agreement: Mapping[str, AgreementCounts] | None = None,
) -> Observation:
    return Observation(baseline, canary, BOUNDS_S, alarms or {}, agreement or {})


NOTHING = observation(arm(0), arm(0))
GOOD = observation(arm(30_000, 30), arm(3_000, 3))
BAD = observation(arm(30_000, 30), arm(3_000, 300))
LITTLE = observation(arm(90), arm(10))
EVERY = (NOTHING, GOOD, BAD, LITTLE)

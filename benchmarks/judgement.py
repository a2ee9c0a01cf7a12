"""Measures how many requests a canary needs for its judgement: the table of docs/judgement.md, by simulation.

    python benchmarks/judgement.py

One step of a run with the default judgement, which checks errors and latency every 20 requests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np

from turnout.canary.judging.checks import ERROR_MARGIN, LATENCY_MARGIN
from turnout.canary.judging.sequential import ArmTrials, evidence_of_more, evidence_of_within, threshold
from turnout.gateway.shared.counters import BOUNDS_S

RUNS = 100
LOOK_EVERY = 20
MOST_REQUESTS = 150_000
ALARM_RUNS = 300
ALARM_REQUESTS = 20_000
CONFIDENCE = 0.95
CHECKS = 2

Evidence = Callable[[ArmTrials, ArmTrials], float]


def looks(rates: tuple[float, float], share: float, seed: int) -> Iterator[tuple[ArmTrials, ArmTrials]]:
    """Simulate the observations of both shares, check by check."""
    rng = np.random.default_rng(seed)
    is_canary = rng.random(MOST_REQUESTS) < share
    faults = rng.random(MOST_REQUESTS) < np.where(is_canary, rates[1], rates[0])
    at = slice(LOOK_EVERY - 1, None, LOOK_EVERY)
    counts, both, own = (np.cumsum(values)[at] for values in (is_canary, faults, is_canary & faults))
    totals = range(LOOK_EVERY, MOST_REQUESTS + 1, LOOK_EVERY)
    for total, count, fault, canary_fault in zip(totals, counts, both, own, strict=True):
        yield ArmTrials(total - int(count), int(fault - canary_fault)), ArmTrials(int(count), int(canary_fault))


def requests_until(evidence: Evidence, enough: float, rates: tuple[float, float], share: float, seed: int) -> float:
    """Return the canary's requests until the test decides."""
    for baseline, canary in looks(rates, share, seed):
        if evidence(baseline, canary) >= enough:
            return canary.count
    return math.inf


def count_false_alarms(rate: float, share: float) -> int:
    """Return the number of runs in which a test distinguished equal rates at one of a thousand checks."""
    return sum(
        any(
            evidence_of_more(*seen) >= threshold(1 - CONFIDENCE)
            for seen in islice(looks((rate, rate), share, seed), ALARM_REQUESTS // LOOK_EVERY)
        )
        for seed in range(ALARM_RUNS)
    )


def within(margin: float) -> Evidence:
    return lambda baseline, canary: evidence_of_within(baseline, canary, margin)


def main() -> None:
    errors = threshold((1 - CONFIDENCE) / CHECKS)
    latency = errors + threshold(1 / len(BOUNDS_S))
    rows: list[tuple[str, Evidence, float, tuple[float, float]]] = [
        ("error rate 1 % → 50 %: failed", evidence_of_more, errors, (0.01, 0.5)),
        ("error rate 0 % → 5 %: failed", evidence_of_more, errors, (0.0, 0.05)),
        ("error rate 1 % → 5 %: failed", evidence_of_more, errors, (0.01, 0.05)),
        ("error rate 1 % → 3 %: failed", evidence_of_more, errors, (0.01, 0.03)),
        ("no errors at all: successful", within(ERROR_MARGIN), errors, (0.0, 0.0)),
        ("error rate 0.1 % in both: successful", within(ERROR_MARGIN), errors, (0.001, 0.001)),
        ("error rate 1 % in both: successful", within(ERROR_MARGIN), errors, (0.01, 0.01)),
        ("slow requests 3 % in both: successful", within(LATENCY_MARGIN), latency, (0.03, 0.03)),
        ("slow requests 3 % → 20 %: failed", evidence_of_more, latency, (0.03, 0.2)),
    ]
    for name, evidence, enough, rates in rows:
        cells = []
        for share in (0.1, 0.5):
            counts = sorted(requests_until(evidence, enough, rates, share, seed) for seed in range(RUNS))
            cells += [f"{counts[RUNS // 2 - 1]:,}", f"{counts[RUNS * 9 // 10 - 1]:,}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    for rate, share in ((0.01, 0.1), (0.05, 0.5)):
        alarms = count_false_alarms(rate, share)
        print(f"false alarms at {rate:.0%} in both, {share:.0%} of the traffic: {alarms} of {ALARM_RUNS} runs")


if __name__ == "__main__":
    main()

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from itertools import product

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from turnout.canary.judging.sequential import (
    ArmTrials,
    evidence_of_more,
    evidence_of_over,
    evidence_of_under,
    evidence_of_within,
    project,
    threshold,
)

ALPHA = 0.05
MARGIN = 0.02

counts = st.integers(0, 5000).flatmap(lambda count: st.builds(ArmTrials, st.just(count), st.integers(0, count)))


def binomial(count: int, faults: int, rate: float) -> float:
    return math.comb(count, faults) * rate**faults * (1 - rate) ** (count - faults)


def mean_of(
    evidence: Callable[[ArmTrials, ArmTrials], float], sizes: tuple[int, int], rates: tuple[float, float]
) -> float:
    """The mean e-value over all possible observations of this number of requests, weighted by their probabilities."""
    seen = product(range(sizes[0] + 1), range(sizes[1] + 1))
    return math.fsum(
        binomial(sizes[0], x, rates[0])
        * binomial(sizes[1], y, rates[1])
        * math.exp(evidence(ArmTrials(sizes[0], x), ArmTrials(sizes[1], y)))
        for x, y in seen
    )


def within(baseline: ArmTrials, canary: ArmTrials) -> float:
    return evidence_of_within(baseline, canary, MARGIN)


RATES = (0.0, 0.001, 0.01, 0.1, 0.3, 0.5, 0.9, 1.0)
SIZES = ((1, 1), (30, 3), (3, 30), (25, 25), (60, 8))


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("rate", RATES)
def test_mean_evidence_is_at_most_one_if_the_canary_is_no_worse(sizes: tuple[int, int], rate: float) -> None:
    for better in (rate, rate * 0.5):
        assert mean_of(evidence_of_more, sizes, (rate, better)) <= 1 + 1e-9


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("rate", RATES)
def test_mean_evidence_is_at_most_one_if_the_canary_is_worse_by_the_margin(sizes: tuple[int, int], rate: float) -> None:
    baseline = max(0.0, rate - MARGIN)
    for worse in (baseline + MARGIN, min(1.0, baseline + 2 * MARGIN)):
        assert mean_of(within, sizes, (baseline, worse)) <= 1 + 1e-9


def test_mean_evidence_is_far_above_one_if_the_canary_is_worse() -> None:
    assert mean_of(evidence_of_more, (60, 25), (0.02, 0.5)) > 100


@pytest.mark.parametrize("rate", [0.01, 0.02, 0.2])
def test_mean_evidence_against_a_true_bound_is_at_most_one(rate: float) -> None:
    def over(_: ArmTrials, canary: ArmTrials) -> float:
        return evidence_of_over(canary, rate)

    def under(_: ArmTrials, canary: ArmTrials) -> float:
        return evidence_of_under(canary, rate)

    assert mean_of(over, (0, 80), (0, rate)) <= 1 + 1e-9
    assert mean_of(under, (0, 80), (0, rate)) <= 1 + 1e-9


def looks(
    rates: tuple[float, float], share: float, requests: int, every: int, seed: int
) -> Iterator[tuple[ArmTrials, ArmTrials]]:
    """Yield what repeated checks of two shares of one traffic observe."""
    rng = random.Random(seed)
    arms = [[0, 0], [0, 0]]
    for number in range(1, requests + 1):
        arm = rng.random() < share
        arms[arm][0] += 1
        arms[arm][1] += rng.random() < rates[arm]
        if number % every == 0:
            yield ArmTrials(*arms[0]), ArmTrials(*arms[1])


def z_test(baseline: ArmTrials, canary: ArmTrials) -> float:
    """The statistic of a test that is valid for a single check: large if its p-value is small."""
    pooled = (baseline.faults + canary.faults) / (baseline.count + canary.count)
    spread = math.sqrt(pooled * (1 - pooled) * (1 / max(baseline.count, 1) + 1 / max(canary.count, 1)))
    z = (canary.rate - baseline.rate) / spread if spread else 0.0
    return -math.log(max(1e-300, math.erfc(z / math.sqrt(2)) / 2))


def false_alarms(evidence: Callable[[ArmTrials, ArmTrials], float], rate: float, runs: int) -> int:
    """Return the number of runs in which equal rates were reported as different at some check."""
    return sum(
        any(evidence(*seen) >= threshold(ALPHA) for seen in looks((rate, rate), 0.2, 1500, 10, seed))
        for seed in range(runs)
    )


@pytest.mark.parametrize("rate", [0.01, 0.2])
def test_false_alarms_stay_within_their_probability_over_repeated_checks(rate: float) -> None:
    assert false_alarms(evidence_of_more, rate, 200) <= ALPHA * 200


def test_a_single_check_test_raises_many_false_alarms_over_repeated_checks() -> None:
    # This shows that the runs above are long enough to notice.
    assert false_alarms(z_test, 0.2, 60) > 3 * ALPHA * 60


def requests_until(
    evidence: Callable[[ArmTrials, ArmTrials], float], rates: tuple[float, float], share: float, seed: int
) -> float:
    """Return the canary's requests until the difference was detected."""
    for baseline, canary in looks(rates, share, 40_000, 20, seed):
        if evidence(baseline, canary) >= threshold(ALPHA):
            return canary.count
    return math.inf


@pytest.mark.parametrize(
    ("rates", "share", "typical", "most"),
    [
        ((0.01, 0.05), 0.1, 250, 700),
        ((0.01, 0.05), 0.5, 700, 1500),
        ((0.0, 0.02), 0.1, 250, 700),
        ((0.01, 0.5), 0.1, 10, 30),
    ],
)
def test_a_worse_canary_is_detected_soon(rates: tuple[float, float], share: float, typical: float, most: float) -> None:
    runs = sorted(requests_until(evidence_of_more, rates, share, seed) for seed in range(15))
    assert runs[7] <= typical
    assert runs[-1] <= most


@pytest.mark.parametrize(("rate", "most"), [(0.0, 1000), (0.01, 5000)])
def test_an_equal_canary_is_detected_within_a_margin_of_one_point(rate: float, most: float) -> None:
    def within_a_point(baseline: ArmTrials, canary: ArmTrials) -> float:
        return evidence_of_within(baseline, canary, 0.01)

    assert max(requests_until(within_a_point, (rate, rate), 0.25, seed) for seed in range(3)) <= most


@given(counts, counts, st.sampled_from([0.01, 0.05]))
@example(ArmTrials(0, 0), ArmTrials(0, 0), 0.01)
@example(ArmTrials(7, 7), ArmTrials(7, 7), 0.01)
@example(ArmTrials(7, 0), ArmTrials(7, 0), 0.01)
@example(ArmTrials(5000, 5000), ArmTrials(1, 1), 0.05)
def test_evidence_is_finite_for_every_observation(baseline: ArmTrials, canary: ArmTrials, margin: float) -> None:
    result = (
        evidence_of_more(baseline, canary),
        evidence_of_within(baseline, canary, margin),
        evidence_of_over(canary, margin),
        evidence_of_under(canary, margin),
    )
    assert all(math.isfinite(value) for value in result)


@given(counts, counts)
def test_observed_rates_give_no_evidence_against_themselves(baseline: ArmTrials, canary: ArmTrials) -> None:
    if canary.rate <= baseline.rate:
        assert evidence_of_more(baseline, canary) <= 1e-6
    if canary.rate >= baseline.rate + MARGIN:
        assert within(baseline, canary) <= 1e-6


@given(counts, counts)
def test_a_bound_without_margin_is_the_pooled_rate(baseline: ArmTrials, canary: ArmTrials) -> None:
    assume(canary.rate > baseline.rate)
    pooled = ArmTrials(baseline.count + canary.count, baseline.faults + canary.faults)

    def likelihood(trials: ArmTrials) -> float:
        good = trials.count - trials.faults
        fault_part = trials.faults * math.log(pooled.rate) if trials.faults else 0
        return fault_part + (good * math.log(1 - pooled.rate) if good else 0)

    both = likelihood(baseline) + likelihood(canary)
    own = [evidence_of_over(trials, 1.0) for trials in (baseline, canary)]  # the mixture minus the largest likelihood
    largest = [_largest(trials) for trials in (baseline, canary)]
    assert evidence_of_more(baseline, canary) == pytest.approx(sum(own) + sum(largest) - both, abs=1e-5)


def _largest(trials: ArmTrials) -> float:
    return sum(part * math.log(part / trials.count) for part in (trials.faults, trials.count - trials.faults) if part)


def test_one_failure_is_enough_if_none_is_allowed() -> None:
    assert evidence_of_over(ArmTrials(50, 1), 0.0) == math.inf
    assert evidence_of_over(ArmTrials(50, 0), 0.0) < 0


@pytest.mark.parametrize(
    ("baseline", "canary"), [(ArmTrials(90, 0), ArmTrials(10, 0)), (ArmTrials(300, 3), ArmTrials(30, 2))]
)
def test_a_projection_is_right_if_the_rates_stay_the_same(baseline: ArmTrials, canary: ArmTrials) -> None:
    def is_decided(factor: float) -> bool:
        arms = baseline.scaled(factor), canary.scaled(factor)
        return max(evidence_of_within(*arms, 0.01), evidence_of_more(*arms)) >= threshold(ALPHA)

    needed = project(canary, is_decided)
    assert needed is not None
    assert is_decided(1 + needed / canary.count)
    assert not is_decided(1 + 0.9 * needed / canary.count)


def test_a_projection_without_a_decision_is_none() -> None:
    assert project(ArmTrials(100, 1), lambda factor: False) is None


def test_a_projection_is_rounded_up_to_two_digits() -> None:
    assert project(ArmTrials(100, 0), lambda factor: factor * 100 >= 1334) == 1300
    assert project(ArmTrials(100, 0), lambda factor: factor * 100 >= 102.5) == 3

"""Sequential tests of rates that stay valid for any number of looks at the data and any time of stopping.

The e-value is a likelihood ratio. Its numerator is a mixture over all rates (the mean likelihood under a Beta prior for
each arm), its denominator the largest likelihood that the hypothesis allows:

    E = mean over rates of L(rates) / max over rates in H of L(rates)

If the hypothesis is true, the mean divided by the likelihood of the true rates is a martingale that starts at 1, and E
is never above it. So (Ville's inequality) E ever reaches 1/alpha with a probability of at most alpha: over all looks
together, with any split between the arms, even one that changes, and for any number of requests. Nothing is asymptotic.

Sources: Robbins, "Statistical methods related to the law of the iterated logarithm", Ann. Math. Statist. 41 (1970), for
the mixture; Wasserman, Ramdas and Balakrishnan, "Universal inference", PNAS 117 (2020), section 8, for the maximum
below; Ramdas, Gruenwald, Vovk and Shafer, "Game-theoretic statistics and safe anytime-valid inference", Statist. Sci.
38 (2023).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

PRIOR = (0.5, 10.0)
"""Alpha and beta of the Beta prior: faults are rare, mostly under 10%. The prior determines how soon a test decides,
never whether it is right.
"""

MOST_TRIALS = 10_000_000
"""Number of further requests after which a projection gives up."""

_HALVINGS = 45
"""Number of halvings of an interval no wider than 1: precise enough, and 1 minus its last piece is still below 1."""


@dataclass(frozen=True, slots=True)
class ArmTrials:
    """Requests of one arm. In a projection both numbers may be fractions.

    Args:
        count: all requests.
        faults: requests with a fault, at most `count`.
    """

    count: float
    faults: float

    @property
    def rate(self) -> float:
        """The share of requests with a fault; 0 without requests."""
        return self.faults / self.count if self.count else 0.0

    def scaled(self, factor: float) -> ArmTrials:
        """Return the requests multiplied by a factor, with the same rate."""
        return ArmTrials(self.count * factor, self.faults * factor)


def threshold(error_probability: float) -> float:
    """Return the evidence at which a true hypothesis is rejected with at most this probability."""
    return -math.log(error_probability)


def evidence_of_more(baseline: ArmTrials, canary: ArmTrials) -> float:
    """Return evidence against "the canary's rate is at most the baseline's": large if the canary is worse."""
    if canary.rate <= baseline.rate:
        return _mixture(baseline) + _mixture(canary) - _largest(baseline) - _largest(canary)
    return _mixture(baseline) + _mixture(canary) - _largest_apart(baseline, canary, 0.0)


def evidence_of_within(baseline: ArmTrials, canary: ArmTrials, margin: float) -> float:
    """Return evidence against "the canary's rate is at least the baseline's plus margin".

    It is large if the canary is not much worse.
    """
    if canary.rate >= baseline.rate + margin:
        return _mixture(baseline) + _mixture(canary) - _largest(baseline) - _largest(canary)
    return _mixture(baseline) + _mixture(canary) - _largest_apart(baseline, canary, margin)


def evidence_of_over(trials: ArmTrials, rate: float) -> float:
    """Return evidence against "the rate is at most this one"."""
    return _mixture(trials) - _log_likelihood(trials, min(trials.rate, rate))


def evidence_of_under(trials: ArmTrials, rate: float) -> float:
    """Return evidence against "the rate is at least this one"."""
    return _mixture(trials) - _log_likelihood(trials, max(trials.rate, rate))


def project(trials: ArmTrials, is_decided: Callable[[float], bool]) -> int | None:
    """Return how many more requests a decision needs, if the rates stay the same.

    Args:
        trials: those of the arm whose further requests are counted.
        is_decided: whether the requests multiplied by a factor decide it; once true, it stays true.

    Returns:
        At least 1, rounded up to two digits; None if more than `MOST_TRIALS` are needed.
    """
    most = MOST_TRIALS / max(trials.count, 1)
    below, above = 1.0, 2.0
    while not is_decided(above):
        below, above = above, above * 2
        if above > most:
            return None
    for _ in range(10):
        middle = (below + above) / 2
        below, above = (below, middle) if is_decided(middle) else (middle, above)
    return _round_up(max(1, math.ceil(trials.count * (above - 1))))


def _round_up(number: int) -> int:
    unit = int(10 ** max(0, len(str(number)) - 2))
    return -(-number // unit) * unit


def _mixture(trials: ArmTrials) -> float:
    """Return the logarithm of the mean likelihood under the prior."""
    alpha, beta = PRIOR
    good = trials.count - trials.faults
    return _log_beta(alpha + trials.faults, beta + good) - _log_beta(alpha, beta)


def _log_beta(alpha: float, beta: float) -> float:
    return math.lgamma(alpha) + math.lgamma(beta) - math.lgamma(alpha + beta)


def _largest(trials: ArmTrials) -> float:
    """Return the largest log likelihood over all rates."""
    return _log_likelihood(trials, trials.rate)


def _log_likelihood(trials: ArmTrials, rate: float) -> float:
    return _times_log(trials.faults, rate) + _times_log(trials.count - trials.faults, 1 - rate)


def _times_log(number: float, probability: float) -> float:
    """Return the product; 0 if the number is 0, even if the logarithm is minus infinity."""
    if number == 0:
        return 0.0
    return number * math.log(probability) if probability > 0 else -math.inf


def _largest_apart(baseline: ArmTrials, canary: ArmTrials, margin: float) -> float:
    """Return the largest log likelihood if the canary's rate is the baseline's plus margin; the function is concave."""
    low, high = 0.0, 1 - margin
    for _ in range(_HALVINGS):
        rate = (low + high) / 2
        if _slope(baseline, rate) + _slope(canary, rate + margin) > 0:
            low = rate
        else:
            high = rate
    # At either end the maximum is at the end itself, which halving approaches but never reaches.
    return max(
        _log_likelihood(baseline, rate) + _log_likelihood(canary, min(1.0, rate + margin))
        for rate in (0.0, (low + high) / 2, 1 - margin)
    )


def _slope(trials: ArmTrials, rate: float) -> float:
    """Return the slope of the log likelihood; the rate is neither 0 nor 1."""
    return trials.faults / rate - (trials.count - trials.faults) / (1 - rate)

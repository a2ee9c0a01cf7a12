"""Bounds on the counts of a binomial distribution."""

from __future__ import annotations

import math

ODDS = 1e-7
"""The probability that a test of random requests fails by chance; the 99% interval of the documented promise would fail
once in 100 runs.
"""


def band(count: int, share: float, odds: float) -> tuple[int, int]:
    """Return the interval that a binomial count leaves with at most this probability, half of it on each side."""
    if share in {0.0, 1.0}:
        return round(count * share), round(count * share)
    logs = [
        math.lgamma(count + 1) - math.lgamma(hits + 1) - math.lgamma(count - hits + 1)
        + hits * math.log(share) + (count - hits) * math.log1p(-share)
        for hits in range(count + 1)
    ]  # fmt: skip

    def passed(order: list[float]) -> int:
        """Return how many counts, from one end on, are together less likely than half of the probability."""
        total = 0.0
        for at, log in enumerate(order):
            total += math.exp(log)
            if total > odds / 2:
                return at
        raise AssertionError(order)

    return passed(logs), count - passed(logs[::-1])

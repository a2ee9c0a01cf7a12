"""Within which counts a binomial falls."""

from __future__ import annotations

import math

ODDS = 1e-7
"""How often a test of drawn requests may be wrong by chance; the 99 % band of the promise would be one time in 100."""


def band(count: int, share: float, odds: float) -> tuple[int, int]:
    """The counts outside of which a binomial falls with at most these odds, half of them on either side."""
    if share in {0.0, 1.0}:
        return round(count * share), round(count * share)
    logs = [
        math.lgamma(count + 1) - math.lgamma(hits + 1) - math.lgamma(count - hits + 1)
        + hits * math.log(share) + (count - hits) * math.log1p(-share)
        for hits in range(count + 1)
    ]  # fmt: skip

    def passed(order: list[float]) -> int:
        """How many counts, from one end on, are together less likely than half of the odds."""
        total = 0.0
        for at, log in enumerate(order):
            total += math.exp(log)
            if total > odds / 2:
                return at
        raise AssertionError(order)

    return passed(logs), count - passed(logs[::-1])

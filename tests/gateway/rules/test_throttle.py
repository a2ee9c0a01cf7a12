from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.gateway.rules.throttle import TokenBucket
from turnout.manifest.parser import Throttle

RATES = st.floats(0.1, 1000)
BURSTS = st.integers(0, 50)
GAPS = st.lists(st.floats(0, 2), min_size=1, max_size=200)


@given(RATES, BURSTS, GAPS, st.floats(0, 1e9))
def test_no_window_admits_more_than_burst_and_rate(rate: float, burst: int, gaps: list[float], start: float) -> None:
    bucket, now = TokenBucket(Throttle(rate, burst)), start
    admitted = []
    for gap in gaps:
        now += gap
        if bucket.take(now):
            admitted.append(now)

    for first in range(len(admitted)):
        for last in range(first, len(admitted)):
            allowed = burst + rate * (admitted[last] - admitted[first])
            assert last - first + 1 <= allowed + 1e-3


@given(st.integers(1, 200), st.integers(1, 50))
def test_steady_demand_at_the_rate_is_all_admitted(rate: int, burst: int) -> None:
    bucket = TokenBucket(Throttle(rate, burst))

    assert all(bucket.take(1000 + number / rate) for number in range(2000))


@given(st.integers(1, 100), st.integers(1, 50))
def test_demand_over_the_rate_gets_the_rate(rate: int, burst: int) -> None:
    bucket, seconds = TokenBucket(Throttle(rate, burst)), 10

    admitted = sum(bucket.take(tick / (20 * rate)) for tick in range(20 * rate * seconds))

    assert burst + rate * seconds - 1 <= admitted <= burst + rate * seconds


def test_burst_passes_immediately_and_one_more_request_does_not() -> None:
    bucket = TokenBucket(Throttle(100, 200))

    assert [bucket.take(5.0) for _ in range(201)] == [True] * 200 + [False]


@pytest.mark.parametrize("throttle", [Throttle(0, 0), Throttle(10, 0)])
def test_zero_burst_admits_nothing(throttle: Throttle) -> None:
    bucket = TokenBucket(throttle)

    assert not any(bucket.take(float(second)) for second in range(100))


def test_clock_that_goes_back_adds_no_tokens() -> None:
    bucket = TokenBucket(Throttle(1, 1))

    assert bucket.take(100.0)
    assert not bucket.take(50.0)
    assert not bucket.take(100.5)
    assert bucket.take(101.0)

"""Which runs may use the event loop."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.gateway.functions.in_process.pace import (
    DOUBTED_RUNS,
    FIRST_PENALTY,
    FORGIVEN_AFTER,
    LONG_RUN_S,
    TRUSTED_AFTER,
    TRUSTED_RUNS,
    Pace,
)

LIMIT_S = 0.001


def learned(*runs: tuple[int, float], on_loop: bool = False) -> Pace:
    """A warm pace that has seen runs with these (size, cost) pairs."""
    pace = Pace(LIMIT_S)
    pace.learn(1, 1.0, on_loop=False)
    for size, cost_s in runs:
        pace.learn(size, cost_s, on_loop=on_loop)
    return pace


def test_no_size_is_short_before_the_first_run() -> None:
    assert not Pace(LIMIT_S).is_short(0)


def test_the_first_run_is_ignored() -> None:
    pace = Pace(LIMIT_S)
    pace.learn(100, 0.000_01, on_loop=False)
    assert not pace.is_short(100)
    pace.learn(100, 0.000_01, on_loop=False)
    assert pace.is_short(100)


@pytest.mark.parametrize(
    ("seen", "asked", "short"),
    [
        ((100, 0.000_1), 100, True),
        ((100, 0.000_1), 127, True),  # the same power of two
        ((100, 0.000_1), 3, True),  # smaller: the larger body costs at least as much
        ((100, 0.000_1), 0, True),
        ((100, 0.000_1), 200, True),  # up to four times as long, still below the limit
        ((100, 0.000_3), 200, False),
        ((100, 0.000_1), 300, False),  # much larger than any before
        ((100, 0.000_001), 1_000_000, False),
        ((100, 0.002), 100, False),
        ((100, 0.002), 10, False),
        ((100, 0.002), 200, False),
    ],
)
def test_a_size_is_estimated_from_its_neighbors(seen: tuple[int, float], asked: int, *, short: bool) -> None:
    assert learned(seen).is_short(asked) is short


def test_a_cost_follows_the_latest_runs() -> None:
    pace = learned((100, 0.01))
    runs = 0
    while not pace.is_short(100):
        pace.learn(100, 0.000_1, on_loop=False)
        runs += 1
    assert 5 <= runs <= 30
    for _ in range(runs):
        pace.learn(100, 0.002, on_loop=True)
    assert not pace.is_short(100)


def test_one_slightly_long_run_changes_nothing() -> None:
    pace = learned(*[(100, 0.000_01)] * 10)
    pace.learn(100, 0.002, on_loop=True)
    assert pace.is_short(100)


def runs_until_short(pace: Pace) -> int:
    runs = 0
    while not pace.is_short(100):
        pace.learn(100, 0.000_01, on_loop=False)
        runs += 1
    return runs


def test_each_long_run_on_the_loop_has_a_larger_penalty() -> None:
    pace = learned((100, 0.000_01))
    waits = []
    for _ in range(10):
        pace.learn(100, 2 * LONG_RUN_S, on_loop=True)
        assert not pace.is_short(100)
        waits.append(runs_until_short(pace))
    assert waits[:3] == [FIRST_PENALTY, 2 * FIRST_PENALTY, 4 * FIRST_PENALTY]
    assert max(waits) <= 4096


def test_a_long_run_in_a_thread_restarts_the_wait() -> None:
    pace = learned((100, 0.000_01))
    pace.learn(100, 2 * LONG_RUN_S, on_loop=True)
    for _ in range(FIRST_PENALTY - 1):
        pace.learn(100, 0.000_01, on_loop=False)
    pace.learn(100, 2 * LONG_RUN_S, on_loop=False)
    assert runs_until_short(pace) == FIRST_PENALTY


def test_long_runs_are_forgiven_after_many_short_ones() -> None:
    pace = learned((100, 0.000_01))
    for _ in range(3):
        pace.learn(100, 2 * LONG_RUN_S, on_loop=True)
    for _ in range(3 * FORGIVEN_AFTER):
        pace.learn(100, 0.000_01, on_loop=False)
    pace.learn(100, 2 * LONG_RUN_S, on_loop=True)
    assert runs_until_short(pace) == FIRST_PENALTY


def measured_of(pace: Pace, runs: int, cost_s: float = 0.000_01) -> int:
    """Return how many of this number of runs on the loop are measured."""
    measured = 0
    for _ in range(runs):
        assert pace.is_short(100)
        if not pace.is_trusted(100):
            measured += 1
            pace.learn(100, cost_s, on_loop=True)
    return measured


def test_every_eighth_of_always_short_runs_is_measured() -> None:
    pace = learned((100, 0.000_01))
    assert measured_of(pace, TRUSTED_AFTER - 1) == TRUSTED_AFTER - 1
    assert measured_of(pace, 10 * (TRUSTED_RUNS + 1)) == 10


def test_runs_near_the_limit_are_all_measured() -> None:
    assert measured_of(learned((100, 0.000_8)), 1000, 0.000_8) == 1000


def test_after_a_doubtful_run_the_next_ones_are_measured() -> None:
    pace = learned((100, 0.000_01))
    measured_of(pace, TRUSTED_AFTER)
    assert pace.is_trusted(100)
    pace.doubt(100)
    assert pace.is_short(100)
    assert measured_of(pace, DOUBTED_RUNS) == DOUBTED_RUNS
    assert pace.is_trusted(100)
    pace.learn(100, 2 * LONG_RUN_S, on_loop=True)
    assert not pace.is_trusted(100)
    assert not pace.is_short(100)


@given(st.lists(st.tuples(st.integers(0, 10_000_000), st.floats(0, 0.1)), min_size=2, max_size=30))
def test_a_size_that_was_just_long_on_the_loop_is_not_short(runs: list[tuple[int, float]]) -> None:
    pace = learned(*runs, on_loop=True)
    size, cost_s = runs[-1]
    if cost_s > LONG_RUN_S:
        assert not pace.is_short(size)


@given(st.floats(0.000_01, 0.01), st.integers(1, 23))
def test_a_linear_function_with_growing_bodies_stays_below_twice_the_limit_on_the_loop(
    slope_ms: float, top: int
) -> None:
    pace = learned()
    for power in range(top):
        for size in (2**power, 2**power + 2**power // 2):
            cost_s = size * slope_ms / 1000
            if pace.is_short(size):
                assert cost_s <= 2 * LIMIT_S  # the largest body of a band is twice its smallest
            pace.learn(size, cost_s, on_loop=pace.is_short(size))

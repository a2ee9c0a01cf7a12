"""The estimate of how long a call would wait."""

from __future__ import annotations

import pytest

from turnout.gateway.functions.waiting_time import WaitingTime


def test_no_call_is_hopeless_before_a_run_has_ended() -> None:
    assert not WaitingTime().is_hopeless(10_000, 1, 0.1)


def test_the_first_run_counts_until_the_second_has_ended() -> None:
    waiting = WaitingTime()
    waiting.learn(5.0)
    assert waiting.run_s == 5.0
    waiting.learn(1.0)
    assert waiting.run_s == 1.0
    waiting.learn(2.0)
    assert 1.0 < waiting.run_s < 2.0


@pytest.mark.parametrize(
    ("ahead", "at_once", "remaining_s", "hopeless"),
    [
        (0, 1, 0.1, False),
        (4, 5, 0.1, False),
        (5, 5, 2.7, True),
        (5, 5, 2.8, False),
        (9, 1, 13.0, True),
        (9, 1, 14.0, False),
        (3, 0, 1.0, True),
    ],
)
def test_the_wait_includes_earlier_calls_and_the_call_itself(
    ahead: int, at_once: int, remaining_s: float, *, hopeless: bool
) -> None:
    waiting = WaitingTime()
    waiting.learn(1.0)
    assert waiting.is_hopeless(ahead, at_once, remaining_s) is hopeless

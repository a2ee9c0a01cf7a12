"""Transitions between the states of a request: which are allowed, and invariants in any order of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.protocol.requests import states
from turnout.protocol.requests.states import ENDED, Progress, RequestState, StepError

QUEUED = states.accept(100.0, 60.0, 2)
RUNNING = states.begin(QUEUED, 101.0)

STEPS: dict[str, Callable[[Progress, float], Progress]] = {
    "begin": states.begin,
    "succeed": states.succeed,
    "fail": states.fail,
    "fail for good": lambda progress, now: states.fail(progress, now, is_final=True),
    "give back": states.give_back,
    "cancel": states.cancel,
    "expire": states.expire,
    "redrive": states.redrive,
}


def test_request_that_succeeds() -> None:
    done = states.succeed(RUNNING, 105.0)
    assert (done.state, done.attempts, done.begun, done.ended, done.expires) == (
        RequestState.DONE,
        1,
        101.0,
        105.0,
        165.0,
    )
    assert not states.is_forgotten(done, 164.9)
    assert states.is_forgotten(done, 165.0)


def test_request_that_fails_is_retried_later() -> None:
    again = states.fail(RUNNING, 105.0)
    assert (again.state, again.attempts, again.not_before) == (RequestState.QUEUED, 1, 106.0)
    assert not states.may_begin(again, 105.9)
    second = states.begin(again, 106.0)
    assert states.fail(second, 107.0).state is RequestState.FAILED
    assert states.fail(RUNNING, 105.0, is_final=True).state is RequestState.FAILED
    assert states.fail(RUNNING, 159.5).state is RequestState.FAILED, "no time is left for another run"


def test_run_that_is_given_back_does_not_count_as_an_attempt() -> None:
    back = states.give_back(RUNNING, 105.0, 3.0)
    assert (back.state, back.attempts, back.not_before) == (RequestState.QUEUED, 0, 108.0)


def test_failed_request_can_be_redriven_and_a_completed_one_cannot() -> None:
    failed = states.fail(RUNNING, 105.0, is_final=True)
    again = states.redrive(failed, 200.0)
    assert (again.state, again.attempts, again.not_before, again.expires, again.ended) == (
        RequestState.QUEUED,
        0,
        200.0,
        260.0,
        None,
    )
    for progress in (QUEUED, RUNNING, states.succeed(RUNNING, 105.0)):
        with pytest.raises(StepError):
            states.redrive(progress, 200.0)


def test_backoff_doubles_up_to_a_minute() -> None:
    assert [states.back_off_s(attempts) for attempts in (0, 1, 2, 3, 7, 10)] == [1, 1, 2, 4, 60, 60]


@given(st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.floats(0, 40)), max_size=30), st.integers(1, 4))
def test_no_order_of_steps_breaks_the_rules(taken: list[tuple[str, float]], max_attempts: int) -> None:
    now, progress = 0.0, states.accept(0.0, 60.0, max_attempts)
    for name, wait_s in taken:
        now += wait_s
        before = progress
        try:
            progress = STEPS[name](progress, now)
        except StepError:
            continue
        assert 0 <= progress.attempts <= max_attempts
        assert progress.has_ended == (progress.ended is not None)
        if before.state in ENDED and progress.state not in ENDED:
            assert name == "redrive"
        if progress.state is RequestState.DONE:
            assert before.state is RequestState.RUNNING
        if name in {"cancel", "expire"}:
            assert before.state is not RequestState.RUNNING, "a run that began is never taken away"

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders.observations import BAD, EVERY, GOOD, LITTLE, NOTHING
from turnout.canary.judging.states import (
    MOST_BAKES,
    TERMINAL,
    Observation,
    Phase,
    State,
    Verdict,
    judge,
    start,
    step,
    verdict_of,
)
from turnout.manifest.judgement import Judgement

STEPS = Judgement(steps=(5, 25, 50), bake_minutes=10)
PLAIN = Judgement(bake_minutes=10)
MINUTE = 60.0


def walk(judgement: Judgement, seen: list[tuple[Observation | None, float]], percent: float = 10) -> State:
    """Return the state after ticks, each with its observation and its minutes after the start."""
    state = start(judgement, percent, 0.0)
    for observation, minutes in seen:
        state = step(judgement, state, observation, minutes * MINUTE)
    return state


def reported(state: State) -> tuple[str, int, float]:
    return state.phase, state.step, state.percent


@pytest.mark.parametrize(("judgement", "percent"), [(PLAIN, 10), (STEPS, 5), (Judgement(strategy="all_at_once"), 100)])
def test_a_run_starts_with_its_first_share(judgement: Judgement, percent: float) -> None:
    assert reported(start(judgement, 10, 7.0)) == ("baking", 0, percent)
    assert start(judgement, 10, 7.0).step_started_s == 7.0


@pytest.mark.parametrize(
    ("judgement", "seen", "after"),
    [
        (PLAIN, [(GOOD, 9.9)], ("baking", 0, 10)),
        (PLAIN, [(GOOD, 10)], ("promoted", 0, 100)),
        (PLAIN, [(BAD, 1)], ("rolled_back", 0, 0)),
        (PLAIN, [(LITTLE, 10)], ("waiting", 0, 10)),
        (PLAIN, [(LITTLE, 10), (GOOD, 11)], ("promoted", 0, 100)),
        (PLAIN, [(LITTLE, 10), (BAD, 11)], ("rolled_back", 0, 0)),
        (PLAIN, [(LITTLE, 29.9)], ("waiting", 0, 10)),
        (PLAIN, [(LITTLE, 30)], ("left", 0, 10)),
        (PLAIN, [(NOTHING, 30)], ("left", 0, 10)),
        (PLAIN, [(LITTLE, 30), (GOOD, 31)], ("left", 0, 10)),
        (PLAIN, [(None, 10)], ("baking", 0, 10)),
        (PLAIN, [(None, 500)], ("baking", 0, 10)),
        (PLAIN, [(None, 500), (GOOD, 501)], ("promoted", 0, 100)),
        (STEPS, [(GOOD, 10)], ("baking", 1, 25)),
        (STEPS, [(GOOD, 10), (GOOD, 19)], ("baking", 1, 25)),
        (STEPS, [(GOOD, 10), (GOOD, 20), (GOOD, 30)], ("promoted", 2, 100)),
        (STEPS, [(GOOD, 10), (GOOD, 20), (BAD, 21)], ("rolled_back", 2, 0)),
        (STEPS, [(GOOD, 10), (LITTLE, 40)], ("left", 1, 25)),
        (replace(STEPS, auto_rollback=False), [(GOOD, 10), (BAD, 11)], ("paused", 1, 25)),
        (replace(STEPS, auto_rollback=False), [(BAD, 1), (GOOD, 11)], ("paused", 0, 5)),
        (Judgement(strategy="linear", step_percent=40, bake_minutes=1), [(GOOD, 1)], ("baking", 1, 80)),
        (Judgement(strategy="all_at_once", bake_minutes=1), [(GOOD, 1)], ("promoted", 0, 100)),
        (Judgement(strategy="all_at_once", bake_minutes=1), [(BAD, 0.5)], ("rolled_back", 0, 0)),
        (replace(PLAIN, bake_minutes=0), [(LITTLE, 0)], ("waiting", 0, 10)),
        (replace(PLAIN, bake_minutes=0), [(GOOD, 0)], ("promoted", 0, 100)),
        (replace(PLAIN, alarms=("a",)), [(GOOD, 500)], ("baking", 0, 10)),
        (replace(PLAIN, alarms=("a",)), [(replace(GOOD, alarms={"a": "ALARM"}), 1)], ("rolled_back", 0, 0)),
    ],
)
def test_next_state_follows_from_state_and_observation(
    judgement: Judgement, seen: list[tuple[Observation | None, float]], after: tuple[str, int, float]
) -> None:
    assert reported(walk(judgement, seen)) == after


def test_a_transition_states_its_reason() -> None:
    assert "errors: 10% of the canary's 3,000 requests failed" in walk(PLAIN, [(BAD, 1)]).reason
    assert walk(STEPS, [(GOOD, 10)]).reason == "5% was successful"
    waiting = walk(PLAIN, [(LITTLE, 10)]).reason
    assert "more are needed to decide" in waiting
    assert walk(PLAIN, [(LITTLE, 30)]).reason == waiting


judgements = st.builds(
    Judgement,
    strategy=st.sampled_from(["canary", "linear", "all_at_once"]),
    steps=st.lists(st.integers(1, 99), max_size=4, unique=True).map(lambda steps: tuple(sorted(steps))),
    step_percent=st.floats(5, 99),
    bake_minutes=st.sampled_from([0.0, 1.0, 10.0]),
    auto_rollback=st.booleans(),
)
ticks = st.lists(st.tuples(st.sampled_from([None, *EVERY]), st.floats(0, 1000)), max_size=12)


@given(judgements, st.floats(1, 99), ticks)
def test_every_run_follows_the_rules(
    judgement: Judgement, percent: float, seen: list[tuple[Observation | None, float]]
) -> None:
    state, now_s = start(judgement, percent, 0.0), 0.0
    for observation, wait_s in seen:
        now_s += wait_s
        before, state = state, step(judgement, state, observation, now_s)
        verdict = Verdict.ERROR if observation is None else verdict_of(judge(judgement, observation))
        assert before.phase not in TERMINAL or state == before
        assert state.percent >= before.percent or state.phase is Phase.ROLLED_BACK
        assert state.percent == before.percent or verdict in {Verdict.SUCCESSFUL, Verdict.FAILED}
        assert state.percent <= before.percent or verdict is Verdict.SUCCESSFUL
        assert state == before or verdict is not Verdict.ERROR
        assert (state.phase is Phase.ROLLED_BACK) == (state.percent == 0)
        assert state.phase is not Phase.PROMOTED or state.percent == 100
        assert state.step_started_s <= now_s
        if state.phase is Phase.LEFT and before.phase is not Phase.LEFT:
            assert now_s - state.step_started_s >= MOST_BAKES * judgement.bake_minutes * MINUTE > 0
        if state.step > before.step:
            assert now_s - before.step_started_s >= judgement.bake_minutes * MINUTE


@given(judgements, st.floats(1, 99), ticks)
def test_a_stored_run_continues_as_if_it_had_not_stopped(
    judgement: Judgement, percent: float, seen: list[tuple[Observation | None, float]]
) -> None:
    going = stored = start(judgement, percent, 0.0)
    now_s = 0.0
    for observation, wait_s in seen:
        now_s += wait_s
        going = step(judgement, going, observation, now_s)
        stored = step(judgement, State.from_json(json.loads(json.dumps(stored.to_json()))), observation, now_s)
        assert stored == going


@given(judgements, st.floats(1, 99))
def test_a_good_canary_is_promoted_at_the_end(judgement: Judgement, percent: float) -> None:
    state, now_s = start(judgement, percent, 0.0), 0.0
    while state.phase not in TERMINAL:
        now_s += judgement.bake_minutes * MINUTE
        state = step(judgement, state, GOOD, now_s)
    assert state.phase is Phase.PROMOTED

"""State shared by several processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders.stages import update_stages
from tests.builders.waiting import PATIENCE_S
from turnout.gateway.rules.stages import StageSettings
from turnout.gateway.shared.counters import BOUNDS_S, CounterKey
from turnout.gateway.shared.directory import NAME_BYTES, Directory, DirectoryFullError
from turnout.gateway.shared.lock import SharedLock
from turnout.gateway.shared.state import SETTINGS_BYTES, ControlState, SharedState
from turnout.manifest.parser import Throttle

STAGE = StageSettings("dev", "api", "d", {"iris": "v1"})


def state_with(*stages: StageSettings) -> SharedState:
    state = SharedState(1)
    state.publish(ControlState(1, stages, {}))
    return state


@pytest.mark.parametrize(
    ("scene", "outcome"),
    [
        ("throttle", [0, 30, 0, 170, 0]),
        ("counters", [4000, 2, 4]),
        ("publish", [401, ["200", "200"]]),
        ("killed_holder", [True, 2, 2]),
        ("slots", [True, False, True, True, False, None, True]),
        ("lines", [80, 80, 160]),
    ],
)
def test_processes_share(scene: str, outcome: Any, root: Path) -> None:
    command = [sys.executable, "-m", "tests.builders.shared_scenes", scene]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.stderr == ""
    assert json.loads(done.stdout) == outcome


# --- the control state


def test_each_change_has_a_generation() -> None:
    state = state_with(STAGE)
    word = state.generation_word()
    assert word[0] == state.generation() == 1
    assert state.publish(ControlState(2, (), {})) == 2
    assert word[0] == 2
    assert state.read() == (2, ControlState(2, (), {}))


def test_changing_one_stage_leaves_the_others() -> None:
    other = StageSettings("prod", "api", "d", {})
    state = state_with(STAGE, other)
    changed = StageSettings("dev", "api", "d", {"iris": "v2"})
    update_stages(state, {"dev": changed})
    assert state.read()[1].stages == (changed, other)
    with pytest.raises(KeyError, match="nowhere"):
        update_stages(state, {"nowhere": changed})
    assert state.generation() == 2


def test_a_change_that_raises_or_is_too_large_changes_nothing() -> None:
    state = state_with(STAGE)

    def fail(_: ControlState | None) -> ControlState:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        state.update(fail)
    large = StageSettings("dev", "api", "d", {"x": "y" * SETTINGS_BYTES})
    with pytest.raises(ValueError, match="allowed"):
        state.publish(ControlState(1, (large,), {}))
    assert state.read()[1].stages == (STAGE,)
    assert state.generation() == 1


def test_connections_are_counted_from_both_sides() -> None:
    state = SharedState(2)
    state.add_connections(1, 3)
    state.drop_connection(1)
    assert [state.open_connections(worker) for worker in range(2)] == [0, 2]
    state.forget(1)
    assert state.open_connections(1) == 0


# --- throttles


def test_a_bucket_keeps_its_count_while_its_limits_stay() -> None:
    state = state_with()
    one = state.buckets.bucket_of("prod", Throttle(1, 2))
    assert [one.take(10), one.take(10), one.take(10)] == [True, True, False]
    state.publish(ControlState(1, (), {}))
    again = state.buckets.bucket_of("prod", Throttle(1, 2))
    assert again.take(10) is False
    assert again.take(11) is True
    assert state.buckets.bucket_of("dev", Throttle(1, 1)).take(11) is True  # another stage


def test_a_bucket_with_new_limits_starts_full_also_for_a_worker_with_the_old_ones() -> None:
    state = state_with()
    old = state.buckets.bucket_of("prod", Throttle(1, 5))
    assert old.take(0)
    state.publish(ControlState(1, (), {}))
    new = state.buckets.bucket_of("prod", Throttle(1, 2))
    assert new.take(0)
    assert [old.take(0), old.take(0)] == [True, False]
    assert new.take(0) is False


def test_a_bucket_refills_at_its_rate_up_to_its_burst() -> None:
    bucket = state_with().buckets.bucket_of("prod", Throttle(0.5, 2))
    assert [bucket.take(0) for _ in range(3)] == [True, True, False]
    assert [bucket.take(1), bucket.take(2), bucket.take(2)] == [False, True, False]
    assert [bucket.take(1000) for _ in range(3)] == [True, True, False]
    assert bucket.take(0) is False  # a clock that goes back


@given(
    st.integers(1, 3),
    st.integers(1, 5_000),
    st.integers(1, 20_000),
    st.lists(st.tuples(st.integers(0, 2), st.floats(0, 0.02), st.integers(1, 300)), max_size=60),
)
@settings(deadline=None)
def test_all_workers_together_never_admit_more_than_burst_and_rate(
    workers: int, burst: int, rate: int, calls: list[tuple[int, float, int]]
) -> None:
    state = state_with()
    buckets = [state.buckets.bucket_of("prod", Throttle(rate, burst)) for _ in range(workers)]
    now, passed = 0.0, [(0.0, 0)]
    for worker, pause_s, count in calls:
        now += pause_s
        taken = sum(buckets[worker % workers].take(now) for _ in range(count))
        passed.append((now, passed[-1][1] + taken))
    for start in range(len(passed) - 1):
        for end in range(start + 1, len(passed)):
            elapsed_s = passed[end][0] - passed[start + 1][0]
            assert passed[end][1] - passed[start][1] <= burst + rate * elapsed_s + 1e-6 * burst


def test_busy_workers_admit_all_that_the_rate_allows() -> None:
    state = state_with()
    buckets = [state.buckets.bucket_of("prod", Throttle(2_000, 4_000)) for _ in range(4)]
    # Below the rate nothing is rejected, nor if all requests arrive at once; above it, the rate is admitted.
    steps = [step / 20_000 for step in range(100_000)]
    assert all(buckets[number % 4].take(now) for number, now in enumerate(steps) if number % 12 == 0)
    passed = sum(buckets[number % 4].take(10 + now) for number, now in enumerate(steps))
    assert 0.97 * (4_000 + 5 * 2_000) <= passed <= 4_000 + 5 * 2_000 + 1


def test_occasional_calls_take_one_token_each() -> None:
    bucket = state_with().buckets.bucket_of("prod", Throttle(1_000, 1_000))
    assert all(bucket.take(number / 50) for number in range(500))
    assert sum(bucket.take(10) for _ in range(2_000)) == 1_000


def test_stages_beyond_the_capacity_are_counted_per_worker(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    state = state_with()
    for number in range(1024):
        state.buckets.bucket_of(f"s{number}", Throttle(1, 1))
    bucket = state.buckets.bucket_of("one more", Throttle(1, 1))
    assert [bucket.take(0), bucket.take(0)] == [True, False]
    assert "one more" in caplog.text


# --- counters


def test_answers_are_counted_by_class_and_duration() -> None:
    counters = SharedState(1).counters
    key = ("prod", "turnout-local_iris_v1", True)
    for status, seconds in ((200, 0.0004), (200, 0.0005), (404, 0.3), (504, 40.0), (999, 0.0)):
        counters.record(key, status, seconds, failed=status == 504)
    rows = counters.read()
    counts = rows[CounterKey(*key)]
    assert list(rows) == [CounterKey(*key)]
    assert counts.statuses == (0, 2, 0, 1, 2)
    assert counts.failures == 1
    assert counts.requests == 5
    assert counts.seconds == pytest.approx(40.3009)
    assert len(counts.durations) == len(BOUNDS_S) + 1
    assert (counts.durations[0], counts.durations[BOUNDS_S.index(0.3)], counts.durations[-1]) == (3, 1, 1)


def test_functions_beyond_the_capacity_are_not_counted() -> None:
    counters = SharedState(1).counters
    for number in range(4097):
        counters.record(("prod", f"f{number}", False), 200, 0.1)
    assert len(counters.read()) == 4096
    counters.record(("prod", "f4096", False), 200, 0.1)
    assert sum(counts.requests for counts in counters.read().values()) == 4096


# --- names


def test_a_name_has_the_same_number_in_every_view_of_the_table() -> None:
    memory = memoryview(bytearray(Directory.size_of(3)))
    lock = SharedLock()
    one, other = Directory(memory, lock, 0), Directory(memory, lock, 0)
    assert [one.number_of("a"), other.number_of("b"), one.number_of("b"), other.number_of("a")] == [0, 1, 1, 0]
    long = "é" * NAME_BYTES
    assert one.number_of(long) == other.number_of(long) == 2
    assert list(other.rows()) == list(one.rows())
    with pytest.raises(DirectoryFullError):
        other.number_of(long + "!")
    lock.close()

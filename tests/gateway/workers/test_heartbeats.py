from __future__ import annotations

from turnout.gateway.shared.state import SharedState
from turnout.gateway.workers.heartbeats import LOOK_S, Heartbeats


class Looking:
    """A supervisor that checks every `LOOK_S` seconds."""

    def __init__(self, *counts: int) -> None:
        self.counts = list(counts)
        self.now_s = 0.0
        self.heartbeats = Heartbeats(lambda worker: self.counts[worker], patience_s=20)

    def look(self, seconds: float = LOOK_S) -> list[int]:
        self.now_s += seconds
        return self.heartbeats.find_stalled(range(len(self.counts)), self.now_s)


def test_a_blocked_worker_is_reported_once_and_the_others_are_not() -> None:
    looking = Looking(1, 1)
    results = []
    for turn in range(15):
        looking.counts[0] += 1
        results.append((turn, looking.look()))
    assert [result for result in results if result[1]] == [(10, [1])]


def test_a_worker_that_has_not_started_to_count_is_not_reported() -> None:
    looking = Looking(0)
    assert not any(looking.look() for _ in range(50))


def test_time_in_which_the_supervisor_did_not_run_either_does_not_count() -> None:
    looking = Looking(1)
    looking.look()
    assert looking.look(3600) == []
    assert looking.look() == []


def test_workers_count_in_shared_memory_and_restart_from_zero() -> None:
    state = SharedState(3)
    state.beat(1)
    state.beat(1)
    state.add_connections(2, 5)
    assert [state.beats(worker) for worker in range(3)] == [0, 2, 0]
    state.forget(1)
    assert state.beats(1) == 0
    assert state.open_connections(2) == 5

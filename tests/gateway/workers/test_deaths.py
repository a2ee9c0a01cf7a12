"""Which functions are blamed for the end of a worker."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from turnout.gateway.shared.running import PLACES, key_of
from turnout.gateway.shared.state import ControlState, SharedState
from turnout.gateway.workers.deaths import Deaths, count_oom_kills
from turnout.gateway.workers.worker import UNPREPARED, WORN

DIGESTS = {"a": "digest of a", "b": "digest of b"}


class Scene:
    """Two workers, and the record of their ends."""

    def __init__(self) -> None:
        self.state = SharedState(2)
        self.state.publish(ControlState(1, (), {}))
        self.digests = dict(DIGESTS)
        self.oom_kills = 0
        self.deaths = Deaths(self.state, lambda: self.digests, lambda: self.oom_kills)

    def die(self, code: int, *names: str, worker: int = 1, stood_still: bool = False) -> list[str]:
        self.state.forget(worker)
        self.state.become(worker)
        for name in names:
            self.state.running.begin(key_of(name))
        return self.deaths.note(worker, code, stood_still=stood_still)

    def counts(self) -> dict[str, int]:
        return {name: count for name, (_, count) in self.state.read()[1].deaths.items()}


@pytest.mark.parametrize("code", [-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGFPE, -signal.SIGBUS, 1, 0, 137], ids=str)
def test_a_function_that_ends_two_workers_is_no_longer_served(code: int) -> None:
    scene = Scene()
    assert scene.die(code, "a") == ["a may have crashed a worker; after a second crash it is no longer served"]
    assert scene.die(code, "a", worker=0)[0].startswith("a crashed 2 workers and is no longer served")
    assert scene.counts() == {"a": 2}


def test_of_several_suspects_the_next_end_shows_which_one_it_was() -> None:
    scene = Scene()
    scene.die(-signal.SIGABRT, "a", "b")
    assert scene.counts() == {"a": 1, "b": 1}
    scene.die(-signal.SIGABRT, "a")
    assert scene.counts() == {"a": 2, "b": 1}


def test_a_suspect_is_blamed_rather_than_one_running_at_the_same_time() -> None:
    scene = Scene()
    scene.die(-signal.SIGABRT, "a")
    scene.die(-signal.SIGABRT, "a", "b")
    assert scene.counts() == {"a": 2}


@pytest.mark.parametrize(
    "code", [-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP, UNPREPARED, WORN], ids=str
)
def test_ends_by_others_or_on_purpose_blame_no_function(code: int) -> None:
    scene = Scene()
    assert scene.die(code, "a") == []
    assert scene.counts() == {}


def test_kills_for_lack_of_memory_or_a_blocked_loop_count() -> None:
    scene = Scene()
    scene.oom_kills = 1
    assert scene.die(-signal.SIGKILL, "a")
    assert scene.die(-signal.SIGKILL, "a") == []
    assert scene.die(-signal.SIGKILL, "a", stood_still=True)
    assert scene.counts() == {"a": 2}


def test_no_function_is_blamed_if_none_runs_or_it_was_removed_or_changed() -> None:
    scene = Scene()
    assert scene.die(-signal.SIGABRT) == []
    assert scene.die(-signal.SIGABRT, "gone") == []
    scene.die(-signal.SIGABRT, "a")
    scene.digests["a"] = "another digest"
    scene.die(-signal.SIGABRT, "a")
    assert scene.state.read()[1].deaths == {"a": ("another digest", 1)}


def test_slots_are_reused_and_limited() -> None:
    running = SharedState(2).running
    running.worker = 1
    places = [running.begin(key_of(str(number))) for number in range(PLACES + 2)]
    assert places == [*range(PLACES), -1, -1]
    running.end(places[7])
    running.end(-1)
    assert running.begin(key_of("again")) == 7
    assert key_of("again") in running.of(1)
    assert running.of(0) == frozenset()
    for place in range(PLACES):
        running.end(place)
    assert running.of(1) == frozenset()


def test_kills_for_lack_of_memory_are_read_from_the_control_group(tmp_path: Path) -> None:
    file = tmp_path / "memory.events"
    assert count_oom_kills(file) == 0
    file.write_text("low 0\noom 3\noom_kill 2\n")
    assert count_oom_kills(file) == 2
    file.write_text("nonsense")
    assert count_oom_kills(file) == 0

"""Scenes of several processes with one `SharedState`; `python -m tests.builders.shared_scenes NAME` runs one.

They run in their own process, because the tests' process has threads, and such a process should not fork.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial

from tests.builders.stages import update_stages
from turnout.gateway.observers.line_writer import LineWriter
from turnout.gateway.rules.stages import StageSettings
from turnout.gateway.shared.counters import CounterKey
from turnout.gateway.shared.state import LINES_LOCK, ControlState, SharedState
from turnout.gateway.workers.workers import fork
from turnout.manifest.parser import Throttle

EMPTY = ControlState(1, (), {})


def in_children(number: int, child: Callable[[int], object]) -> None:
    """Run in this number of processes at once, and wait for them."""

    def run(which: int) -> int:
        child(which)
        return 0

    pids = [fork(partial(run, which)) for which in range(number)]
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0


def throttle() -> object:
    """Return how many of 50 takes in each of 4 processes a bucket of 30 admits."""
    state = SharedState(4)
    state.publish(EMPTY)

    def take(which: int) -> None:
        state.become(which)
        bucket = state.buckets.bucket_of("prod", Throttle(1e-9, 30))
        for _ in range(50):
            state.counters.record(("prod", "f", False), 200 if bucket.take(time.monotonic()) else 429, 0.001)

    in_children(4, take)
    (counts,) = state.counters.read().values()
    return counts.statuses


def counters() -> object:
    """Return what 3 processes count of one item, one of them restarted with its own rows."""
    state = SharedState(3)

    def count(which: int) -> None:
        state.become(which % 3)
        for _ in range(1000):
            state.counters.record(("prod", "f", True), 200, 0.0015)
        state.counters.record(("prod", f"f{which}", True), 504, 29.0)

    in_children(3, count)
    in_children(1, count)
    rows = state.counters.read()
    return [rows[CounterKey("prod", "f", True)].requests, rows[CounterKey("prod", "f0", True)].statuses[4], len(rows)]


def publish() -> object:
    """2 processes change their own stage 200 times each: no change is lost, and each sees its change immediately."""
    state = SharedState(2)
    stages = tuple(StageSettings(f"s{which}", "api", "d", {"n": "0"}) for which in range(2))
    state.publish(ControlState(1, stages, {}))

    def change(which: int) -> None:
        for turn in range(1, 201):
            update_stages(state, {f"s{which}": StageSettings(f"s{which}", "api", "d", {"n": str(turn)})})
            (mine,) = (stage for stage in state.read()[1].stages if stage.name == f"s{which}")
            assert mine.variables["n"] == str(turn)

    in_children(2, change)
    generation, now = state.read()
    return [generation, [stage.variables["n"] for stage in now.stages]]


def killed_holder() -> object:
    """A process is killed while it changes the state and holds a bucket's lock: others continue with the old state."""
    state = SharedState(1)
    state.publish(EMPTY)
    ready, written = os.pipe()

    def hold() -> int:
        def never(_: ControlState | None) -> ControlState:
            os.write(written, b".")
            time.sleep(60)
            return EMPTY

        state.lock.take(16)
        state.update(never)
        return 0

    pid = fork(hold)
    os.read(ready, 1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    taken = state.buckets.bucket_of("prod", Throttle(1, 1)).take(0.0)
    return [taken, state.publish(ControlState(2, (), {})), state.read()[1].edition]


def slots() -> object:
    """A reserved concurrency of 3 across 2 processes; slots of a process that ends without releasing them are freed."""
    state = SharedState(2)
    entry = state.slots.slots_of("f", 3)

    def take(which: int) -> None:
        state.become(which)
        assert entry.take()
        assert entry.take() is (which == 0)

    in_children(1, take)
    state.become(1)
    taken = [entry.take(), entry.take()]
    state.forget(0)
    return [*taken, entry.take(), entry.take(), entry.take(), entry.give(), entry.take()]


def lines() -> object:
    """4 processes write long lines through one pipe: return how many arrived complete."""
    state = SharedState(4)
    reading, writing = os.pipe()

    def write(which: int) -> None:
        os.close(reading)
        with os.fdopen(writing, "w") as stream:
            for _ in range(20):
                with state.lock.hold(LINES_LOCK):
                    pass
                writer = LineWriter(stream, partial(state.lock.hold, LINES_LOCK))
                writer._lines = [str(which) * 50_000, "short"]
                writer.flush()

    pids = [fork(partial(_zero, write, which)) for which in range(4)]
    os.close(writing)
    with os.fdopen(reading) as stream:
        result = stream.read().splitlines()
    for pid in pids:
        os.waitpid(pid, 0)
    return [sum(len(set(line)) == 1 and len(line) == 50_000 for line in result), result.count("short"), len(result)]


def _zero(child: Callable[[int], object], which: int) -> int:
    child(which)
    return 0


SCENES = {scene.__name__: scene for scene in (throttle, counters, publish, killed_holder, slots, lines)}

if __name__ == "__main__":
    sys.stdout.write(json.dumps(SCENES[sys.argv[1]]()))

"""The state that all workers share: stages' settings and API keys, throttle budgets, counters, and connections.

It is made before the workers are forked, in anonymous memory that is freed with the last process.
"""

from __future__ import annotations

import mmap
import pickle
import secrets
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from turnout.gateway.rules.authorize import ApiKey
from turnout.gateway.rules.stages import Deployment, StageSettings
from turnout.gateway.shared.buckets import SharedBuckets
from turnout.gateway.shared.counters import Counters
from turnout.gateway.shared.gauges import SharedGauges
from turnout.gateway.shared.lock import SharedLock
from turnout.gateway.shared.running import SharedRunning
from turnout.gateway.shared.sessions import SharedSessions
from turnout.gateway.shared.slots import SharedSlots
from turnout.gateway.shared.span_counts import SharedSpanCounts

SETTINGS_BYTES = 16 * 1024 * 1024
"""The largest state that can be published; unused pages cost nothing."""

_GENERATION = 0
_HEAD_BYTES = 64
_LENGTH = struct.Struct("<Q")

_CONTROL_LOCK = 0
_COUNTERS_LOCK = 1
_BUCKETS_LOCK = 2
_SLOTS_LOCK = 3
LINES_LOCK = 4
"""Held by a worker that writes lines to a stream shared by all workers."""
CAPTURE_LOCK = 5
"""The same for the capture file."""
SAMPLES_LOCK = 6
"""Held while sampled requests are stored or taken."""
_CALLERS_LOCK = 7
_SPANS_LOCK = 8
_FIRST_BUCKET_LOCK = 16


@dataclass(frozen=True, slots=True)
class ControlState:
    """The state that the control plane reads and changes.

    Args:
        edition: number of the served reading of the project's files; only a reload changes it.
        stages: every stage.
        api_keys: stage name -> its keys.
        deployments: those made through the control plane, in addition to those with which the stages start.
        deaths: name of a function -> its digest, and how many workers it ended or may have ended.
    """

    edition: int
    stages: tuple[StageSettings, ...]
    api_keys: Mapping[str, tuple[ApiKey, ...]]
    deployments: tuple[Deployment, ...] = ()
    deaths: Mapping[str, tuple[str, int]] = field(default_factory=dict)


class SharedState:
    """One per gateway, shared by all processes forked after it was made.

    Args:
        workers: number of workers.

    Attributes:
        lock: locks for other uses between the workers; see the numbers in this module.
        counters: counters of this process's worker; see `become`.
        callers: the same, by consumer instead of function.
        buckets: the throttles' buckets.
        slots: slots of reserved concurrencies.
        running: records of running calls.
        sessions: memory of loaded versions.
        gauges: gauges of each worker, restarts and reloads.
        spans: counts of exported and dropped spans.
        started_s: when it was made, in seconds since 1970.
        replay_token: identifies replayed requests; a secret of this run.
        max_memory_bytes: memory limit of all processes together; 0 for no limit.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.started_s = time.time()
        self.replay_token = secrets.token_urlsafe(24)
        self.max_memory_bytes = 0
        self.lock = SharedLock()
        loads_bytes = 24 * workers
        sizes = (
            _HEAD_BYTES,
            loads_bytes,
            Counters.size_of(workers),
            SharedBuckets.SIZE_BYTES,
            SharedSlots.size_of(workers),
            SharedRunning.size_of(workers),
            SharedGauges.size_of(workers),
            SharedSessions.size_of(workers),
            2 * (SETTINGS_BYTES + _LENGTH.size),
            Counters.size_of(workers),
            SharedSpanCounts.size_of(workers),
        )
        memory = memoryview(mmap.mmap(-1, sum(sizes)))
        parts = []
        for size in sizes:
            parts.append(memory[:size])
            memory = memory[size:]
        self._head = parts[0].cast("Q")
        self._loads = parts[1].cast("Q")
        self.counters = Counters(parts[2], self.lock, _COUNTERS_LOCK, workers=workers)
        self.buckets = SharedBuckets(parts[3], self.lock, (_BUCKETS_LOCK, _FIRST_BUCKET_LOCK), self.generation)
        self.slots = SharedSlots(parts[4], self.lock, _SLOTS_LOCK, workers=workers)
        self.running = SharedRunning(parts[5])
        self.gauges = SharedGauges(parts[6], workers=workers)
        self.sessions = SharedSessions(parts[7], workers=workers)
        self._settings = parts[8]
        self.callers = Counters(parts[9], self.lock, _CALLERS_LOCK, workers=workers)
        self.spans = SharedSpanCounts(parts[10], partial(self.lock.hold, _SPANS_LOCK), workers=workers)

    # Control state.

    def generation(self) -> int:
        """Return a number that increases with each change; 0 before the first."""
        number: int = self._head[_GENERATION]
        return number

    def generation_word(self) -> memoryview:
        """Return that number's memory, for a check before each request: `[0]` reads it in 0.05 us."""
        return self._head[_GENERATION : _GENERATION + 1]

    def read(self) -> tuple[int, ControlState]:
        """Return the state and its generation."""
        with self.lock.hold(_CONTROL_LOCK):
            return self._read()

    def publish(self, state: ControlState) -> int:
        """Set the state; every worker uses it for each request that starts after this returns.

        Returns:
            Its generation.

        Raises:
            ValueError: it is larger than `SETTINGS_BYTES`; nothing has changed.
        """
        return self.update(lambda _: state)

    def update(self, change: Callable[[ControlState | None], ControlState]) -> int:
        """Change the current state under the lock; otherwise like `publish`.

        Args:
            change: makes the new state from the current one, None before the first; its exceptions change nothing.
        """
        with self.lock.hold(_CONTROL_LOCK):
            generation = self.generation()
            state = change(self._read()[1] if generation else None)
            data = pickle.dumps(state, pickle.HIGHEST_PROTOCOL)
            if len(data) > SETTINGS_BYTES:
                raise ValueError(f"the stages' settings take {len(data):,} bytes, {SETTINGS_BYTES:,} are allowed")
            at = self._half(generation + 1)
            _LENGTH.pack_into(self._settings, at, len(data))
            self._settings[at + _LENGTH.size : at + _LENGTH.size + len(data)] = data
            # Last: a process that is killed before this has changed nothing that others read.
            self._head[_GENERATION] = generation + 1
            return generation + 1

    def _read(self) -> tuple[int, ControlState]:
        generation = self.generation()
        at = self._half(generation)
        (length,) = _LENGTH.unpack_from(self._settings, at)
        data = self._settings[at + _LENGTH.size : at + _LENGTH.size + length]
        state: ControlState = pickle.loads(data)  # noqa: S301 - written by this process or one forked with it
        return generation, state

    def _half(self, generation: int) -> int:
        """Return the place of a generation: next to the previous one, which stays intact until it is out of date."""
        return (generation % 2) * (SETTINGS_BYTES + _LENGTH.size)

    # Connections per worker.

    def become(self, worker: int) -> None:
        """Set the number of this process's worker, right after the fork."""
        self.counters.use_rows_of(worker)
        self.callers.use_rows_of(worker)
        self.slots.worker = self.running.worker = self.sessions.worker = self.spans.worker = worker

    def forget(self, worker: int) -> None:
        """Reset the connections and running calls of a worker that is about to be started."""
        self._loads[2 * worker] = self._loads[2 * worker + 1] = self._loads[2 * self.workers + worker] = 0
        self.slots.forget(worker)
        self.running.forget(worker)
        self.gauges.forget(worker)
        self.sessions.forget(worker)

    def add_connections(self, worker: int, number: int) -> None:
        """Count connections given to a worker; only the supervisor calls this."""
        self._loads[2 * worker] += number

    def drop_connection(self, worker: int) -> None:
        """Count a connection that has closed, in the worker that had it."""
        self._loads[2 * worker + 1] += 1

    def open_connections(self, worker: int) -> int:
        """Return the number of connections given to a worker that it has not reported as closed."""
        open_now: int = self._loads[2 * worker] - self._loads[2 * worker + 1]
        return open_now

    # Liveness of workers.

    def beat(self, worker: int) -> None:
        """Count an iteration of a worker's event loop; the worker itself calls it from time to time."""
        self._loads[2 * self.workers + worker] += 1

    def beats(self, worker: int) -> int:
        """Return the iterations that a worker has counted.

        While the number does not change, its event loop is blocked.
        """
        number: int = self._loads[2 * self.workers + worker]
        return number

"""The state that all workers share: stages' settings and API keys, throttle budgets, counters, and connections.

Made before the workers are forked; it lives in anonymous memory and goes with the last of them.
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
"""The largest state that can be published; pages never written cost nothing."""

_GENERATION = 0
_HEAD_BYTES = 64
_LENGTH = struct.Struct("<Q")

_CONTROL_LOCK = 0
_COUNTERS_LOCK = 1
_BUCKETS_LOCK = 2
_SLOTS_LOCK = 3
LINES_LOCK = 4
"""Held by a worker that writes lines to a stream which all write to."""
CAPTURE_LOCK = 5
"""The same, of the file that requests are captured to."""
SAMPLES_LOCK = 6
"""Held while sampled requests are kept or taken."""
_CALLERS_LOCK = 7
_SPANS_LOCK = 8
_FIRST_BUCKET_LOCK = 16


@dataclass(frozen=True, slots=True)
class ControlState:
    """The state that the control plane reads and changes.

    Args:
        edition: which reading of the project's files is served; only a reload changes it.
        stages: every stage.
        api_keys: stage name -> its keys.
        deployments: those made through the control plane, besides the ones that the stages start with.
        deaths: name of a function -> what it was made of, and how many workers it ended or may have ended.
    """

    edition: int
    stages: tuple[StageSettings, ...]
    api_keys: Mapping[str, tuple[ApiKey, ...]]
    deployments: tuple[Deployment, ...] = ()
    deaths: Mapping[str, tuple[str, int]] = field(default_factory=dict)


class SharedState:
    """One per gateway, shared by all processes forked after it was made.

    Args:
        workers: how many there are.

    Attributes:
        lock: for other uses between the workers; see the numbers of this module.
        counters: of the worker that this process is; see `become`.
        callers: the same, by consumer instead of function.
        buckets: the throttles'.
        slots: the reserved concurrencies'.
        running: what each worker runs.
        sessions: what each worker's loaded versions take.
        gauges: what each worker has, and restarts and reloads.
        spans: how many were exported and dropped.
        started_s: when it was made, in seconds since 1970.
        replay_token: by which replayed requests are known; a secret of this run.
        max_memory_bytes: that all processes together may take; 0 where it is not limited.
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
        """A number that grows with each change; 0 before the first."""
        number: int = self._head[_GENERATION]
        return number

    def generation_word(self) -> memoryview:
        """That number's memory, for a look before each request: `[0]` reads it in 0.05 us."""
        return self._head[_GENERATION : _GENERATION + 1]

    def read(self) -> tuple[int, ControlState]:
        """The state and its generation."""
        with self.lock.hold(_CONTROL_LOCK):
            return self._read()

    def publish(self, state: ControlState) -> int:
        """Make this the state; every worker obeys it in each request that begins after this returns.

        Returns:
            Its generation.

        Raises:
            ValueError: it is larger than `SETTINGS_BYTES`; nothing has changed.
        """
        return self.update(lambda _: state)

    def update(self, change: Callable[[ControlState | None], ControlState]) -> int:
        """Change the current state under the lock; otherwise as `publish`.

        Args:
            change: makes the new state out of the present one, None before the first; what it raises changes nothing.
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
        """The place of a generation: next to the one before it, which stays whole until it is out of date."""
        return (generation % 2) * (SETTINGS_BYTES + _LENGTH.size)

    # Connections per worker.

    def become(self, worker: int) -> None:
        """Say which worker this process is, right after it was forked."""
        self.counters.use_rows_of(worker)
        self.callers.use_rows_of(worker)
        self.slots.worker = self.running.worker = self.sessions.worker = self.spans.worker = worker

    def forget(self, worker: int) -> None:
        """A worker is about to be started: it has no connections and runs nothing."""
        self._loads[2 * worker] = self._loads[2 * worker + 1] = self._loads[2 * self.workers + worker] = 0
        self.slots.forget(worker)
        self.running.forget(worker)
        self.gauges.forget(worker)
        self.sessions.forget(worker)

    def add_connections(self, worker: int, number: int) -> None:
        """Count connections given to a worker; called by the one process that gives them."""
        self._loads[2 * worker] += number

    def drop_connection(self, worker: int) -> None:
        """Count a connection that has closed; called by the worker itself."""
        self._loads[2 * worker + 1] += 1

    def open_connections(self, worker: int) -> int:
        """Those given to a worker that it has not reported as closed, answered or not."""
        open_now: int = self._loads[2 * worker] - self._loads[2 * worker + 1]
        return open_now

    # Liveness of workers.

    def beat(self, worker: int) -> None:
        """Count a turn of a worker's event loop; called by the worker itself, now and then."""
        self._loads[2 * self.workers + worker] += 1

    def beats(self, worker: int) -> int:
        """The turns that a worker has counted. While the number does not change, its event loop is blocked."""
        number: int = self._loads[2 * self.workers + worker]
        return number

"""Counters of requests by function, with outcomes and durations: each worker counts, readers add up.

Each worker has its own rows that no other process writes, so counting needs no lock; a restarted worker continues in
the rows of the one that died.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field

from turnout.gateway.shared.directory import Directory, DirectoryFullError
from turnout.gateway.shared.lock import SharedLock

BOUNDS_S = (
    *(0.0005, 0.0007, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.05, 0.07),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0),
)
"""Upper bounds of the histogram's buckets, inclusive; one more bucket contains longer durations."""

CAPACITY = 4096
"""Most rows: called functions of all stages, times two. Further ones are counted in one additional row."""


ERROR_STATUSES = (
    *(
        400,
        401,
        402,
        403,
        404,
        405,
        406,
        408,
        409,
        410,
        411,
        412,
        413,
        414,
        415,
        416,
        417,
        422,
        424,
        426,
        428,
        429,
        431,
    ),
    *(451, 499, 500, 501, 502, 503, 504, 505, 507),
)
"""Statuses with a counter of their own; all others are counted only in their class."""

_CLASSES = 6  # the first column, which matches no status, holds microseconds
_FAILURES = _CLASSES
_DURATIONS = _FAILURES + 1
_STATUSES = _DURATIONS + len(BOUNDS_S) + 1
_COLUMNS = _STATUSES + len(ERROR_STATUSES)
_STATUS_COLUMNS = {status: _STATUSES + place for place, status in enumerate(ERROR_STATUSES)}
_ROW_BYTES = 8 * _COLUMNS


ASYNC = "async"
"""The kind of asynchronous runs."""

ROUTED = "routed"
"""The kind of requests whose version a router chose, by that version's function; they also count as the router's."""

Key = tuple[str, str, bool] | tuple[str, str, bool, str]
"""The fields of a `CounterKey`."""


@dataclass(frozen=True, slots=True)
class CounterKey:
    """The key of one counter.

    Args:
        stage: the stage's name; empty for requests that matched none.
        function: the function of the route; empty for requests that were rejected before.
        is_canary: whether it is the canary's share of the stage's traffic.
        kind: `async` for runs of asynchronous requests, which may wait and take any time; `routed` for a router's
            choices; else empty.
    """

    stage: str
    function: str
    is_canary: bool
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Counts:
    """Everything since the start.

    Args:
        statuses: number of answers by the first digit of their status, 1-5: `statuses[4]` is the 5xx.
        failures: number of requests that the function failed, whether or not their callers noticed.
        seconds: total duration of all requests.
        durations: number of requests by `BOUNDS_S`, one number more than there are bounds.
        errors: status -> number of answers, for those of `ERROR_STATUSES` that occurred.
    """

    statuses: tuple[int, ...]
    failures: int
    seconds: float
    durations: tuple[int, ...]
    errors: Mapping[int, int] = field(default_factory=dict)

    @property
    def requests(self) -> int:
        """The number of all requests."""
        return sum(self.statuses)


class Counters:
    """The table, as one worker sees it.

    Args:
        memory: `size_of(workers)` bytes, initially zero.
        lock: shared by all workers; held while a row gets its name.
        number: the lock's number.
        workers: number of workers.
        worker: the worker whose rows `record` writes.
    """

    def __init__(self, memory: memoryview, lock: SharedLock, number: int, *, workers: int, worker: int = 0) -> None:
        end = Directory.size_of(CAPACITY)
        self._directory = Directory(memory[:end], lock, number)
        self._table = memory[end : self.size_of(workers)].cast("Q")
        self._workers = workers
        self._first = worker * (CAPACITY + 1) * _COLUMNS
        self._places: dict[Key, int] = {}

    @staticmethod
    def size_of(workers: int) -> int:
        """Return the number of bytes for this number of workers."""
        return Directory.size_of(CAPACITY) + workers * (CAPACITY + 1) * _ROW_BYTES

    def use_rows_of(self, worker: int) -> None:
        """Start to write the rows of a worker; each forked process calls this with its number."""
        self._first = worker * (CAPACITY + 1) * _COLUMNS
        self._places.clear()

    def record(self, key: Key, status: int, seconds: float, *, failed: bool = False) -> None:
        """Count one answer.

        Args:
            key: stage, function, whether canary, and the kind if it has one.
            status: 100-599.
            seconds: how long it took.
            failed: whether the function failed the request.
        """
        place = self._places.get(key)
        if place is None:
            place = self._place(key)
        table = self._table
        table[place] += int(seconds * 1e6)
        table[place + min(status // 100, 5)] += 1
        table[place + _DURATIONS + bisect_left(BOUNDS_S, seconds)] += 1
        if failed:
            table[place + _FAILURES] += 1
        if status in _STATUS_COLUMNS:
            table[place + _STATUS_COLUMNS[status]] += 1

    def read(self) -> Mapping[CounterKey, Counts]:
        """Return everything that all workers counted, by key."""
        return {
            CounterKey(*json.loads(name)): _sum(self._rows(row)) for name, row in sorted(self._directory.rows().items())
        }

    def _place(self, key: Key) -> int:
        try:
            row = self._directory.number_of(json.dumps(key))
        except DirectoryFullError:
            row = CAPACITY
        place = self._places[key] = self._first + row * _COLUMNS
        return place

    def _rows(self, row: int) -> list[list[int]]:
        starts = [(worker * (CAPACITY + 1) + row) * _COLUMNS for worker in range(self._workers)]
        return [self._table[start : start + _COLUMNS].tolist() for start in starts]


def _sum(rows: list[list[int]]) -> Counts:
    total = [sum(column) for column in zip(*rows, strict=True)]
    errors = {status: total[column] for status, column in _STATUS_COLUMNS.items() if total[column]}
    return Counts(
        tuple(total[1:_CLASSES]), total[_FAILURES], total[0] / 1e6, tuple(total[_DURATIONS:_STATUSES]), errors
    )

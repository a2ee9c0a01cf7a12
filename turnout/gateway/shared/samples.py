"""Sampled requests of all workers, stored for checking a canary's agreement; any worker returns them.

They are stored only in anonymous memory, up to a limit, and for a limited time.
"""

from __future__ import annotations

import mmap
import struct
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from turnout.gateway.shared.lock import SharedLock

CAPACITY_BYTES = 16 * 1024 * 1024
"""Most bytes of all samples together; unused pages cost nothing."""

LARGEST_BYTES = 1024 * 1024
"""Most bytes of one sample."""

OLDEST_S = 600.0
"""Age at which samples are dropped: a canary's samples are of no use to the next one."""

_USED = struct.Struct("<Q")
# whether the sample was taken, when, length of `stage/model`, length of the line, in bytes
_HEAD = struct.Struct("<BdHI")


@dataclass(frozen=True, slots=True)
class _Row:
    """One sample: its place in the table, whether it was taken, its time, and its content."""

    position: int
    end: int
    is_taken: bool
    when: float
    stage: str
    model: str
    line: bytes


class SharedSamples:
    """The table, as one worker sees it.

    Args:
        lock: shared by all workers.
        number: the lock's number.
        clock: seconds of a clock that all workers share.
    """

    def __init__(self, lock: SharedLock, number: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._memory = memoryview(mmap.mmap(-1, _USED.size + CAPACITY_BYTES))
        self._word = self._memory[: _USED.size].cast("Q")
        self._table = self._memory[_USED.size :]
        self._lock = lock
        self._number = number
        self._clock = clock

    def add(self, stage: str, line: bytes, model: str = "") -> None:
        """Store a line unless it is too large; if there is no space left, older ones are dropped."""
        if len(line) > LARGEST_BYTES:
            return
        name = f"{stage}/{model}".encode()
        row = _HEAD.pack(0, self._clock(), len(name), len(line)) + name + line
        with self._lock.hold(self._number):
            used = self._word[0]
            if used + len(row) > CAPACITY_BYTES:
                used = self._make_room()
            self._table[used : used + len(row)] = row
            # Last: a process that is killed before this has added nothing.
            self._word[0] = used + len(row)

    def take(self, stage: str, limit: int, models: Collection[str] = ()) -> list[bytes]:
        """Return the oldest lines of a stage that were not taken before, at most `limit`; `recent` still returns them.

        Args:
            stage: its name.
            limit: the most that are wanted.
            models: models whose lines are returned; empty for all. Each canary reads its own.
        """
        taken: list[bytes] = []
        since = self._clock() - OLDEST_S
        with self._lock.hold(self._number):
            for row in self._rows():
                if len(taken) == limit:
                    break
                is_wanted = row.stage == stage and (not models or row.model in models)
                if is_wanted and not row.is_taken and row.when >= since:
                    taken.append(row.line)
                    self._table[row.position] = 1
        return taken

    def recent(self, stage: str, limit: int) -> list[bytes]:
        """Return the newest lines of a stage, at most `limit`, newest first, whether or not they were taken."""
        since = self._clock() - OLDEST_S
        with self._lock.hold(self._number):
            lines = [row.line for row in self._rows() if row.stage == stage and row.when >= since]
        return lines[: -limit - 1 : -1]

    def _make_room(self) -> int:
        """Drop taken and old samples, or everything if the rest fills more than half; return the used bytes."""
        since = self._clock() - OLDEST_S
        data = bytes(self._table[: self._word[0]])
        kept = b"".join(data[row.position : row.end] for row in self._rows() if not row.is_taken and row.when >= since)
        if len(kept) > CAPACITY_BYTES // 2:
            kept = b""
        self._word[0] = 0
        self._table[: len(kept)] = kept
        self._word[0] = len(kept)
        return len(kept)

    def _rows(self) -> Iterator[_Row]:
        data = bytes(self._table[: self._word[0]])
        position = 0
        while position < len(data):
            is_taken, when, stage_bytes, line_bytes = _HEAD.unpack_from(data, position)
            start = position + _HEAD.size
            end = start + stage_bytes + line_bytes
            stage, _, model = data[start : start + stage_bytes].decode().partition("/")
            yield _Row(position, end, is_taken == 1, when, stage, model, data[start + stage_bytes : end])
            position = end

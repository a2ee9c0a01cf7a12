"""Sampled requests, kept for whoever checks a canary's agreement, whichever worker answered them and is asked.

They lie in anonymous memory only, a bounded part of it, and for a bounded time.
"""

from __future__ import annotations

import mmap
import struct
import time
from collections.abc import Callable, Iterator

from turnout.gateway.shared.lock import SharedLock

CAPACITY_BYTES = 16 * 1024 * 1024
"""Of all samples together; pages never written cost nothing."""

LARGEST_BYTES = 1024 * 1024
"""Of one sample."""

OLDEST_S = 600.0
"""A canary's samples are of no use to the next one."""

_USED = struct.Struct("<Q")
_HEAD = struct.Struct("<dHI")  # when, bytes of the stage's name, bytes of the line


class SharedSamples:
    """The table, as one worker sees it.

    Args:
        lock: shared by all workers.
        number: the lock's number.
        clock: seconds that all workers count alike.
    """

    def __init__(self, lock: SharedLock, number: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._memory = memoryview(mmap.mmap(-1, _USED.size + CAPACITY_BYTES))
        self._word = self._memory[: _USED.size].cast("Q")
        self._table = self._memory[_USED.size :]
        self._lock = lock
        self._number = number
        self._clock = clock

    def add(self, stage: str, line: bytes) -> None:
        """Keep a line unless it is too large; where there is no room left, all that is there gives way."""
        if len(line) > LARGEST_BYTES:
            return
        name = stage.encode()
        row = _HEAD.pack(self._clock(), len(name), len(line)) + name + line
        with self._lock.hold(self._number):
            used = self._word[0]
            if used + len(row) > CAPACITY_BYTES:
                used = 0
            self._table[used : used + len(row)] = row
            # Last: a process that is killed before this has added nothing.
            self._word[0] = used + len(row)

    def take(self, stage: str, limit: int) -> list[bytes]:
        """The oldest lines of a stage, at most `limit`, which are gone then; so is what is too old, of any stage."""
        name = stage.encode()
        taken: list[bytes] = []
        kept: list[bytes] = []
        since = self._clock() - OLDEST_S
        with self._lock.hold(self._number):
            for when, of, line in self._rows(bytes(self._table[: self._word[0]])):
                if when < since:
                    continue
                if of == name and len(taken) < limit:
                    taken.append(line)
                else:
                    kept.append(_HEAD.pack(when, len(of), len(line)) + of + line)
            rest = b"".join(kept)
            self._word[0] = 0
            self._table[: len(rest)] = rest
            self._word[0] = len(rest)
        return taken

    @staticmethod
    def _rows(data: bytes) -> Iterator[tuple[float, bytes, bytes]]:
        position = 0
        while position < len(data):
            when, stage_bytes, line_bytes = _HEAD.unpack_from(data, position)
            start = position + _HEAD.size
            position = start + stage_bytes + line_bytes
            yield when, data[start : start + stage_bytes], data[start + stage_bytes : position]

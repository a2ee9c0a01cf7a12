"""Token buckets in shared memory: a stage's throttle holds over all workers together.

Comes in: a stage's name and its throttle. Goes out: a `Bucket`. Called by the gateway's stages, in every worker.

A row is five numbers: when its throttle was set (the control state's generation and one), rate, burst, tokens, the
clock when these were counted. A take is one locked read and write of 40 bytes: about 3 us.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable

from turnout.gateway.shared.directory import Directory, DirectoryFullError
from turnout.gateway.shared.lock import SharedLock
from turnout.gateway.throttle import Bucket, TokenBucket, has_token, refill
from turnout.manifest import Throttle

log = logging.getLogger(__name__)

_ROW = struct.Struct("<Qdddd")
CAPACITY = 1024
"""Stages that were ever throttled since the start."""


class SharedBuckets:
    """Every throttled stage's bucket.

    Args:
        memory: `SIZE_BYTES`, zero at first.
        lock: shared by all workers.
        numbers: of the lock: the directory's, and the first of the rows'.
        generation: the control state's at this moment.
    """

    SIZE_BYTES = Directory.size_of(CAPACITY) + CAPACITY * _ROW.size

    def __init__(
        self, memory: memoryview, lock: SharedLock, numbers: tuple[int, int], generation: Callable[[], int]
    ) -> None:
        end = Directory.size_of(CAPACITY)
        self._directory = Directory(memory[:end], lock, numbers[0])
        self._rows = memory[end : self.SIZE_BYTES]
        self._lock = lock
        self._first_number = numbers[1]
        self._generation = generation

    def bucket_of(self, stage: str, throttle: Throttle) -> Bucket:
        """The bucket of a stage; one that was there already keeps its count while its two numbers stay as they are."""
        try:
            row = self._directory.number_of(stage)
        except DirectoryFullError:
            log.warning("stage %s: more than %d stages were throttled; each worker counts alone", stage, CAPACITY)
            return TokenBucket(throttle)
        number = self._first_number + row
        return SharedBucket(self._rows, row * _ROW.size, self._lock, number, throttle, self._generation())


class SharedBucket:
    """One row.

    Args:
        memory: all rows.
        offset: where this one begins.
        lock: shared by all workers.
        number: the lock's number for this row.
        throttle: rate and burst.
        generation: the control state that set them. A worker that has not yet seen a newer one cannot undo it.
    """

    __slots__ = ("_generation", "_lock", "_memory", "_number", "_offset", "_throttle")

    def __init__(
        self, memory: memoryview, offset: int, lock: SharedLock, number: int, throttle: Throttle, generation: int
    ) -> None:
        self._memory = memory
        self._offset = offset
        self._lock = lock
        self._number = number
        self._throttle = throttle
        self._generation = generation + 1  # 0 is a row that nobody has used

    def take(self, now: float) -> bool:
        """Take one token; the clock must be one for all processes, as `time.monotonic` is."""
        self._lock.take(self._number)  # only the event loop's thread gets here
        try:
            generation, rate, burst, tokens, last = _ROW.unpack_from(self._memory, self._offset)
            throttle = self._throttle
            if generation <= self._generation:
                if generation == 0 or (rate, burst) != (throttle.rate, throttle.burst):
                    tokens, last = float(throttle.burst), now
                generation = self._generation
            else:
                throttle = Throttle(rate, int(burst))
            if now > last:
                tokens = refill(throttle, tokens, now - last)
                last = now
            is_taken = has_token(tokens)
            if is_taken:
                tokens -= 1
            _ROW.pack_into(
                self._memory, self._offset, generation, float(throttle.rate), float(throttle.burst), tokens, last
            )
        finally:
            self._lock.give_back(self._number)
        return is_taken

"""Token buckets in shared memory: a stage's throttle applies across all workers.

A row contains seven numbers: when its throttle was set (the control state's generation plus one), rate, burst, tokens,
the time when these were counted, the tokens that workers have on lease, and the time when the last lease ends.

Taking a token is one locked read and write of 56 bytes: about 3 us, plus a wait if another worker was suspended in the
middle of it. Therefore a busy worker takes several tokens at once, if there are plenty, and spends them in the next
milliseconds without locking. Leased tokens count as being in the bucket while it is refilled: at no time can more
requests pass than burst and rate allow. Tokens that are not spent in time are lost; a worker that lost some starts with
single tokens again.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable

from turnout.gateway.rules.throttle import Bucket, TokenBucket, has_token, refill
from turnout.gateway.shared.directory import Directory, DirectoryFullError
from turnout.gateway.shared.lock import SharedLock
from turnout.manifest.parser import Throttle

log = logging.getLogger(__name__)

_ROW = struct.Struct("<Qdddddd")

LEASE_S = 0.01
LARGEST_LEASE = 64
_SHARE_OF_RATE_S = 0.005  # one of several busy workers spends a lease in half its lifetime
_SHARE_OF_TOKENS = 16
CAPACITY = 1024
"""Most stages that were throttled since the start."""


class SharedBuckets:
    """Every throttled stage's bucket.

    Args:
        memory: `SIZE_BYTES`, initially zero.
        lock: shared by all workers.
        numbers: numbers of locks: the directory's, and the first of the rows'.
        generation: returns the control state's current generation.
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
        """Return the bucket of a stage; an existing one keeps its count while its two limits are unchanged."""
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
        offset: start of this row.
        lock: shared by all workers.
        number: the lock's number for this row.
        throttle: rate and burst.
        generation: the control state that set the limits. A worker that has not yet seen a newer one cannot undo it.
    """

    __slots__ = (
        "_generation",
        "_held",
        "_held_until",
        "_lease",
        "_lock",
        "_memory",
        "_number",
        "_offset",
        "_throttle",
    )

    def __init__(
        self, memory: memoryview, offset: int, lock: SharedLock, number: int, throttle: Throttle, generation: int
    ) -> None:
        self._memory = memory
        self._offset = offset
        self._lock = lock
        self._number = number
        self._throttle = throttle
        self._generation = generation + 1  # 0 marks an unused row
        self._held = 0  # tokens on lease
        self._held_until = 0.0
        self._lease = 0  # size of the next lease: it doubles while leases are spent in time

    def take(self, now: float) -> bool:
        """Take one token; the clock must be the same for all processes, as `time.monotonic` is."""
        is_in_time = self._held_until - LEASE_S <= now < self._held_until
        if self._held and is_in_time:
            self._held -= 1
            return True
        self._lease = 2 * self._lease + 1 if is_in_time else 0
        self._held, self._held_until = 0, now + LEASE_S
        self._lock.take(self._number)  # only the event loop's thread runs this
        try:
            generation, rate, burst, tokens, last, leased, leased_until = _ROW.unpack_from(self._memory, self._offset)
            throttle = self._throttle
            if generation <= self._generation:
                if generation == 0 or (rate, burst) != (throttle.rate, throttle.burst):
                    tokens, last, leased = float(throttle.burst), now, 0.0
                generation = self._generation
            else:
                throttle = Throttle(rate, int(burst))
            if now >= leased_until:
                leased = 0.0
            if now > last:
                tokens = min(refill(throttle, tokens, now - last), throttle.burst - leased)
                last = now
            is_taken = has_token(tokens)
            if is_taken:
                tokens -= 1
                most = min(LARGEST_LEASE, throttle.rate * _SHARE_OF_RATE_S, tokens / _SHARE_OF_TOKENS)
                self._lease = self._held = min(self._lease, int(most))
                if self._held:
                    tokens -= self._held
                    leased, leased_until = leased + self._held, max(leased_until, self._held_until)
            _ROW.pack_into(
                self._memory,
                self._offset,
                generation,
                float(throttle.rate),
                float(throttle.burst),
                tokens,
                last,
                leased,
                leased_until,
            )
        finally:
            self._lock.give_back(self._number)
        return is_taken

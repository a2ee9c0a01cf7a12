"""The memory that loaded versions may take: when it is used up, the idle ones used least recently are unloaded.

A version that runs, waits or loads is never unloaded; if those alone exceed the budget, they exceed it. All workers
share one budget: each may use what the others leave, and gives it back above its equal share when the total is too
large. A session's memory is estimated before it is loaded. The process's resident memory, read once a second, corrects
the sum: for wrong estimates, request bodies, fragmentation, a transform's own data.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from turnout.gateway.shared.sessions import SessionUse, SharedSessions

log = logging.getLogger("turnout.functions")

TRIM_BYTES = 32 * 1024 * 1024
"""Bytes that are unloaded before the allocator is asked to give memory back to the system: that walks through its
heaps."""


class Evictable(Protocol):
    """Something that takes memory while it is loaded, and can be loaded again."""

    @property
    def used_s(self) -> float:
        """When it was called last, in seconds of a clock that all of them share."""
        ...

    @property
    def is_idle(self) -> bool:
        """Whether it is loaded, and nothing runs or waits."""
        ...

    def evict(self) -> Any:
        """Let go of it; what this returns takes the memory until it is dropped."""
        ...


class SessionBudget:
    """One worker's part of the budget.

    Args:
        limit_bytes: of all workers together, the processes themselves included.
        shared: what each worker uses.
        trim: gives freed memory back to the system; slow, so it is called in a thread.
        in_process: whether what is loaded takes the worker's own memory, not that of other processes.

    All methods but `drop` are called on the event loop.
    """

    def __init__(
        self, limit_bytes: int, shared: SharedSessions, trim: Callable[[], None], *, in_process: bool = True
    ) -> None:
        self.limit_bytes = limit_bytes
        self._shared = shared
        self._trim = trim
        self._in_process = in_process
        self._allowance = limit_bytes
        self._base_resident = 0
        self._loaded: dict[Evictable, int] = {}
        self._accounted = 0
        self._unaccounted = 0
        self._untrimmed = 0
        self._loads = 0
        self._evictions = 0

    def start(self, own_bytes: int, resident_bytes: int) -> None:
        """A worker starts.

        Args:
            own_bytes: its own share of the memory that the server takes with nothing loaded.
            resident_bytes: its resident memory, which contains what it shares with others.
        """
        processes = self._shared.workers + 1  # the supervisor is one more process
        self._allowance = max(0, self.limit_bytes - processes * own_bytes)
        self._base_resident = resident_bytes
        if not self._allowance:
            log.warning(
                "--max-memory %d MB is less than the server takes by itself: each version is unloaded after its calls",
                self.limit_bytes // 1_000_000,
            )

    @property
    def used_bytes(self) -> int:
        """Memory of this worker's loaded versions."""
        return max(0, self._accounted + self._unaccounted)

    def has_room(self, size: int) -> bool:
        """Whether so much can be loaded without unloading anything."""
        return self._missing(size) <= 0

    def begin(self, item: Evictable, size: int) -> list[Any]:
        """Count what is about to be loaded, and unload what has to make room for it.

        Returns:
            What was unloaded; it is dropped by `drop`, in a thread, before the new one is loaded.
        """
        evicted = self._evict(self._missing(size))
        self._loaded[item] = size
        self._accounted += size
        self._loads += 1
        self._write()
        return evicted

    def resize(self, item: Evictable, size: int) -> None:
        """A loaded item takes another amount than was counted."""
        if item in self._loaded:
            self._accounted += size - self._loaded[item]
            self._loaded[item] = size

    def end(self, item: Evictable) -> None:
        """An item is not loaded any more, or failed to load."""
        size = self._loaded.pop(item, None)
        if size is not None:
            self._accounted -= size
            self._write()

    def look(self, resident_bytes: int) -> list[Any]:
        """Compare with what the process really takes, and unload what is too much; to be called about once a second.

        Returns:
            What was unloaded, for `drop`.
        """
        if self._in_process:
            # Not much below the estimate: pages of a session that was just loaded may not have been touched yet.
            grown = max(resident_bytes - self._base_resident, self._accounted // 2)
            self._unaccounted = grown - self._accounted
        self._write()
        return self.shed()

    def shed(self) -> list[Any]:
        """Unload what is too much: all of it where this worker has more than its share, else the others give back."""
        share = self._allowance // self._shared.workers
        evicted = self._evict(min(self._missing(0), self.used_bytes - share))
        self._write()
        return evicted

    def drop(self, evicted: list[Any]) -> None:
        """Free what was unloaded; called in a thread."""
        if not evicted:
            return
        evicted.clear()
        if self._untrimmed >= TRIM_BYTES:
            self._untrimmed = 0
            self._trim()

    def _missing(self, size: int) -> int:
        """Bytes to unload before so many more fit."""
        return self.used_bytes + self._shared.others_bytes() + size - self._allowance

    def _evict(self, missing: int) -> list[Any]:
        evicted: list[Any] = []
        if missing <= 0:
            return evicted
        for item in _by_last_use(self._loaded):
            if missing <= 0:
                break
            size = self._loaded.pop(item)
            evicted.append(item.evict())
            self._accounted -= size
            self._untrimmed += size
            self._evictions += 1
            missing -= size
        return evicted

    def _write(self) -> None:
        self._shared.write(SessionUse(self.used_bytes, self._loads, self._evictions))


def _by_last_use(items: Iterable[Evictable]) -> list[Evictable]:
    """The idle ones, the one used least recently first."""
    return sorted((item for item in items if item.is_idle), key=lambda item: item.used_s)

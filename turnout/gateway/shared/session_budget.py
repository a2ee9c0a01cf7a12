"""The memory budget of loaded versions: when it is used up, the least recently used idle ones are unloaded.

A version that runs, waits or loads is never unloaded; such versions alone may exceed the budget. All workers share one
budget: each may use what the others leave, and frees what exceeds its equal share when the total is too large. A
session's memory is estimated before it is loaded. The process's resident memory, read once a second, corrects the sum
for wrong estimates, request bodies, fragmentation, and a transform's own data.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from turnout.gateway.shared.sessions import SessionUse, SharedSessions

log = logging.getLogger("turnout.functions")

TRIM_BYTES = 32 * 1024 * 1024
"""Bytes to unload before the allocator is asked to return memory to the system, which scans its heaps."""


class Evictable(Protocol):
    """Something that uses memory while it is loaded, and can be loaded again."""

    @property
    def used_s(self) -> float:
        """The time of its last call, in seconds of a common clock."""
        ...

    @property
    def is_idle(self) -> bool:
        """Whether it is loaded, and nothing runs or waits."""
        ...

    def evict(self) -> Any:
        """Unload it; the returned object uses the memory until it is dropped."""
        ...


class SessionBudget:
    """One worker's part of the budget.

    Args:
        limit_bytes: limit of all workers together, including the processes themselves.
        shared: the memory that each worker uses.
        trim: returns freed memory to the system; slow, so it is called in a thread.
        in_process: whether loaded versions use the worker's own memory, not that of other processes.

    All methods except `drop` are called on the event loop.
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
            own_bytes: its share of the memory that the server uses with nothing loaded.
            resident_bytes: its resident memory, including memory shared with others.
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
        """The memory of this worker's loaded versions."""
        return max(0, self._accounted + self._unaccounted)

    def has_room(self, size: int) -> bool:
        """Whether this amount can be loaded without unloading anything."""
        return self._missing(size) <= 0

    def begin(self, item: Evictable, size: int) -> list[Any]:
        """Count what is about to be loaded, and unload others to make space for it.

        Returns:
            The unloaded items; `drop` drops them, in a thread, before the new one is loaded.
        """
        evicted = self._evict(self._missing(size))
        self._loaded[item] = size
        self._accounted += size
        self._loads += 1
        self._write()
        return evicted

    def resize(self, item: Evictable, size: int) -> None:
        """Correct the counted memory of a loaded item."""
        if item in self._loaded:
            self._accounted += size - self._loaded[item]
            self._loaded[item] = size

    def end(self, item: Evictable) -> None:
        """An item is no longer loaded, or failed to load."""
        size = self._loaded.pop(item, None)
        if size is not None:
            self._accounted -= size
            self._write()

    def look(self, resident_bytes: int) -> list[Any]:
        """Compare with the process's actual memory, and unload the excess; must be called about once a second.

        Returns:
            The unloaded items, for `drop`.
        """
        if self._in_process:
            # Not much below the estimate: pages of a session that was just loaded may not have been touched yet.
            grown = max(resident_bytes - self._base_resident, self._accounted // 2)
            self._unaccounted = grown - self._accounted
        self._write()
        return self.shed()

    def shed(self) -> list[Any]:
        """Unload the excess: all of it if this worker exceeds its share; otherwise the others free memory."""
        share = self._allowance // self._shared.workers
        evicted = self._evict(min(self._missing(0), self.used_bytes - share))
        self._write()
        return evicted

    def drop(self, evicted: list[Any]) -> None:
        """Drop what was unloaded; called in a thread."""
        if not evicted:
            return
        evicted.clear()
        if self._untrimmed >= TRIM_BYTES:
            self._untrimmed = 0
            self._trim()

    def _missing(self, size: int) -> int:
        """Return how many bytes must be unloaded before this amount fits."""
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
    """Return the idle ones, least recently used first."""
    return sorted((item for item in items if item.is_idle), key=lambda item: item.used_s)

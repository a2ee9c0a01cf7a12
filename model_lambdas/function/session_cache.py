"""Loaded versions of a pool, limited by its memory and disk: the least recently used ones are unloaded first.

A version is loaded once, however many calls wait for it, and calls of other versions run meanwhile. A version that runs
is never unloaded: a load waits until another call ends. A version that exceeds the limit is loaded when nothing else
is.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes of memory and of disk."""

    memory_bytes: int
    disk_bytes: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(self.memory_bytes + other.memory_bytes, self.disk_bytes + other.disk_bytes)

    def __sub__(self, other: Size) -> Size:
        return Size(self.memory_bytes - other.memory_bytes, self.disk_bytes - other.disk_bytes)

    def fits(self, limit: Size) -> bool:
        """Whether it is within a limit."""
        return self.memory_bytes <= limit.memory_bytes and self.disk_bytes <= limit.disk_bytes


NOTHING = Size(0)


@dataclass(slots=True, eq=False)
class _Entry(Generic[V]):
    """A loaded or loading entry: `users` calls use it or wait for it."""

    size: Size
    users: int = 0
    loaded: threading.Event = field(default_factory=threading.Event)
    value: V | None = None
    error: BaseException | None = None


class SessionCache(Generic[K, V]):
    """A cache by last use. Its methods may be called from any thread.

    Args:
        limit: limit of everything loaded together.
        size_of: returns the size of a key's entry once it is loaded.
        load: loads it.
        unload: called after an entry is removed, before another one is loaded.
    """

    def __init__(
        self,
        limit: Size,
        size_of: Callable[[K], Size],
        load: Callable[[K], V],
        unload: Callable[[K], None] = lambda _key: None,
    ) -> None:
        self._limit = limit
        self._size_of = size_of
        self._load = load
        self._unload = unload
        self._changed = threading.Condition()
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()  # the one used last is last
        self._used = NOTHING

    @property
    def used(self) -> Size:
        """Return the size of all loaded entries."""
        return self._used

    def __contains__(self, key: K) -> bool:
        """Return whether it is loaded."""
        entry = self._entries.get(key)
        return entry is not None and entry.loaded.is_set()

    @contextmanager
    def use(self, key: K) -> Iterator[V]:
        """Keep the entry of a key loaded during the block.

        Raises:
            Exception: the error of `load`, for all who wait for it; the next call loads again.
        """
        entry = self._enter(key)
        try:
            if entry.error is not None:
                raise entry.error
            assert entry.value is not None
            yield entry.value
        finally:
            with self._changed:
                entry.users -= 1
                if not entry.users:
                    self._changed.notify_all()

    def _enter(self, key: K) -> _Entry[V]:
        with self._changed:
            entry = self._entries.get(key)
            while entry is None and not self._make_room(self._size_of(key)):
                self._changed.wait()
                entry = self._entries.get(key)  # another call may have begun to load it
            is_new = entry is None
            if entry is None:
                entry = self._entries[key] = _Entry(self._size_of(key))
                self._used += entry.size
            entry.users += 1
            self._entries.move_to_end(key)
        if is_new:
            self._fill(key, entry)
        else:
            entry.loaded.wait()
        return entry

    def _fill(self, key: K, entry: _Entry[V]) -> None:
        try:
            entry.value = self._load(key)
        except BaseException as error:  # handed to all who wait
            entry.error = error
            with self._changed:
                del self._entries[key]
                self._used -= entry.size
                self._changed.notify_all()
        finally:
            entry.loaded.set()

    def _make_room(self, size: Size) -> bool:
        """Unload idle entries until the size fits or none is left; return False if running entries leave no room.

        The lock is held meanwhile: an entry is unloaded completely before another one is loaded.
        """
        idle = [key for key, entry in self._entries.items() if not entry.users]
        remaining = self._used
        for key in idle:
            remaining -= self._entries[key].size
        if len(idle) < len(self._entries) and not (remaining + size).fits(self._limit):
            return False
        for key in idle:
            if (self._used + size).fits(self._limit):
                break
            self._used -= self._entries.pop(key).size
            self._unload(key)
        return True

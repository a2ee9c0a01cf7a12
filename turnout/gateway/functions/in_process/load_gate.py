"""Limits concurrent loads: more than the processors would slow each other down, and requests, too.

A load that hangs, as a transform may during import, keeps its slot for `PATIENCE_S` only.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable

PATIENCE_S = 5.0


class LoadGate:
    """Lets a limited number of loads run at once, in order of request.

    Args:
        most: most loads at once.
        patience_s: see `PATIENCE_S`.

    All methods are called on the event loop.
    """

    def __init__(self, most: int, patience_s: float = PATIENCE_S) -> None:
        self._most = most
        self._patience_s = patience_s
        self._inside: dict[Hashable, asyncio.TimerHandle] = {}
        self._waiting: deque[tuple[Hashable, Callable[[], None]]] = deque()

    def enter(self, key: Hashable, start: Callable[[], None]) -> None:
        """Start a load now, or when others have ended."""
        if len(self._inside) < self._most:
            self._start(key, start)
        else:
            self._waiting.append((key, start))

    def leave(self, key: Hashable) -> None:
        """A load has ended, or took too long."""
        timer = self._inside.pop(key, None)
        if timer is None:
            return
        timer.cancel()
        while self._waiting and len(self._inside) < self._most:
            self._start(*self._waiting.popleft())

    def _start(self, key: Hashable, start: Callable[[], None]) -> None:
        self._inside[key] = asyncio.get_running_loop().call_later(self._patience_s, self.leave, key)
        start()

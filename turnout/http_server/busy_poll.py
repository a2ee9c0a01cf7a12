"""Busy polling: after a request the event loop checks for the next one for a moment before it sleeps.

A processor that was idle runs the first hundred microseconds at a third of its speed (in a virtual machine it was given
away, together with its caches and predictions): a client that immediately sends the next request would wait for that
each time. The loop yields to whatever else needs its processor.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

AWAKE_S = 0.0001
"""How long the loop stays awake: a client on the same machine sends its next request within this time. Ten requests a
second, each alone, cost a thousandth of a processor.
"""


class BusyPoll:
    """Keeps one event loop awake.

    Args:
        loop: the running loop.
        awake_s: seconds after the last request.
        clock: seconds.
    """

    __slots__ = ("_awake_s", "_clock", "_is_awake", "_loop", "_requests", "_seen", "_until")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        awake_s: float = AWAKE_S,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._loop = loop
        self._awake_s = awake_s
        self._clock = clock
        self._is_awake = False
        self._requests = 0
        self._seen = 0
        self._until = 0.0

    def prolong(self) -> None:
        """Stay awake for a while, because something was read."""
        self._requests += 1
        if not self._is_awake:
            self._is_awake = True
            self._loop.call_soon(self._poll)

    def _poll(self) -> None:
        now = self._clock()
        if self._requests != self._seen:
            self._seen = self._requests
            self._until = now + self._awake_s
        if now < self._until:
            os.sched_yield()
            self._loop.call_soon(self._poll)
        else:
            self._is_awake = False

"""The streams that the page follows: the pulse as server-sent events, and rows of long operations as lines of JSON."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import suppress
from typing import Any

import orjson

from turnout.client.connection import UnreachableError
from turnout.console.state import empty_pulse
from turnout.problems import ProblemsError, TurnoutError

RETRY_MS = 1000
"""How long a browser waits before it reconnects, after the server stopped or restarted."""


class Pulse:
    """The latest pulse, made once for all streams that this process sends.

    Args:
        make: makes a pulse; it queries the server, so it may take a while.
        every_s: seconds between two pulses.
        clock: monotonic seconds.
    """

    def __init__(self, make: Callable[[], dict[str, Any]], every_s: float, clock: Callable[[], float]) -> None:
        self._make = make
        self._every_s = every_s
        self._clock = clock
        self._latest: tuple[float, bytes] = (float("-inf"), b"")
        self._making: asyncio.Task[bytes] | None = None

    async def follow(self) -> AsyncGenerator[bytes]:
        """Server-sent events, one now and one each `every_s`, until the client disconnects.

        Source: WHATWG HTML, "Server-sent events".
        """
        yield b"retry: %d\n\n" % RETRY_MS
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            yield b"event: pulse\ndata: %b\n\n" % await self.read()
            # Events that were missed, because a query took long or the client did not read, are not sent afterwards.
            due = max(due + self._every_s, loop.time())
            await asyncio.sleep(due - loop.time())

    async def read(self) -> bytes:
        """The latest pulse as JSON; if it is older than half of `every_s`, a new one, made once for all streams."""
        at, data = self._latest
        if self._clock() - at < self._every_s / 2:
            return data
        if self._making is None:
            self._making = asyncio.create_task(self._renew())
        return await asyncio.shield(self._making)  # a stream that ends does not end it for the others

    async def _renew(self) -> bytes:
        try:
            data = await asyncio.to_thread(self._make_or_warn)
            self._latest = (self._clock(), data)
            return data
        finally:
            self._making = None

    def _make_or_warn(self) -> bytes:
        try:
            pulse = self._make()
        except (TurnoutError, OSError) as error:
            pulse = empty_pulse(warning=getattr(error, "message", str(error)))
        return orjson.dumps({"every_s": self._every_s, **pulse})


async def send_rows(rows: Generator[dict[str, Any]]) -> AsyncGenerator[bytes]:
    """Send rows as lines of JSON, each as soon as a thread has made it; an error is the last row."""
    try:
        while (entry := await asyncio.to_thread(next, rows, None)) is not None:
            yield orjson.dumps(entry) + b"\n"
    except (TurnoutError, ProblemsError, UnreachableError) as error:
        yield orjson.dumps({"error": str(error), "hint": getattr(error, "hint", "")}) + b"\n"
    finally:
        # A generator cannot be closed while its thread makes a row: it ends when the thread has returned.
        with suppress(ValueError):
            rows.close()

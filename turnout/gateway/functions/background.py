"""Calls whose answers are not awaited: asynchronous invocations and copies for shadow versions.

All state belongs to the event loop.

Lambda retries a failing asynchronous call twice; here it is made once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from turnout.gateway.functions.invocation import Invocable, Invocation

log = logging.getLogger("turnout.functions")

LIMIT = 256
"""Most calls at once in one process; more are rejected, so that these calls never fill the memory."""

TIMEOUT_S = 900.0
"""Lambda's longest timeout; a function's own timeout ends its calls earlier."""


class Background:
    """Makes such calls.

    Args:
        functions: the called functions.
        limit: see `LIMIT`.
    """

    def __init__(self, functions: Invocable, limit: int = LIMIT) -> None:
        self._functions = functions
        self._limit = limit
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(self, name: str, alias: str, event: Mapping[str, Any]) -> bool:
        """Call a function soon, after the current work; return False if too many such calls are running."""
        if len(self._tasks) >= self._limit:
            return False
        task = asyncio.get_running_loop().create_task(self._call(name, alias, event))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _call(self, name: str, alias: str, event: Mapping[str, Any]) -> None:
        try:
            outcome = self._functions.invoke(name, alias, event, TIMEOUT_S)
            invocation = outcome if isinstance(outcome, Invocation) else await outcome
        except Exception:
            log.exception("%s: an asynchronous call failed inside the gateway", name)
            return
        if invocation.error is not None:
            log.warning("%s: an asynchronous call: %s: %s", name, invocation.error, invocation.message)

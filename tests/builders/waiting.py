"""Waiting for other processes and threads.

A busy machine can hold up a process for many seconds. The patience therefore only ends tests that would hang: no test
asserts how long something took.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

PATIENCE_S = 300.0
_PAUSE_S = 0.01


def wait_until(condition: Callable[[], object], what: str | Callable[[], str], patience_s: float = PATIENCE_S) -> None:
    """Return once the condition is true.

    Args:
        condition: called a hundred times a second.
        what: what the test waits for, or a function that describes the observed state instead.
        patience_s: increased only if the program itself takes long.
    """
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, _give_up(what)
        time.sleep(_PAUSE_S)


async def wait_on_loop(condition: Callable[[], object], what: str | Callable[[], str] = "the condition") -> None:
    """The same as a coroutine, so that the loop keeps running."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, _give_up(what)
        await asyncio.sleep(_PAUSE_S)


def _give_up(what: str | Callable[[], str]) -> str:
    return f"waited in vain for {what if isinstance(what, str) else what()}"

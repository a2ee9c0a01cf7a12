"""Waiting for what other processes and threads do.

A busy machine can hold a process up for many seconds. The patience therefore only ends tests that would hang: no test
asserts how long something took.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

PATIENCE_S = 300.0
_PAUSE_S = 0.01


def wait_until(condition: Callable[[], object], what: str | Callable[[], str], patience_s: float = PATIENCE_S) -> None:
    """Return once the condition holds.

    Args:
        condition: it is asked a hundred times a second.
        what: what the test waits for, or a function that describes what it sees instead.
        patience_s: raised only where the program itself takes its time.
    """
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, _give_up(what)
        time.sleep(_PAUSE_S)


async def wait_on_loop(condition: Callable[[], object], what: str | Callable[[], str] = "the condition") -> None:
    """Do the same in a coroutine, while its loop goes on."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, _give_up(what)
        await asyncio.sleep(_PAUSE_S)


def _give_up(what: str | Callable[[], str]) -> str:
    return f"waited in vain for {what if isinstance(what, str) else what()}"

"""An event loop in a thread of its own: its start, and how it ends with work under way."""

from __future__ import annotations

import asyncio
import threading

import pytest

from turnout.gateway.functions.in_process.loop_thread import LoopThread


def test_thread_that_was_never_needed_is_ended_at_once() -> None:
    assert LoopThread().close(0)


def test_end_cancels_what_waits() -> None:
    beside, ended = LoopThread(), threading.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def test() -> None:
        waiting = [beside.run(wait()) for _ in range(3)]
        await beside.run(asyncio.sleep(0))
        assert beside.close(20)
        for future in waiting:
            with pytest.raises(asyncio.CancelledError):
                await future

    asyncio.run(asyncio.wait_for(test(), 30))
    assert ended.is_set()


def test_thread_that_computes_on_is_left() -> None:
    beside, started, release = LoopThread(), threading.Event(), threading.Event()

    async def compute() -> None:
        started.set()
        release.wait(20)

    async def test() -> None:
        computing = beside.run(compute())
        await asyncio.to_thread(started.wait, 20)
        assert not beside.close(0)
        release.set()
        assert beside.close(20)
        await asyncio.wait([computing])

    asyncio.run(asyncio.wait_for(test(), 30))

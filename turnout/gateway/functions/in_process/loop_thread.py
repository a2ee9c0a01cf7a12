"""An event loop in a thread of its own, for coroutines that compute: beside the gateway's loop, not on it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from turnout.gateway.http.server import new_event_loop

T = TypeVar("T")


class LoopThread:
    """One thread with a loop, started when it is first needed."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        """Run it there; cancelling the future cancels it."""
        if self._loop is None:
            loop = new_event_loop()
            thread = threading.Thread(target=loop.run_forever, name="routers", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no room for another thread: the next call tries again
                loop.close()
                coroutine.close()
                raise
            self._loop, self._thread = loop, thread
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))

    def close(self, patience_s: float) -> bool:
        """End what runs, wait so long, and say whether the thread has ended."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return True
        asyncio.run_coroutine_threadsafe(_cancel_all(loop), loop)
        thread.join(patience_s)
        if thread.is_alive():
            return False
        loop.close()
        self._loop = self._thread = None
        return True


async def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel every other task of the loop, then stop it."""
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    loop.stop()

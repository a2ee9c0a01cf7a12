"""Threads that run what would block the event loop: a pool for calls, and one with its own event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from queue import SimpleQueue
from typing import Any, TypeVar

from turnout.http_server.server import new_event_loop

log = logging.getLogger(__name__)

MOST_GIVEN_UP = 8
"""Abandoned threads that still run. At this number the process should be replaced."""

T = TypeVar("T")


class Threads:
    """One daemon thread for each concurrent job; an idle one is used before a new one starts.

    It does not use `concurrent.futures`: the interpreter waits for its threads at exit, and hanging user code would
    keep the process from ever stopping.
    """

    def __init__(self, name: str = "function") -> None:
        self._name = name
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._spare = 0
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._given_up = 0
        self.on_worn: Callable[[], None] = lambda: None

    def give_up(self) -> None:
        """Abandon a job that cannot be ended and whose caller no longer waits; at `MOST_GIVEN_UP` call `on_worn`."""
        self._given_up += 1
        if self._given_up == MOST_GIVEN_UP:
            self.on_worn()

    def take_back(self) -> None:
        """An abandoned job has ended after all."""
        self._given_up -= 1

    def submit(self, job: Callable[[], None]) -> None:
        """Run `job` in a thread, soon.

        If the system cannot start another thread, the job waits for a working one.

        Raises:
            RuntimeError: after `close`, or if the very first thread cannot be started.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("these threads are closed")
            self._spare -= 1
            if self._spare < 0:
                self._start_thread()
        self._jobs.put(job)

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            if not self._threads:
                self._spare = 0
                raise
            return
        self._spare = 0
        self._threads.append(thread)

    def close(self, patience_s: float = 0.0) -> int:
        """Let every thread end after its job, wait for this time, and return how many are still busy."""
        with self._lock:
            self._closed = True
            threads = tuple(self._threads)
        for _ in threads:
            self._jobs.put(None)
        deadline = time.monotonic() + patience_s
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return sum(thread.is_alive() for thread in threads)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception:  # jobs report their own failures; the thread must survive anything else
                log.exception("a job failed")
            with self._lock:
                self._spare += 1


class LoopThread:
    """One thread with a loop, started when it is first needed."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        """Run it there; canceling the future cancels it."""
        if self._loop is None:
            loop = new_event_loop()
            thread = threading.Thread(target=loop.run_forever, name="routers", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no thread can be started now: the next call tries again
                loop.close()
                coroutine.close()
                raise
            self._loop, self._thread = loop, thread
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))

    def close(self, patience_s: float) -> bool:
        """Cancel what runs, wait for this time, and return whether the thread has ended."""
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

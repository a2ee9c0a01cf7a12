"""Runs coroutines concurrently: in threads on Lambda, as asyncio tasks in the local gateway.

On Lambda nothing ever suspends, because calls block their thread. A coroutine is therefore run by one `send`, which
saves the tens of milliseconds that importing asyncio takes.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

MOST_BESIDE = 64
"""Most background tasks; further ones are dropped and logged."""

_LOG = logging.getLogger("turnout.router")


class Tasks(Protocol):
    """Runs coroutines concurrently."""

    async def gather(self, work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
        """Return the results, in order; raise the first exception."""
        ...

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a coroutine in the background of the caller's request; it must not raise."""
        ...


class AsyncioTasks:
    """Tasks of the running event loop."""

    def __init__(self) -> None:
        self._beside: set[asyncio.Task[None]] = set()

    async def gather(self, work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
        """See `Tasks`."""
        import asyncio

        return list(await asyncio.gather(*work))

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """See `Tasks`; the coroutine starts when the loop is next free."""
        import asyncio

        if len(self._beside) >= MOST_BESIDE:
            _LOG.warning("%d background calls are running: another one was dropped", MOST_BESIDE)
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)


class ThreadTasks:
    """Threads, for coroutines that never suspend. Threads are started when they are needed."""

    async def gather(self, work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
        """See `Tasks`; the last coroutine runs in this thread."""
        *others, own = [_Run(coroutine) for coroutine in work]
        for run in others:
            run.start()
        own.run()
        return [run.result() for run in (*others, own)]

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """See `Tasks`. Lambda suspends all threads once the response is sent, and resumes them with the next call."""
        _Run(work).start()


class _Run:
    """One coroutine in one thread."""

    def __init__(self, work: Coroutine[Any, Any, Any]) -> None:
        self._work = work
        self._returned: Any = None
        self._raised: BaseException | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self.run, daemon=True)
        self._thread.start()

    def run(self) -> None:
        try:
            self._returned = run_to_end(self._work)
        except BaseException as error:  # raised again when the result is read
            self._raised = error

    def result(self) -> Any:
        if self._thread is not None:
            self._thread.join()
        if self._raised is not None:
            raise self._raised
        return self._returned


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends, and return its result.

    Raises:
        RuntimeError: the coroutine suspended.
    """
    try:
        work.send(None)
    except StopIteration as finished:
        returned: T = finished.value
        return returned
    work.close()
    raise RuntimeError("a coroutine of the router waits for an event loop")

"""Runs jobs that would block the event loop in one thread, in order, within a limit of bytes.

Capturing a request needs no immediate answer, but decoding its content encoding and reading its JSON can take tens of
milliseconds.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import Any

log = logging.getLogger(__name__)

MOST_BYTES = 64 * 1024 * 1024
"""Most bytes of waiting jobs. Further jobs are dropped."""

QUICK_BYTES = 65_536
"""Largest body without a content encoding that needs no thread: reading its JSON takes 0.3 ms."""

Then = Callable[[Any], object]


class Deferred:
    """One daemon thread, started with the first job, so the object may be made before a process forks.

    Args:
        name: the name of the jobs in warnings.
        most_bytes: see `MOST_BYTES`.
    """

    def __init__(self, name: str, most_bytes: int = MOST_BYTES) -> None:
        self._name = name
        self._most_bytes = most_bytes
        self._jobs: SimpleQueue[tuple[int, Callable[[], Any], Then] | None] = SimpleQueue()
        self._done: deque[tuple[int, Any, Then]] = deque()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._held_bytes = 0
        self.dropped = 0

    def submit(self, size_bytes: int, job: Callable[[], Any], then: Then) -> bool:
        """Run `job` in the thread and `then` with its result on the event loop; return False if there is no space.

        Must be called on the event loop. A job that raises is logged, and `then` is not called.
        """
        if self._held_bytes + size_bytes > self._most_bytes:
            if not self.dropped:
                log.warning("%s: too many large requests at once, some are dropped", self._name)
            self.dropped += 1
            return False
        if self._thread is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self._held_bytes += size_bytes
        self._jobs.put((size_bytes, job, then))
        return True

    def finish(self, patience_s: float) -> None:
        """Wait for the remaining jobs, for at most this time, and pass on their results. Must be the last call."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._jobs.put(None)
        thread.join(patience_s)
        self._hand_on()

    def _work(self) -> None:
        loop = self._loop
        assert loop is not None
        while (queued := self._jobs.get()) is not None:
            size_bytes, job, then = queued
            try:
                self._done.append((size_bytes, job(), then))
            except Exception:
                log.exception("%s: a request could not be read", self._name)
                self._done.append((size_bytes, None, _ignore))
            del queued, job, then  # do not keep the body until the next job arrives
            try:
                loop.call_soon_threadsafe(self._hand_on)
            except RuntimeError:  # the loop is closed; `finish` hands the results on
                return

    def _hand_on(self) -> None:
        while self._done:
            size_bytes, result, then = self._done.popleft()
            self._held_bytes -= size_bytes
            then(result)


def _ignore(_result: Any) -> None:
    """Do nothing: the job raised."""


def is_encoded(headers: Mapping[str, Any]) -> bool:
    """Whether a request declares a content encoding of its body, so that a small body may become a large one."""
    # Hardly any header name has this length, so most requests cost only one length comparison per header. A generator
    # would take three times as long as the loop.
    for name in headers:  # noqa: SIM110
        if len(name) == 16 and name.lower() == "content-encoding":
            return True
    return False

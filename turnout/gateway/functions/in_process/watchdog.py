"""Ends runs on the event loop at their deadlines; the loop itself cannot, because it is blocked by them."""

from __future__ import annotations

import threading
import time

from turnout.gateway.functions.lambda_context import Cancellation

PERIOD_S = 0.05
"""How much a run may exceed its deadline."""

IDLE_PERIODS = 20
"""Checks of an idle loop before the thread sleeps until the next run: waking it costs more than a short run."""


class Watchdog:
    """A thread that checks the event loop's run, started with the first one.

    `begin` and `end` are called on the loop, around each run. After `end` the caller checks the clock: if the deadline
    has passed, the cancellation may be used at any time and must not be reused for another run.
    """

    def __init__(self, period_s: float = PERIOD_S) -> None:
        self._period_s = period_s
        self._run: tuple[float, Cancellation] | None = None
        self._wake = threading.Event()
        self._is_asleep = True
        self._thread: threading.Thread | None = None
        self._closed = False

    def begin(self, deadline: float, cancellation: Cancellation) -> None:
        """A run starts that must be ended at `deadline`, on the monotonic clock."""
        self._run = (deadline, cancellation)
        if self._is_asleep:
            self._is_asleep = False
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
                self._thread.start()
            self._wake.set()

    def end(self) -> None:
        """The run has ended."""
        self._run = None

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        self._wake.set()

    def _watch(self) -> None:
        while not self._closed:
            self._wake.wait()
            self._wake.clear()
            idle = 0
            while idle < IDLE_PERIODS and not self._closed:
                time.sleep(self._period_s)
                run = self._run
                idle = 0 if run is not None else idle + 1
                if run is not None and time.monotonic() >= run[0]:
                    run[1].cancel()
            self._is_asleep = True
            if self._run is not None:  # the run started while this thread was about to sleep
                self._is_asleep = False
                self._wake.set()

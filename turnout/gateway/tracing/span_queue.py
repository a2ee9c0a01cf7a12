"""The queue of ended spans for the collector: limited, with one thread, so that no request waits for either.

A span is dropped and counted if the queue is full, or if the collector does not accept its batch.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

log = logging.getLogger("turnout.tracing")

MOST_WAITING = 2048
MOST_IN_BATCH = 256
DELAY_S = 1.0
"""How long a span waits for others."""

Count = Callable[[int], object]


class SpanQueue(SpanProcessor):
    """The queue of each process. Its thread starts with the first span, so it may be made before a process forks.

    Args:
        exporter: sends a batch, which takes a while.
        count_exported: called with the number of spans that the collector accepted.
        count_dropped: called with the number of dropped spans.
        report: called after each batch with whether the collector accepts spans.
        most_waiting: see `MOST_WAITING`.
        delay_s: see `DELAY_S`.
    """

    def __init__(
        self,
        exporter: SpanExporter,
        count_exported: Count,
        count_dropped: Count,
        report: Callable[[bool], object],
        most_waiting: int = MOST_WAITING,
        delay_s: float = DELAY_S,
    ) -> None:
        self._exporter = exporter
        self._count_exported = count_exported
        self._count_dropped = count_dropped
        self._report = report
        self._most_waiting = most_waiting
        self._delay_s = delay_s
        self._waiting: deque[ReadableSpan] = deque()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Do nothing until a span has ended."""

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span, or drop it, without waiting."""
        with self._lock:
            is_taken = len(self._waiting) < self._most_waiting and not self._stopping
            if is_taken:
                self._waiting.append(span)
                is_full = len(self._waiting) >= MOST_IN_BATCH
                if self._thread is None:
                    self._thread = threading.Thread(target=self._work, name="spans", daemon=True)
                    self._thread.start()
        if not is_taken:
            self._count_dropped(1)
        elif is_full:
            self._wake.set()

    def close(self, patience_s: float) -> None:
        """Export what is queued, at most for this time; drop the rest. Must be the last call."""
        with self._lock:
            self._stopping = True
            thread = self._thread
        self._wake.set()
        if thread is None:
            return
        thread.join(patience_s)
        if thread.is_alive():
            with self._lock:
                left = len(self._waiting)
                self._waiting.clear()
            self._count_dropped(left)
            log.warning("%d spans were not exported before the end", left)
            self._exporter.shutdown()

    def _work(self) -> None:
        while True:
            if not self._stopping:
                self._wake.wait(self._delay_s)
                self._wake.clear()
            with self._lock:
                batch = [self._waiting.popleft() for _ in range(min(MOST_IN_BATCH, len(self._waiting)))]
            if batch:
                self._export(batch)
            elif self._stopping:
                return

    def _export(self, batch: list[ReadableSpan]) -> None:
        try:
            is_exported = self._exporter.export(batch) is SpanExportResult.SUCCESS
        except Exception:
            log.exception("%d spans could not be exported", len(batch))
            is_exported = False
        (self._count_exported if is_exported else self._count_dropped)(len(batch))
        self._report(is_exported)

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from tests.builders.waiting import PATIENCE_S, wait_until
from turnout.gateway.tracing.span_queue import MOST_IN_BATCH, SpanQueue


class Exporter(SpanExporter):
    """Stores the exported spans, and can be made to wait."""

    def __init__(self, result: SpanExportResult | Exception = SpanExportResult.SUCCESS) -> None:
        self.result = result
        self.batches: list[int] = []
        self.release = threading.Event()
        self.release.set()
        self.has_begun = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.has_begun.set()
        self.release.wait(PATIENCE_S)
        self.batches.append(len(spans))
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def shutdown(self) -> None:
        self.release.set()


class Counts:
    def __init__(self) -> None:
        self.exported = self.dropped = 0
        self.reports: list[bool] = []

    def queue(self, exporter: Exporter, **limits: Any) -> SpanQueue:
        def exported(number: int) -> None:
            self.exported += number

        def dropped(number: int) -> None:
            self.dropped += number

        return SpanQueue(exporter, exported, dropped, self.reports.append, **limits)


SPAN = ReadableSpan("a")


def test_queued_spans_are_sent_at_the_end() -> None:
    exporter, counts = Exporter(), Counts()
    queue = counts.queue(exporter, delay_s=PATIENCE_S)
    for _ in range(MOST_IN_BATCH - 1):
        queue.on_end(SPAN)
    assert exporter.batches == []
    queue.close(PATIENCE_S)
    assert (exporter.batches, counts.exported, counts.dropped) == ([MOST_IN_BATCH - 1], MOST_IN_BATCH - 1, 0)


def test_a_full_batch_is_sent_immediately() -> None:
    exporter, counts = Exporter(), Counts()
    queue = counts.queue(exporter, delay_s=PATIENCE_S)
    for _ in range(MOST_IN_BATCH):
        queue.on_end(SPAN)
    wait_until(lambda: counts.exported == MOST_IN_BATCH, "one batch")
    queue.close(PATIENCE_S)
    assert exporter.batches == [MOST_IN_BATCH]


def test_a_hanging_collector_fills_the_queue_and_no_more() -> None:
    exporter, counts = Exporter(), Counts()
    exporter.release.clear()
    queue = counts.queue(exporter, most_waiting=10, delay_s=0.0)
    queue.on_end(SPAN)
    assert exporter.has_begun.wait(PATIENCE_S)
    for _ in range(25):
        queue.on_end(SPAN)
    assert counts.dropped == 15
    queue.close(0.01)
    assert counts.dropped == 25
    queue.on_end(SPAN)
    assert counts.dropped == 26, "nothing is taken after the end"
    wait_until(lambda: counts.exported == 1, "the batch that was on its way")


@pytest.mark.parametrize("result", [SpanExportResult.FAILURE, RuntimeError("no")])
def test_spans_that_the_collector_rejects_are_counted(result: SpanExportResult | Exception) -> None:
    exporter, counts = Exporter(result), Counts()
    queue = counts.queue(exporter)
    queue.on_end(SPAN)
    queue.close(PATIENCE_S)
    assert (counts.exported, counts.dropped, counts.reports) == (0, 1, [False])


def test_without_a_span_there_is_no_thread() -> None:
    before = threading.active_count()
    queue = Counts().queue(Exporter())
    assert threading.active_count() == before
    queue.close(PATIENCE_S)

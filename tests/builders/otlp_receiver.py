"""An OTLP/HTTP collector on the loopback address that records the spans it receives, or fails if a test requires it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from tests.builders.loopback_server import QuietHandler, loopback_server
from tests.builders.waiting import wait_until

CALLER = "00f067aa0ba902b7"
"""The id of a span that the test itself sends."""


@dataclass(frozen=True)
class ReceivedSpan:
    """One received span; ids in hexadecimal, `parent` empty for a root."""

    name: str
    trace: str
    id: str
    parent: str
    kind: int
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]
    is_error: bool
    trace_state: str


def _value(value: AnyValue) -> Any:
    return getattr(value, value.WhichOneof("value") or "string_value")


def read_spans(body: bytes) -> list[ReceivedSpan]:
    request = ExportTraceServiceRequest.FromString(body)
    return [
        ReceivedSpan(
            span.name,
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            span.kind,
            span.start_time_unix_nano,
            span.end_time_unix_nano,
            {attribute.key: _value(attribute.value) for attribute in span.attributes},
            {attribute.key: _value(attribute.value) for attribute in resource.resource.attributes},
            span.status.code == 2,
            span.trace_state,
        )
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def tree_of(spans: Sequence[ReceivedSpan]) -> dict[str, str]:
    """Name of each span -> name of its parent."""
    names = {span.id: span.name for span in spans} | {CALLER: "caller"}
    return {span.name: names[span.parent] for span in spans}


@dataclass
class OtlpReceiver:
    """The collector.

    Args:
        url: its base URL.
        status: the status of its answers.
        release: while it is not set, answers are held back.
    """

    url: str = ""
    status: int = 200
    spans: list[ReceivedSpan] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)

    def trace(self, trace: str, count: int) -> list[ReceivedSpan]:
        """Return the spans of a trace, earliest first, once the expected number has arrived."""

        def result() -> list[ReceivedSpan]:
            return sorted((span for span in tuple(self.spans) if span.trace == trace), key=lambda span: span.start_ns)

        wait_until(lambda: len(result()) >= count, lambda: f"{count} spans, got {[span.name for span in result()]}")
        return result()


@contextlib.contextmanager
def otlp_receiver(port: int = 0) -> Iterator[OtlpReceiver]:
    receiver = OtlpReceiver()
    receiver.release.set()

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.release.wait(60)
            receiver.paths.append(self.path)
            if receiver.status == 200:
                receiver.spans += read_spans(body)
            self.respond(receiver.status)

    with loopback_server(Handler, port) as receiver.url:
        try:
            yield receiver
        finally:
            receiver.release.set()

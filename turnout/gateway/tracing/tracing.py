"""One server's tracing: the exporter and each process's queue."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider

from turnout import __version__
from turnout.gateway.functions.invocation import Invocable
from turnout.gateway.shared.span_counts import SharedSpanCounts
from turnout.gateway.tracing.functions import TracedFunctions
from turnout.gateway.tracing.requests import RequestTracer
from turnout.gateway.tracing.span_queue import SpanQueue

log = logging.getLogger("turnout.tracing")

SIGNAL_PATH = "/v1/traces"

EXPORT_S = 5.0
"""How long one batch may take, including retries."""

FLUSH_S = 2.0
"""How long a stopping worker waits for the collector."""


class Tracing:
    """Traces requests and calls. Made before workers are forked; nothing of it runs until the first span.

    Args:
        endpoint: the collector's address, with or without `/v1/traces`.
        attributes: the server's attributes, the resource of every span. `OTEL_RESOURCE_ATTRIBUTES` and
            `OTEL_SERVICE_NAME` override them. `OTEL_TRACES_SAMPLER` determines which traces that start here are
            recorded.
        counts: counts of all workers.
    """

    def __init__(self, endpoint: str, attributes: Mapping[str, str], counts: SharedSpanCounts) -> None:
        self._url = find_url(endpoint)
        self._counts = counts
        self._last = _LastRecord()
        exporter_log = logging.getLogger("opentelemetry.exporter")
        exporter_log.propagate = False  # the exporter logs a line for each failed batch; ours is one line for all
        exporter_log.addHandler(self._last)
        self._queue = SpanQueue(
            OTLPSpanExporter(self._url, timeout=EXPORT_S), counts.count_exported, counts.count_dropped, self._report
        )
        provider = TracerProvider(resource=make_resource(attributes), shutdown_on_exit=False)
        provider.add_span_processor(self._queue)
        self._tracer = provider.get_tracer("turnout", __version__)
        self.requests = RequestTracer(self._tracer)

    def wrap(self, functions: Invocable) -> TracedFunctions:
        """Return the same functions, with a span for each call."""
        return TracedFunctions(functions, self._tracer)

    def close(self) -> None:
        """Send queued spans, within `FLUSH_S`."""
        self._queue.close(FLUSH_S)

    def _report(self, is_exported: bool) -> None:  # noqa: FBT001 - a single outcome
        """Warn once, for any number of workers and batches, and report when it is over."""
        if self._counts.note_failing(failing=not is_exported):
            if is_exported:
                log.warning("spans are exported to %s again", self._url)
            else:
                reason = self._last.text or "no answer"
                log.warning("spans cannot be exported to %s and are dropped: %s", self._url, reason)


class _LastRecord(logging.Handler):
    """Stores the exporter's last message, which is the only place with the reason of a failure."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Store one message."""
        self.text = record.getMessage()


def find_url(endpoint: str) -> str:
    """Return the URL for spans: `http://127.0.0.1:4318` becomes `http://127.0.0.1:4318/v1/traces`."""
    base = endpoint.rstrip("/")
    return base if base.endswith(SIGNAL_PATH) else f"{base}{SIGNAL_PATH}"


def check_endpoint(endpoint: str) -> str:
    """Return why an endpoint is invalid; empty if it is valid."""
    try:
        parts = urlsplit(endpoint)
        is_right = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_right = False
    else:
        is_right = is_right and not (parts.query or parts.fragment or parts.username) and " " not in endpoint
    return "" if is_right else f"expected http://HOST:PORT or https://HOST:PORT, got {endpoint!r}"


def make_resource(attributes: Mapping[str, str]) -> Resource:
    """Return the attributes of every span that describe the server."""
    sdk = {name: value for name, value in Resource.create().attributes.items() if name.startswith("telemetry.")}
    return Resource({**sdk, **attributes}).merge(OTELResourceDetector().detect())

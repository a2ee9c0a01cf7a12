"""Connects tracing to a server. Without an endpoint, nothing is traced and OpenTelemetry is not imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from turnout import __version__
from turnout.gateway.api.exchange import Observer, Tracer
from turnout.gateway.functions.invocation import Wrap, no_wrap
from turnout.gateway.shared.span_counts import SharedSpanCounts


def do_nothing() -> None:
    """Close nothing, because nothing was opened."""


@dataclass(frozen=True, slots=True)
class TracingParts:
    """A server's tracing.

    Args:
        tracer: starts the span of a request, or None.
        observe: ends it, or None.
        wrap: wraps functions, so that each call is a span.
        close: sends queued spans, within a time limit.
    """

    tracer: Tracer | None = None
    observe: Observer | None = None
    wrap: Wrap = no_wrap
    close: Callable[[], None] = do_nothing


def open_tracing(endpoint: str, platform: str, counts: SharedSpanCounts) -> TracingParts:
    """Return the parts for a collector; for an empty endpoint, parts that do nothing.

    Args:
        endpoint: the collector's address.
        platform: the project's name, which is the service's name unless `OTEL_SERVICE_NAME` sets another.
        counts: counts of all workers.
    """
    if not endpoint:
        return TracingParts()
    from turnout.gateway.tracing.tracing import Tracing

    tracing = Tracing(endpoint, {"service.name": platform, "service.version": __version__}, counts)
    return TracingParts(tracing.requests, tracing.requests.observe, tracing.wrap, tracing.close)

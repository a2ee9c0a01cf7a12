"""W3C Trace Context: the trace of a request or an event, and events that continue it.

An event contains the context in its headers, like a request. So a router's calls belong to its span, whether it runs in
this process or in its own environment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import SpanContext, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

PARENT, STATE = "traceparent", "tracestate"
_NAMES = frozenset({PARENT, STATE})
_PROPAGATOR = TraceContextTextMapPropagator()


def read_context(headers: Iterable[tuple[str, str]]) -> Context:
    """Return the context in header fields; empty if there is none, or no valid `traceparent`.

    Several `traceparent` fields count as none, several `tracestate` fields as one list, as specified.
    """
    values: dict[str, list[str]] = {PARENT: [], STATE: []}
    for name, value in headers:
        if len(name) == len(PARENT) or len(name) == len(STATE):
            lowered = name.lower()
            if lowered in _NAMES:
                values[lowered].append(value)
    if len(values[PARENT]) != 1:
        return Context()
    carrier = {PARENT: values[PARENT][0].strip()}
    if values[STATE]:
        carrier[STATE] = ",".join(values[STATE])
    return _PROPAGATOR.extract(carrier, Context())


def read_event_context(event: Mapping[str, Any]) -> Context:
    """Return the context of an event."""
    headers = event.get("headers")
    if not isinstance(headers, Mapping):
        return Context()
    return read_context((name, value) for name, value in headers.items() if isinstance(value, str))


def is_unsampled(context: Context) -> bool:
    """Whether the context's trace is not recorded."""
    span = get_current_span(context).get_span_context()
    return span.is_valid and not span.trace_flags.sampled


def with_context(event: Mapping[str, Any], span: SpanContext) -> dict[str, Any]:
    """Return the event with headers that name a span as the parent of later ones."""
    named = {PARENT: f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags & 1:02x}"}
    if span.trace_state:
        named[STATE] = span.trace_state.to_header()
    single, several = _others(event.get("headers")), _others(event.get("multiValueHeaders"))
    return {
        **event,
        "headers": {**single, **named},
        "multiValueHeaders": {**several, **{name: [value] for name, value in named.items()}},
    }


def _others(headers: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (headers or {}).items() if name.lower() not in _NAMES}

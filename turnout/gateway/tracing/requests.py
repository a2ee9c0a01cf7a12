"""The span of a request: it starts with the exchange and ends with its response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from turnout.gateway.api.exchange import Exchange, Routed
from turnout.gateway.api.fields import HOST, USER_AGENT, fields_of
from turnout.gateway.tracing.context import read_context, with_context
from turnout.http_server.messages import Response
from turnout.protocol.naming import FALLBACK_HEADER, MODEL_HEADER, ROUTE_HEADER, VERSION_HEADER

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"})
"""Methods that are recorded; any other is `_OTHER`, because clients choose them and a collector indexes them."""

ATTRIBUTE_OF = {
    MODEL_HEADER: "turnout.model",
    VERSION_HEADER: "turnout.version",
    ROUTE_HEADER: "turnout.route",
    FALLBACK_HEADER: "turnout.fallback_from",
}
"""Header of a response -> attribute of the span."""


class RequestTracer:
    """Traces exchanges.

    Args:
        tracer: makes spans.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def begin(self, exchange: Exchange, event: dict[str, Any]) -> dict[str, Any]:
        """Start the span of an exchange; its function's event names it as its parent."""
        span = exchange.span = self._start(exchange)
        return with_context(event, span.get_span_context())

    def observe(self, exchange: Exchange, response: Response, duration_s: float) -> None:
        """End the span; an `Observer`. A request rejected before a function was called gets its span here."""
        span: Span = exchange.span or self._start(exchange)
        if span.is_recording():
            self._describe(span, exchange, response)
        span.end(_nanoseconds(exchange.now + duration_s))

    def _start(self, exchange: Exchange) -> Span:
        context = read_context(exchange.request.headers)
        return self._tracer.start_span(
            method_of(exchange.request.method), context, SpanKind.SERVER, start_time=_nanoseconds(exchange.now)
        )

    def _describe(self, span: Span, exchange: Exchange, response: Response) -> None:
        request, routed = exchange.request, exchange.routed
        method = method_of(request.method)
        attributes: dict[str, str | int | bool] = {
            "http.request.method": method,
            "http.response.status_code": response.status,
            "url.path": request.path,
            "url.scheme": "http",
            "client.address": request.client,
            "http.request.body.size": len(request.body),
            "http.response.body.size": len(response.body),
            "turnout.request_id": exchange.request_id,
            **describe_answer(response.headers),
        }
        if method == "_OTHER":
            attributes["http.request.method_original"] = request.method[:64]
        known = fields_of(request).known
        attributes |= describe_host(known[HOST] or "")
        if agent := known[USER_AGENT]:
            attributes["user_agent.original"] = agent
        if exchange.stage is not None:
            attributes["turnout.stage"] = exchange.stage.settings.name
        if exchange.share is not None:
            attributes["turnout.share"] = "canary" if exchange.share.is_canary else "baseline"
        if exchange.is_replayed:
            attributes["turnout.replay"] = True
        if routed is not None:
            self._name(span, method, routed, attributes)
        if exchange.error is not None:
            attributes["turnout.error"] = exchange.error.kind
        if response.status >= 500:
            attributes["error.type"] = str(response.status)
            span.set_status(Status(StatusCode.ERROR))
        span.set_attributes(attributes)

    def _name(self, span: Span, method: str, routed: Routed, attributes: dict[str, Any]) -> None:
        attributes["http.route"] = routed.operation.resource
        span.update_name(f"{'HTTP' if method == '_OTHER' else method} {routed.operation.resource}")


def describe_host(host: str) -> dict[str, str | int]:
    """Return name and port of a `Host` field."""
    name, _, port = host.rpartition(":")
    if not name or not port.isascii() or not port.isdecimal():
        return {"server.address": host} if host else {}
    return {"server.address": name, "server.port": int(port[:5])}


def method_of(method: str) -> str:
    """Return a method as the semantic conventions write it."""
    return method if method in METHODS else "_OTHER"


def describe_answer(headers: Any) -> dict[str, str]:
    """Return the version that answered, from the answer's headers."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
    named = ((ATTRIBUTE_OF.get(str(name).lower()), value) for name, value in pairs)
    return {attribute: value for attribute, value in named if attribute is not None and isinstance(value, str)}


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)

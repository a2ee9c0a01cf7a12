"""Functions whose calls are spans, with the runs of their models as children.

A call belongs to the span in its event. The function itself reports when its model ran: the event requests the times,
which are removed from the answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from turnout.gateway.functions.invocation import Invocable, Invocation
from turnout.gateway.tracing.context import is_unsampled, read_event_context, with_context
from turnout.gateway.tracing.requests import describe_answer
from turnout.protocol.aws.events import is_ping
from turnout.protocol.naming import split_function_name
from turnout.protocol.routing.choice import is_shadow
from turnout.protocol.run_times import asking_for_run_times, take_run_times

SESSION_SPAN = "session.run"


class TracedFunctions:
    """An `Invocable` around another one.

    Args:
        functions: the called functions.
        tracer: makes spans.
    """

    def __init__(self, functions: Invocable, tracer: Tracer) -> None:
        self._functions = functions
        self._tracer = tracer

    def invoke(
        self, name: str, alias: str, event: Mapping[str, Any], timeout_s: float
    ) -> Invocation | Awaitable[Invocation]:
        """See `Invocable.invoke`."""
        context = read_event_context(event)
        if is_ping(event) or is_unsampled(context):
            return self._functions.invoke(name, alias, event, timeout_s)
        model, version = split_function_name(name)
        attributes: dict[str, str | bool] = {"turnout.function": name, "turnout.alias": alias}
        if model:
            attributes |= {"turnout.model": model, "turnout.version": version}
        if is_shadow(event):
            attributes["turnout.shadow"] = True
        span = self._tracer.start_span(f"{model} {version}".strip() or name, context, SpanKind.INTERNAL, attributes)
        if not span.is_recording():
            return self._functions.invoke(name, alias, event, timeout_s)
        asking = asking_for_run_times(with_context(event, span.get_span_context()))
        outcome = self._functions.invoke(name, alias, asking, timeout_s)
        if isinstance(outcome, Invocation):
            return self._finish(span, outcome)
        return self._wait(span, outcome)

    async def _wait(self, span: Span, outcome: Awaitable[Invocation]) -> Invocation:
        try:
            invocation = await outcome
        except BaseException as error:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(Status(StatusCode.ERROR))
            span.end()
            raise
        return self._finish(span, invocation)

    def _finish(self, span: Span, invocation: Invocation) -> Invocation:
        answer, times = take_run_times(invocation.answer)
        invocation.answer = answer
        for started_ns, ended_ns in times:
            run = self._tracer.start_span(SESSION_SPAN, set_span_in_context(span), start_time=started_ns)
            run.end(ended_ns)
        if answer is not None:
            span.set_attributes(describe_answer(answer.get("headers")))
            status = answer.get("statusCode")
            if isinstance(status, int):
                span.set_attribute("http.response.status_code", status)
                if status >= 500:
                    _fail(span, str(status))
        if invocation.error is not None:
            _fail(span, invocation.error, invocation.message)
        span.end()
        return invocation


def _fail(span: Span, error: str, message: str | None = None) -> None:
    span.set_attribute("error.type", error)
    span.set_status(Status(StatusCode.ERROR, message))

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.trace import SpanContext, TraceFlags, TraceState, get_current_span

from turnout.gateway.tracing.context import is_unsampled, read_context, read_event_context, with_context

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


def parent_of(*headers: tuple[str, str]) -> SpanContext:
    return get_current_span(read_context(headers)).get_span_context()


@pytest.mark.parametrize("name", ["traceparent", "Traceparent", "TRACEPARENT"])
def test_the_span_of_the_caller_is_the_parent(name: str) -> None:
    result = parent_of((name, f" {PARENT} "), ("TraceState", "a=1"), ("tracestate", "b=2"))
    assert (f"{result.trace_id:032x}", f"{result.span_id:016x}", result.trace_flags) == (TRACE, SPAN, 1)
    assert result.trace_state.to_header() == "a=1,b=2"


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("traceparent", ""),),
        (("traceparent", PARENT), ("Traceparent", PARENT)),
        (("traceparent", f"00-{'0' * 32}-{SPAN}-01"),),
        (("traceparent", f"00-{TRACE}-{'0' * 16}-01"),),
        (("traceparent", f"ff-{TRACE}-{SPAN}-01"),),
        (("traceparent", f"00-{TRACE}-{SPAN}-01-more"),),
        (("traceparent", PARENT.upper()),),
        (("tracestate", "a=1"),),
    ],
)
def test_an_invalid_parent_starts_a_new_trace(headers: tuple[tuple[str, str], ...]) -> None:
    assert not parent_of(*headers).is_valid


def test_unsampled_traces_are_recognized() -> None:
    assert is_unsampled(read_context([("traceparent", f"00-{TRACE}-{SPAN}-00")]))
    assert not is_unsampled(read_context([("traceparent", PARENT)]))
    assert not is_unsampled(read_context([]))


def test_an_event_is_copied_with_another_parent_and_not_changed() -> None:
    event: dict[str, Any] = {
        "headers": {"TraceParent": PARENT, "tracestate": "a=1", "accept": "x"},
        "multiValueHeaders": {"TraceParent": [PARENT], "accept": ["x", "y"]},
        "body": "b",
    }
    before = {**event, "headers": dict(event["headers"])}
    span = SpanContext(
        int(TRACE, 16), 5, is_remote=False, trace_flags=TraceFlags(1), trace_state=TraceState([("k", "v")])
    )
    result = with_context(event, span)
    assert event == before
    named = {"traceparent": f"00-{TRACE}-{5:016x}-01", "tracestate": "k=v"}
    assert result["headers"] == {"accept": "x", **named}
    assert result["multiValueHeaders"] == {"accept": ["x", "y"], **{name: [value] for name, value in named.items()}}
    assert get_current_span(read_event_context(result)).get_span_context().span_id == 5


@pytest.mark.parametrize("event", [{}, {"headers": None}, {"headers": []}, {"headers": {"traceparent": 5}}])
def test_events_of_the_invoke_api_may_be_any_json(event: dict[str, Any]) -> None:
    assert not get_current_span(read_event_context(event)).get_span_context().is_valid


def test_an_event_without_headers_gets_headers() -> None:
    span = SpanContext(1, 2, is_remote=False)
    assert with_context({"headers": None}, span)["headers"] == {"traceparent": f"00-{1:032x}-{2:016x}-00"}

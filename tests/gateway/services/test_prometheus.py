from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable
from pathlib import Path

import pytest
from prometheus_client import openmetrics, parser
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from turnout.gateway.rules.stages import CanarySettings, StageSettings
from turnout.gateway.services.prometheus import Sources, kind_of, list_errors, make_prometheus, render_metrics
from turnout.gateway.shared.counters import BOUNDS_S, ERROR_STATUSES, Counts
from turnout.gateway.shared.gauges import Event, Load
from turnout.gateway.shared.sessions import SessionUse
from turnout.gateway.shared.state import ControlState, SharedState
from turnout.http_server.messages import Request, Response

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

IRIS = {"stage": "prod", "model": "iris", "version": "v1", "share": "baseline"}


def samples_of(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


def look_up(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def served() -> SharedState:
    """A server with two workers that has answered six requests."""
    state = SharedState(2)
    canary = CanarySettings(12.5, {"iris": "v2"}, "d1")
    state.publish(ControlState(1, (StageSettings("prod", "api", "d1", {"iris": "v1"}, canary=canary),), {}))
    for worker, key, status, seconds in (
        (0, ("prod", "turnout-local_iris_v1", False), 200, 0.004),
        (1, ("prod", "turnout-local_iris_v1", False), 200, 0.004),
        (1, ("prod", "turnout-local_iris_v1", False), 429, 0.0001),
        (1, ("prod", "turnout-local_iris_v2", True), 502, 99.0),
        (0, ("prod", "turnout-local_router", False), 200, 0.004),
        (0, ("", "", False), 403, 0.0),
    ):
        state.become(worker)
        state.counters.record(key, status, seconds, failed=status == 502)
    state.gauges.write(0, Load(sessions=2, running=1, waiting=3, memory_bytes=1000))
    state.become(0)
    state.sessions.write(SessionUse(used_bytes=500, loads=3, evictions=1))
    state.max_memory_bytes = 2000
    state.add_connections(1, 5)
    state.gauges.count(Event.RESTART)
    state.gauges.count(Event.RELOAD)
    return state


def scrape(state: SharedState) -> Samples:
    _, text = render_metrics(Sources(state, lambda: {"stdout": 7}))
    return samples_of(text.decode())


def test_requests_are_summed_across_all_workers() -> None:
    samples = scrape(served())
    assert look_up(samples, "turnout_requests_total", **IRIS, code_class="2xx") == 2
    assert look_up(samples, "turnout_requests_total", **IRIS, code_class="4xx") == 1
    assert look_up(samples, "turnout_errors_total", **IRIS, code="429", kind="throttled") == 1
    canary = {**IRIS, "version": "v2", "share": "canary"}
    assert look_up(samples, "turnout_errors_total", **canary, code="502", kind="failed") == 1
    assert look_up(samples, "turnout_function_failures_total", **canary) == 1
    general = {**IRIS, "model": "", "version": "router"}
    assert look_up(samples, "turnout_requests_total", **general, code_class="2xx") == 1
    nowhere = {"stage": "", "model": "", "version": "", "share": "baseline"}
    assert look_up(samples, "turnout_errors_total", **nowhere, code="403", kind="unauthorized") == 1


def test_requests_of_consumers_are_counted_by_status() -> None:
    state = served()
    for worker, stage, status in (
        (0, "prod", 200),
        (1, "prod", 200),
        (1, "prod", 429),
        (1, "prod", 418),
        (0, "dev", 200),
    ):
        state.become(worker)
        state.callers.record((stage, "shop", False), status, 0.004)
    samples = scrape(state)
    name, shop = "turnout_caller_requests_total", {"stage": "prod", "caller": "shop"}
    assert look_up(samples, name, **shop, code_class="2xx", code="") == 2
    assert look_up(samples, name, **shop, code_class="4xx", code="429") == 1
    assert look_up(samples, name, **shop, code_class="4xx", code="") == 1  # a status without a counter of its own
    assert look_up(samples, name, **{**shop, "stage": "dev"}, code_class="2xx", code="") == 1
    assert sum(value for (sample, _), value in samples.items() if sample == name) == 5


def test_histogram_is_cumulative_and_ends_with_all_requests() -> None:
    samples = scrape(served())
    name = "turnout_request_duration_seconds"
    buckets = [look_up(samples, f"{name}_bucket", **IRIS, le=str(bound)) for bound in BOUNDS_S]
    assert buckets == [1 if bound < 0.004 else 3 for bound in BOUNDS_S]
    assert look_up(samples, f"{name}_bucket", **IRIS, le="+Inf") == look_up(samples, f"{name}_count", **IRIS) == 3
    assert look_up(samples, f"{name}_sum", **IRIS) == pytest.approx(0.0081)


def test_workers_and_server() -> None:
    samples = scrape(served())
    for name, number in (
        ("turnout_worker_up", 1),
        ("turnout_worker_resident_memory_bytes", 1000),
        ("turnout_open_sessions", 2),
        ("turnout_running_calls", 1),
        ("turnout_waiting_calls", 3),
        ("turnout_open_connections", 0),
        ("turnout_session_memory_bytes", 500),
        ("turnout_session_loads_total", 3),
        ("turnout_session_evictions_total", 1),
    ):
        assert look_up(samples, name, worker="0") == number
    assert look_up(samples, "turnout_worker_up", worker="1") == 0
    assert look_up(samples, "turnout_open_connections", worker="1") == 5
    assert look_up(samples, "turnout_memory_limit_bytes") == 2000
    assert look_up(samples, "turnout_worker_restarts_total") == 1
    assert look_up(samples, "turnout_reloads_total", result="success") == 1
    assert look_up(samples, "turnout_reloads_total", result="failure") == 0
    assert look_up(samples, "turnout_dropped_lines_total", stream="stdout") == 7
    assert look_up(samples, "turnout_canary_percent", stage="prod") == 12.5


def test_restarted_worker_has_no_counts() -> None:
    state = served()
    state.forget(0)
    samples = scrape(state)
    assert look_up(samples, "turnout_worker_up", worker="0") == 0
    assert look_up(samples, "turnout_requests_total", **IRIS, code_class="2xx") == 2


def test_openmetrics_is_returned_on_request() -> None:
    content_type, text = render_metrics(Sources(served()), "application/openmetrics-text; version=1.0.0, */*;q=0.1")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in parse_openmetrics(text.decode())}
    assert families["turnout_requests"].type == "counter"
    assert families["turnout_request_duration_seconds"].unit == "seconds"
    assert openmetrics.exposition.CONTENT_TYPE_LATEST.startswith("application/openmetrics-text")


def test_server_without_requests_has_metrics() -> None:
    samples = scrape(SharedState(1))
    assert look_up(samples, "turnout_control_generation") == 0


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((400, "bad_request"), (401, "unauthorized"), (413, "too_large"), (499, "abandoned"), (418, "bad_request")),
        *((500, "failed"), (502, "failed"), (503, "unavailable"), (504, "timed_out"), (599, "failed")),
    ],
)
def test_kinds_of_errors(status: int, kind: str) -> None:
    assert kind_of(status) == kind


def test_statuses_without_a_counter_of_their_own_count_in_their_class() -> None:
    assert 418 not in ERROR_STATUSES
    state = SharedState(1)
    for status in (418, 418, 400, 599, 503):
        state.counters.record(("prod", "turnout-local_iris_v1", False), status, 0.1)
    (counts,) = state.counters.read().values()
    assert list_errors(counts) == [
        ("400", "bad_request", 1),
        ("503", "unavailable", 1),
        ("4xx", "bad_request", 2),
        ("5xx", "failed", 1),
    ]
    assert list_errors(Counts((0, 1, 0, 0, 0), 0, 0.0, ())) == []


def ask(method: str, path: str) -> Response:
    async def answer() -> Response:
        result = make_prometheus(Sources(served()))(Request(method, path, "", (("Accept", "text/plain"),), b""))
        assert isinstance(result, Awaitable)
        return await result

    return asyncio.run(answer())


def test_only_get_of_the_exact_path_is_answered() -> None:
    assert ask("GET", "/metrics").status == ask("HEAD", "/metrics").status == 200
    assert ask("POST", "/metrics").status == ask("GET", "/metrics/other").status == 404


def test_dashboard_uses_only_existing_metrics(root: Path) -> None:
    dashboard = json.loads((root / "docs" / "grafana" / "turnout.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    assert len(expressions) > 10
    exposed = {name: dict(labels) for name, labels in scrape(served())}
    for expression in expressions:
        for name in re.findall(r"turnout_\w+", expression):
            assert name in exposed, expression
        for label in re.findall(r'(\w+)=~?"', expression):
            assert any(label in labels for labels in exposed.values()), expression

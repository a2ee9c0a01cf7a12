"""`GET /metrics`: everything that the server counts, in the text format of Prometheus or OpenMetrics.

Counters and histograms are exact across all workers. Gauges contain what each worker wrote in the last second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from turnout import __version__
from turnout.gateway.services.aws_wire import AwsError
from turnout.gateway.shared.counters import BOUNDS_S, ROUTED, CounterKey, Counts
from turnout.gateway.shared.gauges import Event
from turnout.gateway.shared.state import SharedState
from turnout.http_server.messages import Handler, Request, Response
from turnout.protocol.naming import METRICS_SEGMENT, split_function_name

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

KINDS: Mapping[int, str] = {
    401: "unauthorized",
    403: "unauthorized",
    404: "not_found",
    413: "too_large",
    414: "too_large",
    429: "throttled",
    431: "too_large",
    499: "abandoned",
    503: "unavailable",
    504: "timed_out",
    507: "unavailable",
}
"""Status -> kind of error; other 4xx are `bad_request`, other 5xx `failed`."""

CALL_LABELS = ("stage", "model", "version", "share")


@dataclass(frozen=True, slots=True)
class Sources:
    """The sources of the metrics.

    Args:
        state: counters and gauges of all workers, and the stages' settings.
        dropped: number of dropped lines of output and of the capture since the start, by stream.
    """

    state: SharedState
    dropped: Callable[[], Mapping[str, int]] = dict


def make_prometheus(sources: Sources) -> Handler:
    """Make the handler; it renders in a thread, because thousands of versions take a while."""

    async def answer_metrics(request: Request) -> Response:
        if request.method not in {"GET", "HEAD"} or request.path != f"/{METRICS_SEGMENT}":
            return AwsError(404, "NotFoundException", f"Ask with GET /{METRICS_SEGMENT}").response()
        accepted = ",".join(value for name, value in request.headers if name.lower() == "accept")
        content_type, text = await asyncio.to_thread(render_metrics, sources, accepted)
        return Response(200, (("Content-Type", content_type),), text)

    return answer_metrics


def render_metrics(sources: Sources, accepted: str = "") -> tuple[str, bytes]:
    """Return all metrics as text.

    Args:
        sources: the sources of the metrics.
        accepted: the request's `Accept` header, which may ask for OpenMetrics.

    Returns:
        The content type and the text.
    """
    from prometheus_client.exposition import choose_encoder  # takes 0.1 s, so only servers that are scraped import it

    encode, content_type = choose_encoder(accepted)
    return content_type, encode(_Collector(sources))


class _Collector:
    """The interface that the library's encoders need."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        state = self._sources.state
        yield from _make_call_metrics(state.counters.read())
        yield _make_caller_metric(state.callers.read())
        yield from _make_worker_metrics(state)
        yield from _make_server_metrics(state, self._sources.dropped())


def _make_caller_metric(counted: Mapping[CounterKey, Counts]) -> Metric:
    from prometheus_client.metrics_core import CounterMetricFamily

    requests = CounterMetricFamily(
        "turnout_caller_requests",
        "Answered requests by consumer and status; a status of its own for each error.",
        labels=["stage", "caller", "code_class", "code"],
    )
    for key, counts in counted.items():
        for digit, number in enumerate(counts.statuses, 1):
            single = {code: number for code, number in counts.errors.items() if code // 100 == digit}
            for code, errors in single.items():
                requests.add_metric([key.stage, key.function, f"{digit}xx", str(code)], errors)
            if rest := number - sum(single.values()):
                requests.add_metric([key.stage, key.function, f"{digit}xx", ""], rest)
    return requests


def labels_of(key: CounterKey) -> list[str]:
    """Return the values of `CALL_LABELS`: `["prod", "iris", "v1", "baseline"]`.

    The names are empty if a request reached no function.
    """
    model, version = split_function_name(key.function)
    return [key.stage, model, version, "canary" if key.is_canary else "baseline"]


def kind_of(status: int) -> str:
    """Return the kind of error of a status."""
    return KINDS.get(status, "bad_request" if status < 500 else "failed")


def _make_call_metrics(counted: Mapping[CounterKey, Counts]) -> Iterator[Metric]:
    from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily

    requests = CounterMetricFamily(
        "turnout_requests", "Answered requests by the class of their status.", labels=[*CALL_LABELS, "code_class"]
    )
    errors = CounterMetricFamily(
        "turnout_errors", "Answers with an error by status and kind.", labels=[*CALL_LABELS, "code", "kind"]
    )
    failures = CounterMetricFamily(
        "turnout_function_failures",
        "Calls that failed in the function, even if a fallback answered.",
        labels=CALL_LABELS,
    )
    durations = HistogramMetricFamily(
        "turnout_request_duration_seconds",
        "From a request's head to its answer, waiting included.",
        labels=CALL_LABELS,
        unit="seconds",
    )
    runs = CounterMetricFamily(
        "turnout_async_runs", "Runs of asynchronous requests by their status.", labels=[*CALL_LABELS, "code_class"]
    )
    run_durations = HistogramMetricFamily(
        "turnout_async_run_duration_seconds",
        "From a run's begin to its answer.",
        labels=CALL_LABELS,
        unit="seconds",
    )
    for key, counts in counted.items():
        if key.kind == ROUTED:
            continue  # counted as the router's, too
        labels = labels_of(key)
        if key.kind:
            for digit, number in enumerate(counts.statuses, 1):
                if number:
                    runs.add_metric([*labels, f"{digit}xx"], number)
            run_durations.add_metric(labels, list(_cumulate(counts.durations)), counts.seconds)
            continue
        for digit, number in enumerate(counts.statuses, 1):
            if number:
                requests.add_metric([*labels, f"{digit}xx"], number)
        for code, kind, number in list_errors(counts):
            errors.add_metric([*labels, code, kind], number)
        failures.add_metric(labels, counts.failures)
        durations.add_metric(labels, list(_cumulate(counts.durations)), counts.seconds)
    yield from (requests, errors, failures, durations)
    if run_durations.samples:  # a project without asynchronous requests has no such metrics
        yield from (runs, run_durations)


def list_errors(counts: Counts) -> list[tuple[str, str, int]]:
    """Yield code, kind and number of each error; those counted only in their class have the code `4xx` or `5xx`."""
    listed = [(str(status), kind_of(status), number) for status, number in sorted(counts.errors.items())]
    for digit in (4, 5):
        others = counts.statuses[digit - 1] - sum(
            number for status, number in counts.errors.items() if status // 100 == digit
        )
        if others > 0:
            listed.append((f"{digit}xx", kind_of(100 * digit), others))
    return listed


def _cumulate(durations: Iterable[int]) -> Iterator[tuple[str, float]]:
    total = 0
    for bound, number in zip((*map(str, BOUNDS_S), "+Inf"), durations, strict=True):
        total += number
        yield bound, total


def _make_worker_metrics(state: SharedState) -> Iterator[Metric]:
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

    up = GaugeMetricFamily("turnout_worker_up", "1 for a worker that serves.", labels=["worker"])
    memory = GaugeMetricFamily(
        "turnout_worker_resident_memory_bytes", "Resident memory of a worker.", labels=["worker"], unit="bytes"
    )
    connections = GaugeMetricFamily("turnout_open_connections", "Connections that a worker holds.", labels=["worker"])
    sessions = GaugeMetricFamily(
        "turnout_open_sessions",
        "Loaded versions: sessions, or environments with --isolated.",
        labels=["worker"],
    )
    running = GaugeMetricFamily("turnout_running_calls", "Calls that run off the event loop.", labels=["worker"])
    waiting = GaugeMetricFamily("turnout_waiting_calls", "Calls that wait for a thread.", labels=["worker"])
    for number, load in enumerate(state.gauges.read()):
        worker = [str(number)]
        up.add_metric(worker, float(load.memory_bytes > 0))
        memory.add_metric(worker, load.memory_bytes)
        connections.add_metric(worker, state.open_connections(number))
        sessions.add_metric(worker, load.sessions)
        running.add_metric(worker, load.running)
        waiting.add_metric(worker, load.waiting)
    yield from (up, memory, connections, sessions, running, waiting)
    used = GaugeMetricFamily(
        "turnout_session_memory_bytes",
        "Memory of a worker's loaded versions, which --max-memory limits.",
        labels=["worker"],
        unit="bytes",
    )
    loads = CounterMetricFamily("turnout_session_loads", "Versions that a worker has loaded.", labels=["worker"])
    evictions = CounterMetricFamily(
        "turnout_session_evictions", "Idle versions that a worker has unloaded to make room.", labels=["worker"]
    )
    for number, use in enumerate(state.sessions.read()):
        used.add_metric([str(number)], use.used_bytes)
        loads.add_metric([str(number)], use.loads)
        evictions.add_metric([str(number)], use.evictions)
    yield from (used, loads, evictions)
    yield GaugeMetricFamily(
        "turnout_memory_limit_bytes",
        "The server's memory limit, set by --max-memory; 0 means no limit.",
        value=state.max_memory_bytes,
        unit="bytes",
    )


def _make_server_metrics(state: SharedState, dropped: Mapping[str, int]) -> Iterator[Metric]:
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

    gauges = state.gauges
    yield CounterMetricFamily(
        "turnout_worker_restarts", "Workers that ended and were started again.", value=gauges.counted(Event.RESTART)
    )
    reloads = CounterMetricFamily("turnout_reloads", "Reloads of the project's files.", labels=["result"])
    reloads.add_metric(["success"], gauges.counted(Event.RELOAD))
    reloads.add_metric(["failure"], gauges.counted(Event.FAILED_RELOAD))
    yield reloads
    lines = CounterMetricFamily(
        "turnout_dropped_lines", "Lines of output that were not read in time and were dropped.", labels=["stream"]
    )
    for stream, number in dropped.items():
        lines.add_metric([stream], number)
    yield lines
    yield CounterMetricFamily(
        "turnout_exported_spans", "Spans that the collector accepted.", value=state.spans.exported()
    )
    yield CounterMetricFamily(
        "turnout_dropped_spans",
        "Spans that were dropped: the queue was full, or the collector did not accept them.",
        value=state.spans.dropped(),
    )
    percent = GaugeMetricFamily("turnout_canary_percent", "The canary's share of a stage's requests.", labels=["stage"])
    generation, control = state.read() if state.generation() else (0, None)
    for stage in control.stages if control is not None else ():
        percent.add_metric([stage.name], stage.canary.percent if stage.canary is not None else 0.0)
    yield percent
    yield GaugeMetricFamily("turnout_control_generation", "Changes of stages since the start.", value=generation)
    yield GaugeMetricFamily(
        "turnout_start_time_seconds", "When the server started, since 1970.", value=state.started_s, unit="seconds"
    )
    yield _make_info({"version": __version__, "workers": str(state.workers)})


def _make_info(values: Mapping[str, str]) -> Any:
    from prometheus_client.metrics_core import InfoMetricFamily

    return InfoMetricFamily("turnout_build", "The server's version, and how many workers it has.", value=dict(values))

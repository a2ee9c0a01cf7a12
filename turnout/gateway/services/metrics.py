"""`GET /turnout/metrics?stage=prod`: the counters of one stage or of all, for judging canaries.

Read by turnout.canary.observation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs

from turnout.gateway.services.aws_wire import AwsError, answer
from turnout.gateway.shared.counters import ASYNC, BOUNDS_S, ROUTED, CounterKey, Counters, Counts
from turnout.http_server.messages import Handler, Request, Response

PATH = "/turnout/metrics"


def make_metrics(
    counters: Counters,
    run: str,
    clock: Callable[[], float],
    dropped: Callable[[], Mapping[str, int]] | None = None,
    callers: Counters | None = None,
) -> Handler:
    """Make the handler.

    Args:
        counters: summed over all workers at each request.
        run: identifies this run of the server: another one counts from zero again.
        clock: seconds since 1970.
        dropped: number of dropped lines of output and of the capture since the start, by stream.
        callers: the same as `counters`, by consumer instead of function; None if they are not counted.
    """

    def answer_metrics(request: Request) -> Response:
        stage = parse_qs(request.query).get("stage", [""])[-1]
        if request.method not in {"GET", "HEAD"}:
            return AwsError(400, "BadRequestException", f"Ask with GET {PATH} or {PATH}?stage=NAME").response()
        functions: dict[str, list[dict[str, Any]]] = {"": [], ASYNC: [], ROUTED: []}
        for key, counts in counters.read().items():
            if key.function and stage in {"", key.stage}:
                functions[key.kind].append(_describe(key, counts))
        called = {} if callers is None else callers.read()
        metrics = {
            "stage": stage,
            "run": run,
            "time": clock(),
            "bounds_s": BOUNDS_S,
            "functions": functions[""],
            "asynchronous": functions[ASYNC],
            "routed": functions[ROUTED],
            "callers": [_describe_caller(key, counts) for key, counts in called.items() if stage in {"", key.stage}],
        }
        return answer(200, metrics if dropped is None else {**metrics, "dropped_lines": dropped()})

    return answer_metrics


def _describe_caller(key: CounterKey, counts: Counts) -> dict[str, Any]:
    return {
        "stage": key.stage,
        "caller": key.function,
        "statuses": counts.statuses,
        "throttled": counts.errors.get(429, 0),
        "seconds": counts.seconds,
        "durations": counts.durations,
    }


def _describe(key: CounterKey, counts: Counts) -> dict[str, Any]:
    return {
        "stage": key.stage,
        "function": key.function,
        "canary": key.is_canary,
        "statuses": counts.statuses,
        "failures": counts.failures,
        "seconds": counts.seconds,
        "durations": counts.durations,
    }

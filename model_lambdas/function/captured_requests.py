"""Logs a share of a version's requests for replays, one line each: `{"turnout_capture": {...}}`.

Wraps the handler at init, only on Lambda; `turnout replay` reads CloudWatch's exports.

A capture never costs the caller the response: a request that cannot be captured is logged and skipped.
"""

from __future__ import annotations

import logging
import random as random_module
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from turnout.protocol.aws.events import LambdaHandler, is_canary, read_event
from turnout.protocol.aws.limits import LARGEST_LOG_LINE_BYTES
from turnout.protocol.codecs.samples import make_sample, write_line
from turnout.protocol.naming import REPLAY_HEADER
from turnout.protocol.requests.runs import read_run
from turnout.protocol.routing.choice import is_shadow

from .runtime import FunctionSpec

log = logging.getLogger("turnout.function")

_SURELY_LARGER = LARGEST_LOG_LINE_BYTES * 2
"""A base64 body with more characters does not fit into a log line and is not read."""


# The system's random source: environments that start from one SnapStart snapshot would otherwise share its state.
_RANDOM = random_module.SystemRandom()


@dataclass(frozen=True, slots=True)
class CaptureRule:
    """The manifest's `capture`: a percentage of the requests, 0-100, and inputs whose values are left out."""

    percent: float
    redact: Collection[str]


def capturing_requests(
    handle: LambdaHandler,
    spec: FunctionSpec,
    rule: CaptureRule,
    write: Callable[[str], object],
    *,
    random: Callable[[], float] = _RANDOM.random,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.perf_counter,
) -> LambdaHandler:
    """Return a handler that also captures.

    Args:
        handle: the handler that answers requests.
        spec: the model and version that the lines name.
        rule: what to capture.
        write: writes one line to the log.
        random: returns a number from 0 up to, but not including, 1; called once per request.
        clock: returns seconds since 1970.
        monotonic: returns seconds, for durations.
    """

    def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        if random() * 100 >= rule.percent:
            return handle(event, context)
        came, started = clock(), monotonic()
        answer = handle(event, context)
        try:
            line = _line(event, answer["statusCode"], spec, rule, came, (monotonic() - started) * 1000)
            if line:
                write(line)
        except Exception:
            log.exception("%s %s: a request could not be captured", spec.model, spec.version)
        return answer

    return handler


def _line(
    event: Mapping[str, Any], status: int, spec: FunctionSpec, rule: CaptureRule, time_s: float, duration_ms: float
) -> str:
    """Return the line; empty for a ping, a router's shadow copy and a replay, which are not callers' requests."""
    context = event.get("requestContext")
    if not context or is_shadow(event) or _is_replay(event, spec):
        return ""
    run = read_run(event)
    if run is not None and run.body_file:
        return _left_out(spec, Path(run.body_file).stat().st_size)
    size = len(event.get("body") or "")
    if size > _SURELY_LARGER:
        return _left_out(spec, size)
    headers, body = read_event(event)
    sample = make_sample(
        headers,
        body,
        rule.redact,
        time=time_s,
        stage=context.get("stage", ""),
        model=spec.model,
        version=spec.version,
        canary=is_canary(event),
        status=status,
        duration_ms=duration_ms,
        resource=event.get("resource", ""),
        caller=_find_caller(context),
    )
    line = b"" if sample is None else write_line(replace(sample, asynchronous=run is not None))
    return line.decode() if len(line) <= LARGEST_LOG_LINE_BYTES else _left_out(spec, len(line))


def _find_caller(context: Mapping[str, Any]) -> str:
    """Return the consumer whose key was sent; empty if the stage has no authorizer of consumers."""
    caller = (context.get("authorizer") or {}).get("caller") if (context.get("identity") or {}).get("apiKey") else ""
    return caller if isinstance(caller, str) else ""


def _is_replay(event: Mapping[str, Any], spec: FunctionSpec) -> bool:
    """Whether a request has the replay header and calls this version by its own path.

    Anyone may send the header; it has no effect on canaries. A canary does not route requests that name their version,
    so they do not count in its judgement, and CloudWatch counts them anyway. On other paths the header is ignored.
    """
    if event.get("resource") != f"/models/{spec.model}/{spec.version}/inference":
        return False
    return any(name.lower() == REPLAY_HEADER for name in event.get("headers") or ())


def _left_out(spec: FunctionSpec, size_bytes: int) -> str:
    """Return a log line in place of a request's own line, which CloudWatch would truncate."""
    fields = {"model": spec.model, "version": spec.version, "bytes": size_bytes, "most_bytes": LARGEST_LOG_LINE_BYTES}
    return orjson.dumps({"turnout_capture_left_out": fields}).decode()

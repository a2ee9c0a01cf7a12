"""Logs a share of a version's requests for replays: one line each, `{"turnout_capture": {...}}`.

Wraps the handler at init, in Lambda only; `turnout replay` reads CloudWatch's exports.

A capture never costs the caller the answer: a request that cannot be captured is logged and skipped.
"""

from __future__ import annotations

import logging
import random as random_module
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from turnout.protocol.aws.events import LambdaHandler, is_canary, read_event
from turnout.protocol.aws.limits import LARGEST_LOG_LINE_BYTES
from turnout.protocol.codecs.samples import make_sample, write_line
from turnout.protocol.naming import REPLAY_HEADER
from turnout.protocol.routing.choice import is_shadow

from .runtime import FunctionSpec

log = logging.getLogger("turnout.function")

_SURELY_LARGER = LARGEST_LOG_LINE_BYTES * 2
"""A body with more characters, in base64, is too long for a line and is not read."""


# The system's random source: environments that start from one SnapStart snapshot would otherwise share its state.
_RANDOM = random_module.SystemRandom()


@dataclass(frozen=True, slots=True)
class CaptureRule:
    """The manifest's `capture`: a share of the requests, 0-100, and inputs whose values are left out."""

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
    """The handler that also captures.

    Args:
        handle: the handler that answers.
        spec: whose model and version the lines name.
        rule: what to capture.
        write: takes one line for the log.
        random: 0 up to but not 1, one call per request.
        clock: seconds since 1970.
        monotonic: seconds, for durations.
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
    """The line; empty for a ping, a router's shadow copy and a replay, which are not callers' requests."""
    context = event.get("requestContext")
    if not context or is_shadow(event) or _is_replay(event, spec):
        return ""
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
    line = b"" if sample is None else write_line(sample)
    return line.decode() if len(line) <= LARGEST_LOG_LINE_BYTES else _left_out(spec, len(line))


def _find_caller(context: Mapping[str, Any]) -> str:
    """The consumer whose key was sent; empty where the stage has no authorizer of consumers."""
    caller = (context.get("authorizer") or {}).get("caller") if (context.get("identity") or {}).get("apiKey") else ""
    return caller if isinstance(caller, str) else ""


def _is_replay(event: Mapping[str, Any], spec: FunctionSpec) -> bool:
    """Whether a request has the replay header on this version's own path.

    Anyone can send the header, without effect: a canary does not route requests that name their version, so none is
    judged by them, and CloudWatch counts them anyway. On other paths the header is ignored.
    """
    if event.get("resource") != f"/models/{spec.model}/{spec.version}/inference":
        return False
    return any(name.lower() == REPLAY_HEADER for name in event.get("headers") or ())


def _left_out(spec: FunctionSpec, size_bytes: int) -> str:
    """The log line for a request whose own line CloudWatch would cut."""
    fields = {"model": spec.model, "version": spec.version, "bytes": size_bytes, "most_bytes": LARGEST_LOG_LINE_BYTES}
    return orjson.dumps({"turnout_capture_left_out": fields}).decode()

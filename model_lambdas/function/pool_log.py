"""Logs each call of a pool: the version, its status and its duration.

CloudWatch measures functions, so the calls of a pool's versions are one number there. Therefore the versions that a
canary moves write their own metrics with the dimensions Model and Version: `Requests` when a call starts, `Duration`
when it ends, and `FailedAnswers` if it failed. A call that crashes the process has only the first. Other versions write
only `FailedAnswers`: CloudWatch charges for each metric of each version in the hours in which it is written. Source:
"Specification: Embedded metric format", Amazon CloudWatch User Guide; Amazon CloudWatch pricing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from turnout.protocol.routing.pooled import is_watched

NAMESPACE = "Turnout"
OF_FUNCTION = ["FunctionName", "Resource"]
OF_VERSION = [*OF_FUNCTION, "Model", "Version"]


@dataclass(frozen=True, slots=True)
class Called:
    """One call of a version.

    Args:
        model: its name.
        version: name of the version.
        digest: the first 12 digits of its artifact's digest.
        arn: the called ARN.
        time_s: start of the call, in seconds since 1970.
        is_watched: whether a canary moves the model.
    """

    model: str
    version: str
    digest: str
    arn: str
    time_s: float
    is_watched: bool


def make_called(event: Mapping[str, Any], context: Any, model: str, version: str, digest: str, time_s: float) -> Called:
    """Return the call of an event."""
    arn = getattr(context, "invoked_function_arn", "")
    return Called(model, version, digest, arn, time_s, is_watched(event, model))


def begin_call(call: Called, write: Callable[[str], object]) -> None:
    """Write the start of a call, if it is counted."""
    if call.is_watched:
        write(_line(call, {"Requests": 1}, {"Requests": [OF_VERSION]}))


def end_call(call: Called, status: int, duration_ms: float, write: Callable[[str], object], *, loaded: bool) -> None:
    """Write the end of a call.

    Args:
        call: the ended call.
        status: status of its answer; 500 without an answer.
        duration_ms: duration of the call, including the loading of its version.
        write: takes one line for the log.
        loaded: whether the version was loaded for it.
    """
    fields: dict[str, Any] = {"status": status, "duration_ms": round(duration_ms, 3), "loaded": loaded}
    metrics: dict[str, list[list[str]]] = {}
    if call.is_watched:
        fields["Duration"] = round(duration_ms, 3)
        metrics["Duration"] = [OF_VERSION]
    if status >= 500:
        fields["FailedAnswers"] = 1
        metrics["FailedAnswers"] = [OF_FUNCTION, OF_VERSION]
    write(_line(call, fields, metrics))


def _line(call: Called, fields: Mapping[str, Any], metrics: Mapping[str, list[list[str]]]) -> str:
    """Return one line of JSON; CloudWatch makes metrics of it if it contains any."""
    name, *alias = call.arn.split(":")[6:] or [""]
    line: dict[str, Any] = {
        "FunctionName": name,
        "Resource": ":".join([name, *alias]),
        "Model": call.model,
        "Version": call.version,
        "digest": call.digest,
        **fields,
    }
    if metrics:
        directives = [
            {
                "Namespace": NAMESPACE,
                "Dimensions": dimensions,
                "Metrics": [{"Name": metric, "Unit": "Milliseconds" if metric == "Duration" else "Count"}],
            }
            for metric, dimensions in metrics.items()
        ]
        line["_aws"] = {"Timestamp": int(call.time_s * 1000), "CloudWatchMetrics": directives}
    return orjson.dumps(line).decode()

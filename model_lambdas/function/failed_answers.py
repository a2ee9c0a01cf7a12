"""Counts responses with status 500 and above for CloudWatch: Lambda's own `Errors` covers only crashes and timeouts.

Wraps the handler at init, only on Lambda; read by turnout.canary.observation.cloudwatch and by alarms. Source:
"Specification: Embedded metric format", Amazon CloudWatch User Guide.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from turnout.protocol.aws.events import LambdaHandler

_DIRECTIVE = {
    "Namespace": "Turnout",
    "Dimensions": [["FunctionName", "Resource"]],
    "Metrics": [{"Name": "FailedAnswers", "Unit": "Count"}],
}


def counting_failures(
    handle: LambdaHandler, write: Callable[[str], object], clock: Callable[[], float] = time.time
) -> LambdaHandler:
    """Return a handler that also counts.

    Args:
        handle: the handler that answers requests.
        write: writes one line to the log.
        clock: returns seconds since 1970.
    """

    def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        answer = handle(event, context)
        if answer["statusCode"] >= 500:
            write(_line(context.invoked_function_arn, clock()))
        return answer

    return handler


def _line(arn: str, time_s: float) -> str:
    """Return one event of the embedded metric format; `arn` ends with the function's name and its alias, if any."""
    name, *alias = arn.split(":")[6:]
    return orjson.dumps(
        {
            "_aws": {"Timestamp": int(time_s * 1000), "CloudWatchMetrics": [_DIRECTIVE]},
            "FunctionName": name,
            "Resource": ":".join([name, *alias]),
            "FailedAnswers": 1,
        }
    ).decode()

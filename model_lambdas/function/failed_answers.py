"""Answers of 500 and more, counted for CloudWatch: Lambda's own `Errors` knows crashes and timeouts only.

Put around the handler at init, in Lambda only; read by turnout.canary.observation.cloudwatch and by alarms. Source:
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
    """The handler that also counts.

    Args:
        handle: the handler that answers.
        write: takes one line for the log.
        clock: seconds since 1970.
    """

    def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        answer = handle(event, context)
        if answer["statusCode"] >= 500:
            write(_line(context.invoked_function_arn, clock()))
        return answer

    return handler


def _line(arn: str, time_s: float) -> str:
    """One event of the embedded metric format; `arn` ends with the function's name and, where one was called, alias."""
    name, *alias = arn.split(":")[6:]
    return orjson.dumps(
        {
            "_aws": {"Timestamp": int(time_s * 1000), "CloudWatchMetrics": [_DIRECTIVE]},
            "FunctionName": name,
            "Resource": ":".join([name, *alias]),
            "FailedAnswers": 1,
        }
    ).decode()

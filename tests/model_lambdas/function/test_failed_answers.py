from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from model_lambdas.function.failed_answers import counting_failures

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:turnout-prod_iris_v1"


def lines_of(status: int, arn: str = ARN) -> list[str]:
    """Return what is written for one answer."""
    lines: list[str] = []
    answer = {"statusCode": status, "headers": {}, "body": ""}
    handler = counting_failures(lambda event, context: answer, lines.append, lambda: 12.3456)
    assert handler({}, SimpleNamespace(invoked_function_arn=arn)) is answer
    return lines


@pytest.mark.parametrize("status", [200, 400, 422, 499])
def test_nothing_is_written_for_successful_answers(status: int) -> None:
    assert lines_of(status) == []


@pytest.mark.parametrize("status", [500, 502, 504])
@pytest.mark.parametrize(
    ("arn", "resource"), [(ARN, "turnout-prod_iris_v1"), (f"{ARN}:live", "turnout-prod_iris_v1:live")]
)
def test_a_failure_is_one_line_that_cloudwatch_counts(status: int, arn: str, resource: str) -> None:
    (line,) = lines_of(status, arn)
    event = orjson.loads(line)
    assert event["_aws"]["Timestamp"] == 12345
    assert embedded_metrics(event) == [
        ("Turnout", "FailedAnswers", {"FunctionName": "turnout-prod_iris_v1", "Resource": resource}, 1)
    ]


def embedded_metrics(event: dict[str, Any]) -> list[tuple[str, str, dict[str, str], float]]:
    """Return the metrics that CloudWatch extracts from an event by the rules of the embedded metric format."""
    return [
        (directive["Namespace"], metric["Name"], {name: event[name] for name in dimensions}, event[metric["Name"]])
        for directive in event["_aws"]["CloudWatchMetrics"]
        for dimensions in directive["Dimensions"]
        for metric in directive["Metrics"]
    ]


def test_an_exception_of_the_handler_reaches_lambda() -> None:
    def fail(event: Any, context: Any) -> dict[str, Any]:
        raise MemoryError

    lines: list[str] = []
    with pytest.raises(MemoryError):
        counting_failures(fail, lines.append)({}, None)
    assert lines == []

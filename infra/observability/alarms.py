"""Alarms of a function and of a stage: failures, throttles, and latency compared with the promise in `slo`.

Without an error rate in `slo`, `ERROR_PERCENT` applies; without a latency, there is no latency alarm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from turnout.plan.guard_alarms import errors_alarm_name
from turnout.plan.values import Function, StagePlan
from turnout.protocol.naming import LIVE, NEXT
from turnout.protocol.routing.pooled import of_version

from ..naming import Place, stage_alarm_name

ERROR_PERCENT = 5.0
"""The percentage of failing calls that raises an alarm, unless `slo` sets another."""

FEWEST_FAILURES = 3
"""The number of calls that must fail within `PERIOD_S` before their percentage counts: one of one is 100% but proves
nothing. If a function fails 5% of its calls, the chance that its first three calls fail is 1 in 8,000.
"""

PERIOD_S = 60
"""The shortest period of Lambda's and API Gateway's metrics: a broken canary ends within a minute or two."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alarm.

    Args:
        kind: `errors`, `throttles` or `p99`.
        name: the name in CloudWatch.
        description: what has happened, as a sentence.
        threshold: the alarm goes off above this value.
        measured: the arguments that define the compared metric.
    """

    kind: str
    name: str
    description: str
    threshold: float
    measured: Mapping[str, Any]


class Alarms(pulumi.ComponentResource):
    """The alarms of a stage, or of a pooled version."""

    def __init__(
        self, name: str, alarms: Sequence[Alarm], actions: Sequence[str], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("turnout:infra:Alarms", name, None, opts)
        for alarm in alarms:
            make_alarm(f"{name}_{alarm.kind}", alarm, actions, pulumi.ResourceOptions(parent=self))
        self.register_outputs({})


def make_alarm(name: str, alarm: Alarm, actions: Sequence[str], opts: pulumi.ResourceOptions) -> None:
    """Make an alarm."""
    aws.cloudwatch.MetricAlarm(
        name,
        name=alarm.name,
        alarm_description=alarm.description,
        comparison_operator="GreaterThanThreshold",
        threshold=alarm.threshold,
        evaluation_periods=1,
        treat_missing_data="notBreaching",  # a function without calls is healthy
        alarm_actions=actions,
        ok_actions=actions,
        opts=opts,
        **alarm.measured,
    )


def alarms_of_function(function: Function) -> Iterator[Alarm]:
    """Return the alarms of a function across all its aliases, so that they cover the baseline and the canary."""
    name, slo = function.name, function.settings.slo
    percent = slo.error_percent or ERROR_PERCENT
    where = {"FunctionName": name}
    yield Alarm(
        "errors",
        errors_alarm_name(name),
        f"More than {percent:g}% of the calls of {name} fail, {FEWEST_FAILURES} or more in a minute.",
        percent,
        {"metric_queries": failure_queries(name)},
    )
    yield Alarm(
        "throttles",
        f"{name}_throttles",
        f"Calls of {name} are refused: its concurrency, or the account's, is used up.",
        0,
        {**_metric("AWS/Lambda", "Throttles", where), "statistic": "Sum"},
    )
    if slo.p99_ms:
        yield Alarm(
            "p99",
            f"{name}_p99",
            f"One call in a hundred of {name} takes longer than {slo.p99_ms:g} ms.",
            slo.p99_ms,
            {**_metric("AWS/Lambda", "Duration", where), "extended_statistic": "p99"},
        )


def alarm_of_version(function: Function, pool: str) -> Alarm:
    """Return the alarm of a pooled version during its canary.

    Args:
        function: the function that the version would have of its own.
        pool: function of the pool, which writes its metrics.
    """
    percent = function.settings.slo.error_percent or ERROR_PERCENT
    return Alarm(
        "errors",
        errors_alarm_name(function.name),
        f"More than {percent:g}% of the calls of {function.model} {function.version} in {pool} fail, "
        f"{FEWEST_FAILURES} or more in a minute.",
        percent,
        {"metric_queries": version_queries(function.name, pool)},
    )


def version_queries(function: str, pool: str) -> list[dict[str, Any]]:
    """Return the queries of the percentage of a pooled version's calls that fail, 0 below `FEWEST_FAILURES`."""
    counted = {
        f"{key}_{alias}": ("Turnout", metric, of_version(pool, function, alias))
        for key, metric in (("failed", "FailedAnswers"), ("calls", "Requests"))
        for alias in (LIVE, NEXT)
    }
    sums = {
        key: f"SUM([{', '.join(f'FILL({key}_{alias}, 0)' for alias in (LIVE, NEXT))}])" for key in ("failed", "calls")
    }
    return _percent_queries(counted, sums, "calls")


def alarms_of_stage(place: Place, api: str, stage: StagePlan) -> Iterator[Alarm]:
    """Return the alarms of a stage, on what its callers observe."""
    percent = stage.slo.error_percent or ERROR_PERCENT
    where = {"ApiName": api, "Stage": stage.name}
    yield Alarm(
        "errors",
        stage_alarm_name(place, stage.name, "errors"),
        f"More than {percent:g}% of the answers of stage {stage.name} are 5xx, {FEWEST_FAILURES} or more in a minute.",
        percent / 100,
        {"metric_queries": answer_queries(api, stage.name)},
    )
    if stage.slo.p99_ms:
        yield Alarm(
            "p99",
            stage_alarm_name(place, stage.name, "p99"),
            f"One answer in a hundred of stage {stage.name} takes longer than {stage.slo.p99_ms:g} ms.",
            stage.slo.p99_ms,
            {**_metric("AWS/ApiGateway", "Latency", where), "extended_statistic": "p99"},
        )


def answer_queries(api: str, stage: str) -> list[dict[str, Any]]:
    """Return the queries for the percentage of a stage's responses that are 5xx, 0 below `FEWEST_FAILURES`."""
    where = {"ApiName": api, "Stage": stage}
    metrics = {"failed": "5XXError", "calls": "Count"}
    return [
        *(
            {"id": key, "metric": {**_metric("AWS/ApiGateway", name, where), "stat": "Sum"}}
            for key, name in metrics.items()
        ),
        {
            "id": "share",
            "expression": f"IF(FILL(failed, 0) >= {FEWEST_FAILURES}, FILL(failed, 0) / calls, 0)",
            "label": "5xx answers, share",
            "return_data": True,
        },
    ]


def failure_queries(function: str) -> list[dict[str, Any]]:
    """Return the queries for the percentage of a function's calls that fail, 0 below `FEWEST_FAILURES`.

    A call fails if it crashes, times out, returns 500 or more, or is throttled. Lambda does not count throttled calls
    as invocations, so if all calls are throttled there are none. `FILL` is needed because a metric without any data
    would leave the whole expression without data.
    """
    counted = {
        "errors": ("AWS/Lambda", "Errors", {"FunctionName": function}),
        "throttles": ("AWS/Lambda", "Throttles", {"FunctionName": function}),
        **{
            f"failed_{alias}": (
                "Turnout",
                "FailedAnswers",
                {"FunctionName": function, "Resource": f"{function}:{alias}"},
            )
            for alias in (LIVE, NEXT)
        },
    }
    calls = {"calls": ("AWS/Lambda", "Invocations", {"FunctionName": function})}
    expressions = {
        "failed": f"SUM([{', '.join(f'FILL({key}, 0)' for key in counted)}])",
        "attempts": "SUM([FILL(calls, 0), FILL(throttles, 0)])",
    }
    return _percent_queries({**counted, **calls}, expressions, "attempts")


def _percent_queries(
    counted: Mapping[str, tuple[str, str, Mapping[str, str]]], sums: Mapping[str, str], attempts: str
) -> list[dict[str, Any]]:
    """Return the queries of the percentage of `attempts` that is `failed`.

    Args:
        counted: id -> namespace, metric and dimensions.
        sums: id -> an expression, including `failed`.
        attempts: id of all calls.
    """
    metrics = [
        {
            "id": key,
            "metric": {
                "namespace": namespace,
                "metric_name": metric,
                "dimensions": dimensions,
                "period": PERIOD_S,
                "stat": "Sum",
            },
        }
        for key, (namespace, metric, dimensions) in counted.items()
    ]
    steps = [{"id": key, "expression": text, "label": key} for key, text in sums.items()]
    percent = f"IF(failed >= {FEWEST_FAILURES}, 100 * failed / {attempts}, 0)"
    return [
        *metrics,
        *steps,
        {"id": "percent", "expression": percent, "label": "failing calls, %", "return_data": True},
    ]


def _metric(namespace: str, metric: str, dimensions: dict[str, str]) -> dict[str, Any]:
    return {"namespace": namespace, "metric_name": metric, "dimensions": dimensions, "period": PERIOD_S}

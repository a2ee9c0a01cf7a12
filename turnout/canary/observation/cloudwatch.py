"""CloudWatch's metrics of a stage's functions: each version is its own function, so the shares are separate.

CloudWatch knows functions, not stages: requests of other stages, and of callers of a version's own path, to the same
function and alias are counted, too. A request that Lambda throttles is an error here, because its caller gets one.
Lambda's own `Errors` are crashes and timeouts; responses with 500 and above are counted by a metric that the function
writes to its log (model_lambdas/function/failed_answers.py).

A pooled version has no function of its own: while a canary moves its model, the pool writes metrics with the version as
a dimension (model_lambdas/function/pool_log.py). A call that started and never ended has failed. Calls that Lambda
throttles reach no version and are not counted.

Latency needs more than percentiles, which cannot be added: CloudWatch's trimmed count, `TC(:20)`, is the number of
values up to 20, and one for each bound makes a histogram. Source: "CloudWatch statistics definitions", Amazon
CloudWatch User Guide.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from turnout.canary.judging.observed import Arm, Observation
from turnout.canary.observation.source import ObservationError, ObservationStart
from turnout.plan.guard_alarms import GuardAlarms, find_ringing
from turnout.plan.served_by import Watched
from turnout.protocol.routing.pooled import of_version

BOUNDS_S = (
    *(0.001, 0.0015, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7),
    *(1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0),
)
"""Upper bounds of the histogram's buckets."""

PERIOD_S = 60
LAG_S = 120.0
"""Metrics of the last minutes are incomplete, and errors arrive after the requests that they belong to."""

LONGEST_S = 15 * 24 * 3600.0
"""Metrics per minute are kept for this long; CloudWatch has no older values per minute."""

MOST_QUERIES = 500
"""Most queries in one GetMetricData call."""

MOST_ALARMS = 100
"""Most alarms in one DescribeAlarms call."""

_LAMBDA = "AWS/Lambda"
_METRICS = (
    (_LAMBDA, "Invocations", "Sum"),
    (_LAMBDA, "Throttles", "Sum"),
    (_LAMBDA, "Errors", "Sum"),
    ("Turnout", "FailedAnswers", "Sum"),
    (_LAMBDA, "Duration", "SampleCount"),
    *((_LAMBDA, "Duration", f"TC(:{bound_s * 1000:g})") for bound_s in BOUNDS_S),
)
"""Namespace, metric and statistic of everything that is queried for one function, in `_arm`'s order."""

_POOLED_METRICS = (
    ("Turnout", "Requests", "Sum"),
    ("Turnout", "FailedAnswers", "Sum"),
    ("Turnout", "Duration", "SampleCount"),
    *(("Turnout", "Duration", f"TC(:{bound_s * 1000:g})") for bound_s in BOUNDS_S),
)
"""The same for a pooled version, in the order of `_pooled_sums`."""


class CloudWatchSource:
    """Observes whole minutes, except for the last two.

    Args:
        client: `boto3.client("cloudwatch")` in the functions' account and region.
        alarms: names of the alarms to read.
        clock: seconds since 1970.
        pools: name that a pooled version's own function would have -> its pool's function.
    """

    def __init__(
        self,
        client: Any,
        alarms: Sequence[str] = (),
        clock: Callable[[], float] = time.time,
        *,
        pools: Mapping[str, str] | None = None,
    ) -> None:
        self._pools = pools or {}
        self._client = client
        self._alarms = tuple(alarms)
        self._clock = clock

    def start(self, stage: str, watched: Sequence[Watched]) -> ObservationStart:  # noqa: ARG002 - CloudWatch keeps the counts itself
        """Return the counters now."""
        return ObservationStart(self._clock())

    def observe(self, stage: str, watched: Sequence[Watched], since: ObservationStart) -> Observation:  # noqa: ARG002 - as above
        """Return everything since then that CloudWatch has now."""
        from botocore.exceptions import BotoCoreError, ClientError

        baseline, canary = _resources(watched)
        now_s = self._clock()
        start_s = math.ceil(max(since.time_s, now_s - LONGEST_S) / PERIOD_S) * PERIOD_S
        end_s = math.floor((now_s - LAG_S) / PERIOD_S) * PERIOD_S
        try:
            totals = self._fetch([*baseline, *canary], start_s, end_s) if end_s > start_s else {}
            alarms = self._fetch_alarms()
        except (BotoCoreError, ClientError) as error:
            hint = "This needs cloudwatch:GetMetricData and cloudwatch:DescribeAlarms in the functions' region."
            raise ObservationError(f"CloudWatch cannot be read: {error}", hint) from error
        return Observation(_arm(baseline, totals), _arm(canary, totals), BOUNDS_S, alarms)

    def ringing(self, alarms: GuardAlarms) -> tuple[str, ...]:
        """Return which of a canary's alarms are in ALARM now.

        Raises:
            ObservationError: CloudWatch cannot be queried.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return find_ringing(self._client, alarms)
        except (BotoCoreError, ClientError) as error:
            hint = "This needs cloudwatch:DescribeAlarms in the functions' region."
            raise ObservationError(f"CloudWatch cannot be read: {error}", hint) from error

    def _fetch(self, resources: Sequence[str], start_s: float, end_s: float) -> dict[str, list[float]]:
        """Resource -> the totals of `_METRICS`."""
        metrics = {resource: self._metrics_of(resource) for resource in resources}
        wanted = [(resource, index) for resource in resources for index in range(len(metrics[resource]))]
        totals = {resource: [0.0] * len(metrics[resource]) for resource in resources}
        span = {"StartTime": datetime.fromtimestamp(start_s, UTC), "EndTime": datetime.fromtimestamp(end_s, UTC)}
        pages = self._client.get_paginator("get_metric_data")
        for first in range(0, len(wanted), MOST_QUERIES):
            part = wanted[first : first + MOST_QUERIES]
            queries = [
                _query(number, metrics[resource][index], self._dimensions(resource))
                for number, (resource, index) in enumerate(part)
            ]
            for page in pages.paginate(MetricDataQueries=queries, **span):
                for result in page["MetricDataResults"]:
                    if result["StatusCode"] not in {"Complete", "PartialData"}:
                        raise ObservationError(f"CloudWatch answered {result['StatusCode']} for {result['Label']}")
                    resource, index = part[int(result["Id"][1:])]
                    totals[resource][index] += sum(result["Values"])
        return {
            resource: _pooled_sums(sums) if metrics[resource] is _POOLED_METRICS else sums
            for resource, sums in totals.items()
        }

    def _metrics_of(self, resource: str) -> Sequence[tuple[str, str, str]]:
        return _POOLED_METRICS if resource.partition(":")[0] in self._pools else _METRICS

    def _dimensions(self, resource: str) -> dict[str, str]:
        function, _, alias = resource.partition(":")
        pool = self._pools.get(function)
        return {"FunctionName": function, "Resource": resource} if pool is None else of_version(pool, function, alias)

    def _fetch_alarms(self) -> dict[str, str]:
        """Return name -> state of the existing alarms."""
        states = {}
        for first in range(0, len(self._alarms), MOST_ALARMS):
            names = list(self._alarms[first : first + MOST_ALARMS])
            response = self._client.describe_alarms(
                AlarmNames=names, AlarmTypes=["MetricAlarm", "CompositeAlarm"], MaxRecords=MOST_ALARMS
            )
            for alarm in (*response.get("MetricAlarms", ()), *response.get("CompositeAlarms", ())):
                states[alarm["AlarmName"]] = alarm["StateValue"]
        return states


def _resources(watched: Sequence[Watched]) -> tuple[list[str], list[str]]:
    """Yield the functions that run for only one share, `name:alias`."""
    shares: tuple[list[str], list[str]] = [], []
    for moved in watched:
        baseline, canary = (
            moved.baseline.versions - moved.canary.versions,
            moved.canary.versions - moved.baseline.versions,
        )
        if not (baseline and canary):
            both = ", ".join(sorted(moved.baseline.versions & moved.canary.versions)) or "unknown functions"
            message = f"CloudWatch cannot distinguish {moved.model}'s canary from its baseline: both run {both}"
            raise ObservationError(message, "Choose a canary version that the baseline's weights do not name.")
        shares[0].extend(sorted(baseline))
        shares[1].extend(sorted(canary))
    return shares


def _pooled_sums(sums: Sequence[float]) -> list[float]:
    """Return the totals of `_POOLED_METRICS` as those of `_METRICS`.

    Calls that never ended are errors, none is throttled.
    """
    requests, failed_answers, timed, *up_to = sums
    begun = max(requests, timed)
    return [begun, 0.0, begun - timed, failed_answers, timed, *up_to]


def _query(number: int, of: tuple[str, str, str], dimensions: Mapping[str, str]) -> dict[str, Any]:
    namespace, metric, statistic = of
    return {
        "Id": f"q{number}",
        "MetricStat": {
            "Metric": {
                "Namespace": namespace,
                "MetricName": metric,
                "Dimensions": [{"Name": name, "Value": value} for name, value in dimensions.items()],
            },
            "Period": PERIOD_S,
            "Stat": statistic,
        },
    }


def _arm(resources: Sequence[str], totals: Mapping[str, Sequence[float]]) -> Arm:
    measured = [totals[resource] for resource in resources if resource in totals]
    if not measured:
        return Arm(durations=(0,) * (len(BOUNDS_S) + 1))
    # A trimmed count is interpolated, so it may have a fraction.
    sums = [round(sum(column)) for column in zip(*measured, strict=True)]
    invocations, throttles, errors, failed_answers, timed, *up_to = sums
    counts = [0, *up_to, timed]
    durations = tuple(max(0, above - below) for below, above in pairwise(counts))
    requests = invocations + throttles
    return Arm(requests, min(requests, errors + throttles + failed_answers), durations)

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.stub import Stubber
from moto import mock_aws

from tests.builders.recorded_metrics import Key, RecordedMetrics
from turnout.canary.judging.observed import Arm, Observation
from turnout.canary.observation.cloudwatch import BOUNDS_S, LONGEST_S, MOST_QUERIES, CloudWatchSource
from turnout.canary.observation.source import ObservationError, ObservationStart
from turnout.plan.served_by import Serving, Watched

NOW_S = 10_000 * 60.0 + 30
"""Half a minute after a full minute."""

EMPTY = Arm(durations=(0,) * (len(BOUNDS_S) + 1))


def client() -> Any:
    return boto3.client(
        "cloudwatch",
        region_name="eu-west-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}),
    )


def moves(model: str, before: str = "v1", after: str = "v2", alias: str = "live") -> Watched:
    def serving(version: str, alias: str) -> Serving:
        name = f"turnout-eu_{model}_{version}"
        return Serving(name, frozenset({f"{name}:{alias}"}))

    return Watched(model, serving(before, "live"), serving(after, alias))


def metrics(resource: str, durations: Sequence[float] = (), **sums: Sequence[float]) -> dict[Key, Sequence[float]]:
    """CloudWatch's metrics of one function: durations in ms, and sums per minute."""
    name = resource.partition(":")[0]
    result: dict[Key, Sequence[float]] = {(name, resource, metric, "Sum"): values for metric, values in sums.items()}
    result[name, resource, "Duration", "SampleCount"] = [len(durations)]
    for bound_s in BOUNDS_S:
        up_to = sum(duration <= bound_s * 1000 for duration in durations)
        result[name, resource, "Duration", f"TC(:{bound_s * 1000:g})"] = [up_to] if up_to else []
    return result


def observe(
    values: Mapping[Key, Sequence[float]],
    watched: Sequence[Watched] = (moves("iris"),),
    since_s: float = NOW_S - 600,
    status: str = "Complete",
) -> tuple[Observation, RecordedMetrics]:
    cloudwatch = client()
    recorded = RecordedMetrics(cloudwatch, values, status)
    source = CloudWatchSource(cloudwatch, clock=lambda: NOW_S)
    return source.observe("prod", watched, ObservationStart(since_s)), recorded


def durations_at(**counts: int) -> tuple[int, ...]:
    """A histogram: `ms20=3` means three requests in the bucket up to 20 ms."""
    bounds = {f"ms{bound_s * 1000:g}": index for index, bound_s in enumerate(BOUNDS_S)} | {"over": len(BOUNDS_S)}
    results = [0] * (len(BOUNDS_S) + 1)
    for name, count in counts.items():
        results[bounds[name]] = count
    return tuple(results)


def test_every_failure_that_callers_see_is_an_error() -> None:
    result, _ = observe(
        metrics("turnout-eu_iris_v1:live", [18, 20, 21, 40_000], Invocations=[3, 1])
        | metrics(
            "turnout-eu_iris_v2:live", [0.4, 0.4], Invocations=[10], Errors=[1, 1], Throttles=[2], FailedAnswers=[3]
        )
    )
    assert result.baseline == Arm(4, 0, durations_at(ms20=2, ms30=1, over=1))
    assert result.canary == Arm(12, 7, durations_at(ms1=2))
    assert result.bounds_s == BOUNDS_S


def test_asynchronous_runs_are_not_counted() -> None:
    synchronous = metrics("turnout-eu_iris_v2:live", [18], Invocations=[1])
    failing = metrics("turnout-eu_iris_v2:live_async", [9_000] * 5, Invocations=[5], Errors=[5], FailedAnswers=[2])
    result, _ = observe(synchronous | failing)
    assert result.canary == Arm(1, 0, durations_at(ms20=1))


def test_errors_never_exceed_requests() -> None:
    # The metrics of one minute arrive one after the other.
    result, _ = observe(metrics("turnout-eu_iris_v2:live", Invocations=[1], Errors=[3]))
    assert (result.canary.requests, result.canary.errors) == (1, 1)


def test_interpolated_counts_are_rounded() -> None:
    values = metrics("turnout-eu_iris_v1:live", Invocations=[3])
    name = "turnout-eu_iris_v1"
    values[name, f"{name}:live", "Duration", "SampleCount"] = [1, 2]
    values |= {(name, f"{name}:live", "Duration", f"TC(:{b * 1000:g})"): [0.4, 1.7] for b in BOUNDS_S if b >= 0.02}
    assert observe(values)[0].baseline.durations == durations_at(ms20=2, over=1)


def test_full_minutes_after_the_start_are_requested_except_for_the_last_two() -> None:
    _, recorded = observe({}, since_s=NOW_S - 600)
    start_s, end_s = 10_000 * 60 - 540, 10_000 * 60 - 120
    assert recorded.spans == {(datetime.fromtimestamp(start_s, UTC), datetime.fromtimestamp(end_s, UTC))}


def test_minutes_beyond_the_retention_are_not_requested() -> None:
    now_s = 100 * 24 * 3600.0
    cloudwatch = client()
    recorded = RecordedMetrics(cloudwatch, {})
    CloudWatchSource(cloudwatch, clock=lambda: now_s).observe("prod", [moves("iris")], ObservationStart(0.0))
    assert recorded.spans == {
        (datetime.fromtimestamp(now_s - LONGEST_S, UTC), datetime.fromtimestamp(now_s - 120, UTC)),
    }


@pytest.mark.parametrize("age_s", [0, 60, 149])
def test_nothing_is_requested_before_a_minute_is_complete(age_s: float) -> None:
    result, recorded = observe(metrics("turnout-eu_iris_v1:live", Invocations=[1]), since_s=NOW_S - age_s)
    assert (result.baseline, result.canary, recorded.asked) == (EMPTY, EMPTY, [])


def test_models_are_summed_and_requested_in_several_calls() -> None:
    models = [f"m{number}" for number in range(20)]
    values: dict[Key, Sequence[float]] = {}
    for model in models:
        values |= metrics(f"turnout-eu_{model}_v1:live", [5], Invocations=[2])
        values |= metrics(f"turnout-eu_{model}_v2:live", [7], Invocations=[1], Errors=[1])
    result, recorded = observe(values, [moves(model) for model in models])
    assert result.baseline == Arm(40, 0, durations_at(ms5=20))
    assert result.canary == Arm(20, 20, durations_at(ms7=20))
    assert {asked["MetricDataQueries"][0]["Id"] for asked in recorded.asked} == {"q0"}
    assert sorted({len(asked["MetricDataQueries"]) for asked in recorded.asked}) == [320, MOST_QUERIES]


def test_a_release_is_distinguished_by_its_alias() -> None:
    result, _ = observe(
        metrics("turnout-eu_iris_v1:live", Invocations=[8]) | metrics("turnout-eu_iris_v1:next", Invocations=[2]),
        [moves("iris", after="v1", alias="next")],
    )
    assert (result.baseline.requests, result.canary.requests) == (8, 2)


def test_a_version_of_both_shares_cannot_be_distinguished() -> None:
    baseline = Serving("turnout-eu_iris_router", frozenset({"turnout-eu_iris_v1:live", "turnout-eu_iris_v2:live"}))
    canary = Serving("turnout-eu_iris_v2", frozenset({"turnout-eu_iris_v2:live"}))
    with pytest.raises(ObservationError, match="both run turnout-eu_iris_v2:live") as raised:
        observe({}, [Watched("iris", baseline, canary)])
    assert "the baseline's weights do not name" in raised.value.hint


def test_a_version_that_both_shares_run_is_left_out() -> None:
    def behind(*versions: str) -> Serving:
        return Serving("turnout-eu_iris_router", frozenset(f"turnout-eu_iris_{name}:live" for name in versions))

    values: dict[Key, Sequence[float]] = {}
    for name, count in (("v1", 1), ("v2", 10), ("v3", 100)):
        values |= metrics(f"turnout-eu_iris_{name}:live", Invocations=[count])
    result, _ = observe(values, [Watched("iris", behind("v1", "v2"), behind("v2", "v3"))])
    assert (result.baseline.requests, result.canary.requests) == (1, 100)


@pytest.mark.parametrize("status", ["InternalError", "Forbidden"])
def test_incomplete_results_raise_an_observation_error(status: str) -> None:
    with pytest.raises(ObservationError, match=f"{status} for Invocations"):
        observe({}, status=status)


def test_denied_access_is_reported_with_the_required_permissions() -> None:
    cloudwatch = client()
    with Stubber(cloudwatch) as stubber:
        stubber.add_client_error("get_metric_data", "AccessDenied", "not authorized", 403)
        source = CloudWatchSource(cloudwatch, clock=lambda: NOW_S)
        with pytest.raises(ObservationError, match=r"AccessDenied.*not authorized") as raised:
            source.observe("prod", [moves("iris")], ObservationStart(0))
    assert "cloudwatch:GetMetricData" in raised.value.hint


def test_an_observation_starts_at_the_present() -> None:
    assert CloudWatchSource(client(), clock=lambda: NOW_S).start("prod", [moves("iris")]) == ObservationStart(NOW_S)


@pytest.fixture
def aws() -> Iterator[Any]:
    with mock_aws():
        yield client()


def test_alarm_states_are_read_if_alarms_exist(aws: Any) -> None:
    for name, state in (("slow", "ALARM"), ("fine", "OK")):
        aws.put_metric_alarm(
            AlarmName=name,
            MetricName="Errors",
            Namespace="AWS/Lambda",
            Statistic="Sum",
            Period=60,
            EvaluationPeriods=1,
            Threshold=1,
            ComparisonOperator="GreaterThanThreshold",
        )
        aws.set_alarm_state(AlarmName=name, StateValue=state, StateReason="a test")
    source = CloudWatchSource(aws, ("fine", "slow", "absent"), clock=lambda: NOW_S)
    assert source.observe("prod", [moves("iris")], ObservationStart(NOW_S)).alarms == {"fine": "OK", "slow": "ALARM"}


def test_sums_are_those_of_cloudwatch(aws: Any) -> None:
    """Runs against moto, as far as it supports this: sums of plain metrics, by dimensions and time."""
    resource = "turnout-eu_iris_v2:live"

    def put(metric: str, value: float, age_s: float, alias: str = resource) -> None:
        dimensions = [{"Name": "FunctionName", "Value": "turnout-eu_iris_v2"}, {"Name": "Resource", "Value": alias}]
        fields = {"MetricName": metric, "Dimensions": dimensions, "Value": value, "Timestamp": NOW_S - age_s}
        aws.put_metric_data(Namespace="AWS/Lambda", MetricData=[fields])

    put("Invocations", 40, 300)
    put("Invocations", 2, 240)
    put("Errors", 3, 240)
    put("Invocations", 100, 5000)
    put("Invocations", 100, 5)
    put("Invocations", 100, 240, "turnout-eu_iris_v2:next")
    result = CloudWatchSource(aws, clock=lambda: NOW_S).observe("prod", [moves("iris")], ObservationStart(NOW_S - 600))
    assert (result.canary.requests, result.canary.errors) == (42, 3)


POOLS = {f"turnout-eu_iris_{version}": "turnout-eu_small_pool" for version in ("v1", "v2")}


def test_versions_of_a_pool_are_distinguished_by_their_metrics_dimensions() -> None:
    """The pool is one function, so only its metrics for each version show which one answered."""
    cloudwatch = client()
    pool = "turnout-eu_small_pool:live"
    values = (
        metrics(f"{pool}/iris/v1", [5] * 90, Requests=[90])
        | metrics(f"{pool}/iris/v2", [5] * 8, Requests=[10], FailedAnswers=[3])  # two calls never ended
        | metrics(f"{pool}/digits/v1", [5] * 90, Requests=[1000])
        | metrics(pool, [5] * 90, Invocations=[5000], Errors=[10])
    )
    RecordedMetrics(cloudwatch, values)
    source = CloudWatchSource(cloudwatch, clock=lambda: NOW_S, pools=POOLS)
    result = source.observe("prod", [moves("iris")], ObservationStart(NOW_S - 600))
    assert result.baseline == Arm(90, 0, durations_at(ms5=90))
    assert result.canary == Arm(10, 5, durations_at(ms5=8))


def test_canary_that_leaves_a_pool_reads_each_versions_own_metrics() -> None:
    cloudwatch = client()
    pool = "turnout-eu_small_pool"
    values = metrics("turnout-eu_iris_v2:live", [7], Invocations=[4], Errors=[1])
    values |= metrics(f"{pool}:live/iris/v1", [5, 5], Requests=[2], FailedAnswers=[1])
    recorded = RecordedMetrics(cloudwatch, values)
    source = CloudWatchSource(cloudwatch, clock=lambda: NOW_S, pools={"turnout-eu_iris_v1": pool})
    result = source.observe("prod", [moves("iris")], ObservationStart(NOW_S - 600))
    assert result.baseline == Arm(2, 1, durations_at(ms5=2))
    assert result.canary == Arm(4, 1, durations_at(ms7=1))
    stats = [query["MetricStat"]["Metric"] for asked in recorded.asked for query in asked["MetricDataQueries"]]
    assert {entry["Namespace"] for entry in stats if len(entry["Dimensions"]) == 4} == {"Turnout"}


def test_running_calls_do_not_lower_the_request_count() -> None:
    cloudwatch = client()
    pool = "turnout-eu_small_pool"
    RecordedMetrics(cloudwatch, metrics(f"{pool}:live/iris/v1", [5, 5, 5], Requests=[2]))
    source = CloudWatchSource(cloudwatch, clock=lambda: NOW_S, pools={"turnout-eu_iris_v1": pool})
    result = source.observe("prod", [moves("iris")], ObservationStart(NOW_S - 600))
    assert (result.baseline.requests, result.baseline.errors) == (3, 0)

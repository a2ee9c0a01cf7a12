"""Requests in the functions' logs: which ones are read, how many, and each only once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.stub import Stubber

from tests.builders.logs import line_of, log_lines, logs_client
from turnout.canary.observation.logged_samples import LAG_S, LONGEST_S, MOST_PAGES, LoggedSamples
from turnout.canary.observation.samples import MOST_SAMPLES
from turnout.canary.observation.source import ObservationError
from turnout.client.captured_lines import Sample

NOW_S = float(round(time.time()))
"""The present, because moto accepts no lines of other weeks."""

V1, V2 = "shop-live_iris_v1", "shop-live_iris_v2"
ROUTE = "/models/iris/inference"
SAMPLE = Sample(NOW_S - 100, "prod", "iris", "v1", False, "application/json", None, b'{"x":[1]}', 200, 2.5, ROUTE)


@dataclass
class Clock:
    now_s: float = NOW_S

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def logs() -> Iterator[Any]:
    with logs_client() as client:
        yield client


def take(logs: Any, since_s: float = NOW_S - 1000, **parts: float) -> Sequence[Sample]:
    functions = {f"shop-live_iris_{version}": part for version, part in (parts or {"v1": 1.0}).items()}
    return LoggedSamples(logs, functions, Clock()).take("prod", since_s)


def test_logged_requests_are_read_unchanged(logs: Any) -> None:
    binary = {"header_length": 2, "body": b"{}\xff", "content_type": "application/octet-stream"}
    log_lines(logs, V1, [line_of(SAMPLE), line_of(SAMPLE, **binary)])
    log_lines(logs, V2, [line_of(SAMPLE, version="v2", canary=True, resource="/v2/models/iris/infer")])
    first, second, third = take(logs, v1=1.0, v2=1.0)
    assert first == SAMPLE
    assert (second.header_length, second.body) == (2, b"{}\xff")
    assert (third.version, third.canary) == ("v2", True)


@pytest.mark.parametrize(
    "changes",
    [
        {"stage": "dev"},
        {"resource": "/models/iris/v1/inference"},  # sent again before, or by a caller who requested v1
        {"resource": "/models/pair/inference"},  # a graph calls it
        {"resource": ""},
        {"asynchronous": True},
        {"time": NOW_S - 1001},
        {"time": NOW_S - LAG_S},
    ],
)
def test_requests_without_a_canary_decision_or_from_another_time_are_skipped(
    changes: dict[str, Any], logs: Any
) -> None:
    log_lines(logs, V1, [line_of(SAMPLE, **changes)])
    assert take(logs) == []


def test_other_lines_and_truncated_lines_are_skipped(logs: Any) -> None:
    _, line = line_of(SAMPLE)
    others = ["START RequestId: 1", line[:50], '{"turnout_capture_left_out": {"bytes": 300000}}', line]
    log_lines(logs, V1, [(NOW_S - 100, other) for other in others])
    assert take(logs) == [SAMPLE]


def test_each_query_continues_where_the_previous_one_ended(logs: Any) -> None:
    log_lines(logs, V1, [line_of(SAMPLE, time=NOW_S - age_s) for age_s in (100, LAG_S + 1, LAG_S, LAG_S - 10)])
    clock = Clock()
    samples = LoggedSamples(logs, {V1: 1.0}, clock)

    def look() -> list[float]:
        return [NOW_S - sample.time for sample in samples.take("prod", NOW_S - 1000)]

    assert look() == [100, LAG_S + 1]
    assert look() == []
    clock.now_s += 30
    assert look() == [LAG_S, LAG_S - 10]


def test_at_most_an_hour_is_read(logs: Any) -> None:
    oldest = NOW_S - LAG_S - LONGEST_S
    log_lines(logs, V1, [line_of(SAMPLE, time=oldest - 1), line_of(SAMPLE, time=oldest)])
    assert [sample.time for sample in take(logs, since_s=0.0)] == [oldest]


def test_functions_share_the_limit_of_one_query(logs: Any) -> None:
    for name in (V1, V2):
        version = name.rpartition("_")[2]
        lines = [line_of(SAMPLE, version=version, duration_ms=float(number)) for number in range(MOST_SAMPLES)]
        log_lines(logs, name, lines)
    result = take(logs, v1=1.0, v2=1.0)
    assert [sample.duration_ms for sample in result] == 2 * [float(number) for number in range(MOST_SAMPLES // 2)]


@pytest.mark.parametrize("group", ["shop-live_iris", "shop-live_functions"])
def test_functions_with_a_shared_log_group_are_distinguished(logs: Any, group: str) -> None:
    rows = [line_of(SAMPLE), line_of(SAMPLE, version="v2"), line_of(SAMPLE, model="digits"), line_of(SAMPLE)]
    log_lines(logs, group, rows)
    assert [sample.version for sample in take(logs, v1=1.0, v2=1.0)] == ["v1", "v1", "v2"]


def test_only_a_part_of_the_logged_requests_is_used(logs: Any) -> None:
    log_lines(logs, V1, [line_of(SAMPLE, duration_ms=float(number)) for number in range(10)])
    draws = iter([0.0, 0.25, 0.5, 0.75] * 3)
    samples = LoggedSamples(logs, {V1: 0.5}, Clock(), lambda: next(draws))
    assert [sample.duration_ms for sample in samples.take("prod", 0.0)] == [0, 1, 4, 5, 8, 9]


def test_nothing_is_queried_without_functions_or_time() -> None:
    with logs_client() as client, Stubber(client):  # a client that rejects all calls
        assert LoggedSamples(client, {}, Clock()).take("prod", 0.0) == []
        assert LoggedSamples(client, {V1: 1.0}, Clock()).take("prod", NOW_S - LAG_S) == []


def test_a_limited_number_of_pages_is_read() -> None:
    _, line = line_of(SAMPLE)
    with logs_client() as client, Stubber(client) as stubber:
        for number in range(MOST_PAGES):
            events = [{"message": line}] if number % 2 else []
            stubber.add_response("filter_log_events", {"events": events, "nextToken": str(number)})
        assert len(take(client)) == MOST_PAGES // 2
        stubber.assert_no_pending_responses()


def test_an_unreadable_log_is_reported_and_read_again_later(logs: Any) -> None:
    samples = LoggedSamples(logs, {V1: 1.0}, Clock())
    with pytest.raises(ObservationError, match=r"CloudWatch Logs cannot be read: .*ResourceNotFound") as raised:
        samples.take("prod", 0.0)
    assert "logs:FilterLogEvents" in raised.value.hint
    log_lines(logs, V1, [line_of(SAMPLE)])
    assert samples.take("prod", 0.0) == [SAMPLE]


def test_samples_of_a_pooled_version_are_read_from_its_pools_log(logs: Any) -> None:
    log_lines(logs, "shop-live_small_pool", [line_of(SAMPLE), line_of(SAMPLE, version="v2")])
    pools = {"shop-live_iris_v1": "shop-live_small_pool"}
    (sample,) = LoggedSamples(logs, {"shop-live_iris_v1": 1.0}, Clock(), pools=pools).take("prod", NOW_S - 1000)
    assert sample == SAMPLE

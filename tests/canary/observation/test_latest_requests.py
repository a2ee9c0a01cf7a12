"""The latest requests in the functions' logs: which ones are returned, and how few calls they need."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.stub import Stubber

from tests.builders.logs import line_of, log_lines, logs_client
from turnout.canary.observation.latest_requests import (
    FORGET_S,
    MOST_CALLS,
    MOST_GROUP_BYTES,
    MOST_GROUPS,
    MOST_KEPT_GROUPS,
    MOST_OF_GROUP,
    MOST_PAGES,
    REFRESH_S,
    SPANS_S,
    LatestLook,
    LatestRequests,
)
from turnout.canary.observation.source import ObservationError
from turnout.client.captured_lines import Sample

NOW_S = float(round(time.time()))
"""The present, because moto accepts no lines of other weeks."""

V1, V2 = "shop-live_iris_v1", "shop-live_iris_v2"
SAMPLE = Sample(
    NOW_S - 1, "prod", "iris", "v1", False, "application/json", None, b'{"x":[1]}', 200, 2.5, "/models/iris/inference"
)


@dataclass
class Clock:
    now_s: float = NOW_S

    def __call__(self) -> float:
        return self.now_s


class Missing(Exception):  # noqa: N818 - boto3's exception names do not end with Error, either
    pass


class Exceptions:
    ResourceNotFoundException = Missing


@dataclass
class PagedLogs:
    """Logs that answer in pages: group -> events of each page, for any requested time span."""

    pages: Mapping[str, Sequence[Sequence[str]]]
    asked: list[Mapping[str, Any]] = field(default_factory=list)
    exceptions = Exceptions

    def filter_log_events(self, **query: Any) -> Mapping[str, Any]:
        self.asked.append(query)
        pages = self.pages.get(query["logGroupName"].removeprefix("/aws/lambda/"))
        if pages is None:
            raise Missing
        number = int(query.get("nextToken", "0"))
        events = [
            {"eventId": f"{number}-{index}", "timestamp": 1000 * number + index, "message": message}
            for index, message in enumerate(pages[number] if number < len(pages) else ())
        ]
        return {"events": events} | ({"nextToken": str(number + 1)} if number + 1 < len(pages) else {})


@pytest.fixture
def logs() -> Iterator[Any]:
    with logs_client() as client:
        yield client


def texts(count: int, **changes: Any) -> list[str]:
    return [line_of(SAMPLE, duration_ms=float(number), **changes)[1] for number in range(count)]


def test_the_latest_requests_come_first_and_other_lines_are_skipped(logs: Any) -> None:
    _, line = line_of(SAMPLE)
    others = ["START RequestId: 1", line[:50], '{"turnout_capture_left_out": {"bytes": 300000}}']
    lines = [line_of(SAMPLE, time=NOW_S - age_s) for age_s in (SPANS_S[-1] + 60, 7200, 400)]
    log_lines(logs, V1, [*lines, *((NOW_S - 5, other) for other in others), line_of(SAMPLE)])
    log_lines(logs, V2, [line_of(SAMPLE, version="v2", canary=True, time=NOW_S - 30, body=b"\xff", header_length=0)])
    look = LatestRequests(logs, Clock()).read([V1, V2])
    assert [NOW_S - sample.time for sample in look.samples] == [1, 30, 400, 7200]
    assert (look.samples[1].version, look.samples[1].body, look.samples[1].canary) == ("v2", b"\xff", True)
    assert (look.read, look.of, look.missing, look.is_cut) == (2, 2, (), False)


def test_a_query_within_seconds_uses_the_cache_and_a_later_one_reads_new_lines(logs: Any) -> None:
    log_lines(logs, V1, [line_of(SAMPLE)])
    clock = Clock()
    latest = LatestRequests(logs, clock)
    first = latest.read([V1])
    with Stubber(logs):  # a client that rejects all calls
        clock.now_s += REFRESH_S - 1
        assert latest.read([V1]) == first
        assert latest.kept() == list(first.samples)
    event = {"timestamp": round(NOW_S * 1000), "message": line_of(SAMPLE, duration_ms=9.0)[1]}
    logs.put_log_events(logGroupName=f"/aws/lambda/{V1}", logStreamName="one", logEvents=[event])
    clock.now_s += 2
    assert [sample.duration_ms for sample in latest.read([V1]).samples] == [2.5, 9.0]


def test_a_group_is_queried_once_for_new_lines_and_further_back_only_for_more() -> None:
    clock = Clock()
    few, many = PagedLogs({V1: [texts(1)]}), PagedLogs({V1: [texts(MOST_OF_GROUP + 1)]})
    for logs, first in ((few, len(SPANS_S)), (many, 1)):
        clock.now_s = NOW_S
        latest = LatestRequests(logs, clock)
        latest.read([V1])
        assert len(logs.asked) == first
        clock.now_s += REFRESH_S
        latest.read([V1])
        assert len(logs.asked) == first + 1
        clock.now_s += FORGET_S + 1
        latest.read([V1])
        assert len(logs.asked) == 2 * first + 1


def test_only_the_latest_of_many_lines_are_kept() -> None:
    logs = PagedLogs({V1: [texts(200), texts(MOST_OF_GROUP)]})
    look = LatestRequests(logs, Clock()).read([V1])
    assert len(look.samples) == MOST_OF_GROUP
    # All lines have the same second: the order of the events decides.
    assert {sample.duration_ms for sample in look.samples} == {float(number) for number in range(MOST_OF_GROUP)}
    assert not look.is_cut


def test_fewer_large_requests_are_kept() -> None:
    size = MOST_GROUP_BYTES // 4
    logs = PagedLogs({V1: [texts(6, body=b"\x00" * size)]})
    assert len(LatestRequests(logs, Clock()).read([V1]).samples) == 4
    assert len(logs.asked) == 1


def test_a_long_log_is_continued_by_the_next_query() -> None:
    """CloudWatch returns empty pages while it searches."""
    clock = Clock()
    logs = PagedLogs({V1: [*[[]] * (MOST_PAGES + 1), texts(MOST_OF_GROUP)]})
    latest = LatestRequests(logs, clock)
    assert latest.read([V1]) == LatestLook((), 1, 1, (), is_cut=True)
    assert len(logs.asked) == MOST_PAGES
    logs.pages = {V1: [[]] * (MOST_PAGES - 1) + [texts(MOST_OF_GROUP)]}  # the new lines have several pages, too
    clock.now_s += REFRESH_S
    look = latest.read([V1])
    assert (len(look.samples), look.is_cut) == (MOST_OF_GROUP, False)


@pytest.mark.parametrize("group", ["shop-live_iris", "shop-live_functions"])
def test_a_shared_group_is_read_once_and_lines_of_other_groups_are_skipped(group: str) -> None:
    stranger = [] if group.endswith("functions") else texts(1, model="digits")
    logs = PagedLogs({group: [[*texts(1), *texts(1, version="v2"), *texts(1, version="v3"), *stranger]]})
    clock = Clock()
    latest = LatestRequests(logs, clock)
    look = latest.read([V1, V2])
    assert sorted(sample.version for sample in look.samples) == ["v1", "v2"]
    assert (look.read, look.missing) == (2, ())
    reads = [query for query in logs.asked if query["logGroupName"] == f"/aws/lambda/{group}"]
    assert len(reads) == len(SPANS_S)
    before = len(logs.asked)
    assert {sample.model for sample in latest.kept()} == {"iris"}
    clock.now_s += REFRESH_S
    latest.read([V2])
    assert len(logs.asked) == before + 1, "the stack's kind of group is known now"


def test_a_line_printed_by_another_function_is_skipped() -> None:
    logs = PagedLogs({V1: [[*texts(1, version="v2"), *texts(1)]]})
    assert [sample.version for sample in LatestRequests(logs, Clock()).read([V1]).samples] == ["v1"]


def test_functions_without_a_log_group_are_named(logs: Any) -> None:
    log_lines(logs, V1, [line_of(SAMPLE)])
    look = LatestRequests(logs, Clock()).read([V2, V1])
    assert (look.read, look.of, look.missing) == (1, 2, (V2,))
    assert len(look.samples) == 1


def test_the_number_of_calls_and_groups_is_limited() -> None:
    names = [f"shop-live_m{number}_v1" for number in range(3 * MOST_KEPT_GROUPS)]
    clock = Clock()
    logs = PagedLogs({name: [texts(1, model=name.split("_")[1])] for name in names})
    latest = LatestRequests(logs, clock)
    look = latest.read(names)
    assert (look.read, look.of, look.missing, look.is_cut) == (MOST_GROUPS, len(names), (), False)
    for start in range(0, len(names), MOST_GROUPS):
        look = latest.read(names[start : start + MOST_GROUPS])
    assert len(logs.asked) == MOST_CALLS
    assert look.is_cut
    assert len(latest.kept()) <= MOST_KEPT_GROUPS
    clock.now_s += 60
    assert latest.read(names[-MOST_GROUPS:]).read == MOST_GROUPS


def test_cached_requests_are_returned_when_no_calls_are_left() -> None:
    clock = Clock()
    logs = PagedLogs({V1: [texts(1)], V2: [[]] * 100})
    latest = LatestRequests(logs, clock)
    latest.read([V1])
    for _ in range(30):
        clock.now_s += 1
        latest.read([V2])
    assert latest.read([V1]).samples


def test_a_log_without_read_permission_is_reported() -> None:
    with logs_client() as client, Stubber(client) as stubber:
        stubber.add_client_error("filter_log_events", "AccessDeniedException", "no")
        with pytest.raises(ObservationError, match=r"CloudWatch Logs cannot be read: .*AccessDenied") as raised:
            LatestRequests(client, Clock()).read([V1])
        assert "logs:FilterLogEvents" in raised.value.hint


def test_requests_of_pooled_versions_are_read_from_their_pools_log(logs: Any) -> None:
    pool = V1.replace("iris_v1", "small_pool")
    log_lines(logs, pool, [line_of(SAMPLE), line_of(SAMPLE, version="v2")])
    look = LatestRequests(logs, Clock()).read([V1, V2], {V1: pool, V2: pool})
    assert sorted(sample.version for sample in look.samples) == ["v1", "v2"]
    assert LatestRequests(logs, Clock()).read([V1], {V1: pool}).samples[0].version == "v1"

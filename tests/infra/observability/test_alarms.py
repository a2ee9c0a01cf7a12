"""Alarms of functions and stages."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from infra.observability.alarms import answer_queries, failure_queries
from tests.builders.deployed import deployed
from tests.builders.manifests import manifest, model, stage
from turnout.manifest.parser import Slo


def test_version_without_slo_has_alarms_for_errors_and_throttles() -> None:
    alarms = deployed(manifest((model(versions=("v1",)),))).of("cloudwatch/metricAlarm:MetricAlarm")
    assert alarms.keys() == {
        "iris_v1_errors", "iris_v1_throttles", "router_errors", "router_throttles", "stage-prod_errors"
    }  # fmt: skip
    errors = alarms["iris_v1_errors"].inputs
    assert (errors["name"], errors["threshold"]) == ("turnout-test_iris_v1_errors", 5.0)
    assert errors["treatMissingData"] == "notBreaching"
    assert alarms["stage-prod_errors"].inputs["threshold"] == 0.05


def test_slo_determines_the_thresholds() -> None:
    only = model(versions=("v1",))
    promised = replace(only, versions=(replace(only.versions[0], slo=Slo(200.0, 1.0)),))
    alarms = deployed(manifest((promised,), (stage(slo=Slo(500.0, 2.0)),))).of("cloudwatch/metricAlarm:MetricAlarm")
    assert alarms["iris_v1_errors"].inputs["threshold"] == 1.0
    p99 = alarms["iris_v1_p99"].inputs
    assert (p99["threshold"], p99["extendedStatistic"], p99["metricName"]) == (200.0, "p99", "Duration")
    assert alarms["stage-prod_errors"].inputs["threshold"] == 0.02
    latency = alarms["stage-prod_p99"].inputs
    assert latency["dimensions"] == {"ApiName": "turnout-test_none", "Stage": "prod"}
    assert (latency["threshold"], latency["metricName"]) == (500.0, "Latency")


def compute(queries: list[dict[str, Any]], returned: str, **sums: float) -> float:
    """Return what an alarm compares with its threshold, computed as CloudWatch does; a metric without data is left
    out.
    """
    values: dict[str, Any] = {}
    for query in queries:
        if "metric" in query:
            metric = query["metric"]
            values[query["id"]] = sums.get(query["id"])
            assert (metric["period"], metric["stat"]) == (60, "Sum")
            continue
        text = query["expression"].replace("FILL", "fill").replace("SUM", "sum").replace("IF(", "choose(")
        functions = {
            "fill": lambda value, other: other if value is None else value,
            "choose": lambda condition, yes, no: yes if condition else no,
        }
        try:
            values[query["id"]] = eval(text, {"sum": sum, **functions}, values)
        except ZeroDivisionError:
            values[query["id"]] = 0.0  # computed elementwise and not selected
    result: float = values[returned]
    return result


@pytest.mark.parametrize(
    ("sums", "share"),
    [
        ({"calls": 1, "failed": 1}, 0),
        ({"calls": 2, "failed": 2}, 0),
        ({"calls": 3, "failed": 3}, 1),
        ({"calls": 100, "failed": 4}, 0.04),
        ({"calls": 50}, 0),
    ],
)
def test_single_failing_answers_of_a_stage_raise_no_alarm(sums: dict[str, float], share: float) -> None:
    assert compute(answer_queries("api", "prod"), "share", **sums) == pytest.approx(share)


@pytest.mark.parametrize(
    ("sums", "percent"),
    [
        ({}, 0),
        ({"calls": 1, "errors": 1}, 0),
        ({"calls": 2, "failed_next": 2}, 0),
        ({"calls": 3, "errors": 3}, 100),
        ({"calls": 3, "errors": 1, "failed_live": 1, "failed_next": 1}, 100),
        ({"calls": 1000, "failed_live": 3}, 0.3),
        ({"throttles": 40}, 100),
        ({"calls": 10, "throttles": 30}, 75),
        ({"calls": 50}, 0),
    ],
)
def test_failing_share_counts_crashes_answers_of_500_and_throttles_but_no_single_failures(
    sums: dict[str, float], percent: float
) -> None:
    assert compute(failure_queries("f"), "percent", **sums) == pytest.approx(percent)


def test_failure_metrics_cover_both_aliases_and_yield_one_result() -> None:
    queries = failure_queries("f")
    resources = {query["id"]: query["metric"]["dimensions"].get("Resource") for query in queries if "metric" in query}
    assert resources == {
        "errors": None, "throttles": None, "failed_live": "f:live", "failed_next": "f:next", "calls": None
    }  # fmt: skip
    assert [query["id"] for query in queries if query.get("return_data")] == ["percent"]


def test_stage_and_function_of_the_same_name_have_separate_alarms() -> None:
    named = manifest((model("none", ("prod",)),), (stage("router", {"none": "prod"}), stage("prod", {"none": "prod"})))
    alarms = deployed(named).of("cloudwatch/metricAlarm:MetricAlarm").values()
    names = [alarm.inputs["name"] for alarm in alarms]
    assert len(set(names)) == len(names) == 6


def test_metric_math_fills_every_metric_that_may_have_no_data() -> None:
    for entry in deployed(manifest(stages=(stage(auth="api_key"),))).of("cloudwatch/metricAlarm:MetricAlarm").values():
        queries = entry.inputs.get("metricQueries", [])
        metrics = {query["id"] for query in queries if "metric" in query}
        for query in queries:
            for name in metrics - {"calls"}:
                bare = re.sub(rf"FILL\({name}, 0\)", "", query.get("expression", ""))
                assert not re.search(rf"\b{name}\b", bare), query["expression"]

"""What a replay comes to, as numbers and as a page."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from turnout.client.captured_lines import Sample
from turnout.replay.comparison import compare_outputs
from turnout.replay.plots import plot_differences, plot_durations, plot_share
from turnout.replay.replay import Pair, Reply
from turnout.replay.report import render_report
from turnout.replay.summary import MOST_DISAGREEMENTS, Side, Summary, error_text, quantile

SAMPLE = Sample(1.5, "prod", "iris", "v1", False, "application/json", None, b'{"secret": 1}', 200, 1.0)


def answered(duration_ms: float = 1.0, **outputs: object) -> Reply:
    return Reply(200, duration_ms, {name: np.asarray(values) for name, values in outputs.items()})


def pair(number: int, baseline: Reply | None, canary: Reply) -> Pair:
    both = baseline is not None and baseline.outputs is not None and canary.outputs is not None
    comparison = compare_outputs(baseline.outputs, canary.outputs, {}) if both else None  # type: ignore[union-attr, arg-type]
    return Pair(number, SAMPLE, canary, baseline, comparison)


def summary_of(*pairs: Pair) -> Summary:
    summary = Summary(Side("iris/v1"), Side("iris/v2"))
    for row in pairs:
        summary.add(row)
    return summary


def mixed() -> Summary:
    return summary_of(
        pair(1, answered(1.0, p=[[0.1, 0.9]], label=[1]), answered(2.0, p=[[0.2, 0.8]], label=[1])),
        pair(2, answered(3.0, p=[[0.1, 0.9]], label=[1]), answered(4.0, p=[[0.7, 0.3]], label=[0])),
        pair(3, answered(5.0, p=[[0.1, 0.9]], label=[1]), Reply(500, 6.0, error="<b>failed</b>")),
        pair(4, Reply(400, 1.0), Reply(400, 1.0)),
        pair(5, answered(1.0, p=[[0.1, 0.9]], label=[1]), Reply(0, 0.0, error="gone")),
        pair(6, None, answered(1.0, p=[[0.1, 0.9]], label=[1])),
    )


def test_a_summary_counts_requests_outputs_and_replies() -> None:
    found = mixed().to_json()
    assert (found["compared"], found["agreed"], found["undecided"]) == (3, 1, 2)
    assert found["agreement"] == pytest.approx(1 / 3)
    baseline, canary = found["versions"]
    assert baseline == {
        "version": "iris/v1",
        "requests": 5,
        "errors": 1,
        "statuses": {"200": 4, "400": 1},
        "p50_ms": 1.0,
        "p95_ms": 5.0,
        "p99_ms": 5.0,
    }
    assert canary["statuses"] == {"0": 1, "200": 3, "400": 1, "500": 1}
    assert canary["p99_ms"] == 6.0
    scores, label = found["outputs"]
    assert (scores["measure"], scores["compared"], scores["agreed"], scores["argmax_equal"]) == ("argmax", 2, 1, 1)
    assert scores["max_absolute"] == pytest.approx(0.6)
    assert (label["measure"], label["agreed"]) == ("equal", 1)
    assert [(row["line"], row["output"]) for row in found["disagreements"]] == [(2, "p"), (2, "label"), (3, "-")]
    json.dumps(found, allow_nan=False)


def test_an_answer_that_could_not_be_read_is_an_error() -> None:
    found = summary_of(pair(1, answered(y=[1]), Reply(200, 1.0, error="odd")))
    assert (found.canary.errors, found.compared, found.agreed) == (1, 1, 0)


def test_nothing_compared_is_no_agreement() -> None:
    found = summary_of(pair(1, Reply(400, 1.0), Reply(400, 1.0)))
    assert found.agreement is None
    assert found.to_json()["agreement"] is None
    assert "Nothing to compare" in render_report(found, source="x", floor=None)


def test_only_the_first_disagreements_are_kept() -> None:
    found = summary_of(*(pair(number, answered(y=[1]), answered(y=[2])) for number in range(200)))
    assert (found.compared, len(found.disagreements)) == (200, MOST_DISAGREEMENTS)
    assert f"The first {MOST_DISAGREEMENTS} outputs" in render_report(found, source="x", floor=None)


def test_long_values_and_texts_are_cut() -> None:
    texts = np.array([b"x" * 100], object)
    found = summary_of(pair(1, answered(y=np.arange(20), t=texts), answered(y=np.arange(20) + 1, z=[1.5])))
    rows = {row.output: (row.baseline, row.canary) for row in found.disagreements}
    assert rows["y"][0] == "0, 1, 2, 3, 4, 5, 6, 7, ... (20 values)"
    assert rows["t"] == ("x" * 40 + "...", "missing")
    assert rows["z"] == ("missing", "1.5")
    assert found.outputs["z"].problems == {"one of the two answers lacks it": 1}


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.5, 2.0), (0.75, 3.0), (0.99, 4.0), (1.0, 4.0)])
def test_a_quantile_is_a_value_that_was_there(share: float, expected: float) -> None:
    assert quantile([1.0, 2.0, 3.0, 4.0], share) == expected


def test_a_quantile_of_nothing_is_none() -> None:
    assert quantile([], 0.5) is None
    assert Side("v").quantile_ms(0.5) is None


def test_errors_for_people() -> None:
    assert [error_text(value) for value in (0.0, 0.123456, math.inf)] == ["0", "0.123", "-"]


class Tags(HTMLParser):
    """Every tag must be closed in its turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_from_elsewhere() -> None:
    page = render_report(mixed(), source="<capture>.jsonl", floor=0.9)
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert not re.search(r"https?://|<script|<link|src=|url\(", page)
    assert "&lt;capture&gt;.jsonl" in page
    assert "&lt;b&gt;failed" in page
    assert "secret" not in page
    assert '<p class="answer bad">33.33% agree</p>' in page
    assert "90.00% were asked for" in page
    assert "prefers-color-scheme: dark" in page


def test_enough_agreement_is_good() -> None:
    assert 'class="answer good"' in render_report(mixed(), source="x", floor=0.3)


@pytest.mark.parametrize(
    "values",
    [[1.0], [0.0], [1e-6, 1e6], [5.0] * 1000, list(range(1, 5000))],
    ids=["one", "zero", "wide", "equal", "many"],
)
def test_curves_stay_within_the_plot(values: list[float]) -> None:
    root = ElementTree.fromstring(plot_durations({"a <b>": values, "none": []}))
    lines = root.findall("polyline")
    assert len(lines) == 1
    points = [tuple(map(float, point.split(","))) for point in lines[0].attrib["points"].split()]
    assert len(points) <= 201
    assert all(56 <= x <= 624 and 12 <= y <= 216 for x, y in points)
    assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)


def test_without_replies_there_is_no_curve() -> None:
    assert plot_durations({"v1": [], "v2": []}) == ""


def test_differences_are_counted_by_decade() -> None:
    root = ElementTree.fromstring(plot_differences("p", [0.0, 0.0, 1e-12, 0.5, 0.05, 3.0, math.inf]))
    titles = [title.text for title in root.iter("title")]
    assert titles[0] == "0: 3"
    assert titles[-3:] == ["1e-2: 1", "1e-1: 1", "1e0: 1"]


@pytest.mark.parametrize("values", [[], [0.0, 0.0], [math.inf]])
def test_without_differences_there_is_no_histogram(values: list[float]) -> None:
    assert plot_differences("p", values) == ""


def test_a_share_is_a_bar() -> None:
    rest, bar = ElementTree.fromstring(plot_share(0.25)).findall("rect")
    assert float(bar.attrib["width"]) == float(rest.attrib["width"]) / 4

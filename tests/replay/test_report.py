"""The result of a replay, as numbers and as a page."""

from __future__ import annotations

import itertools
import json
import math
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from turnout.client.captured_lines import Sample
from turnout.replay.comparison import compare_outputs
from turnout.replay.origin import ReplayOrigin
from turnout.replay.plots import NARROW, WIDE, Frame, draw_legend, plot_differences, plot_durations, plot_share
from turnout.replay.replay import Pair, SampleReply
from turnout.replay.report import render_report
from turnout.replay.summary import MOST_DISAGREEMENTS, Side, Summary, error_text, floor_text, quantile, share_text

ORIGIN = ReplayOrigin(
    datetime(2026, 11, 30, 10, 5, tzinfo=UTC), "http://127.0.0.1:8080", "prod", "capture.jsonl", "c0ffee"
)
SAMPLE = Sample(1.5, "prod", "iris", "v1", False, "application/json", None, b'{"secret": 1}', 200, 1.0)


def answered(duration_ms: float = 1.0, **outputs: object) -> SampleReply:
    return SampleReply(200, duration_ms, {name: np.asarray(values) for name, values in outputs.items()}, digest="aaa")


def pair(number: int, baseline: SampleReply | None, canary: SampleReply) -> Pair:
    both = baseline is not None and baseline.outputs is not None and canary.outputs is not None
    comparison = compare_outputs(baseline.outputs, canary.outputs, {}) if both else None  # type: ignore[union-attr, arg-type]
    return Pair(number, SAMPLE, canary, baseline, comparison, ("v1", "v2"))


def summary_of(*pairs: Pair) -> Summary:
    summary = Summary(Side("iris/v1"), Side("iris/v2"))
    for pair in pairs:
        summary.add(pair)
    return summary


def mixed() -> Summary:
    return summary_of(
        pair(1, answered(1.0, p=[[0.1, 0.9]], label=[1]), answered(2.0, p=[[0.2, 0.8]], label=[1])),
        pair(2, answered(3.0, p=[[0.1, 0.9]], label=[1]), answered(4.0, p=[[0.7, 0.3]], label=[0])),
        pair(3, answered(5.0, p=[[0.1, 0.9]], label=[1]), SampleReply(500, 6.0, error="<b>failed</b>")),
        pair(4, SampleReply(400, 1.0), SampleReply(400, 1.0)),
        pair(5, answered(1.0, p=[[0.1, 0.9]], label=[1]), SampleReply(0, 0.0, error="gone")),
        pair(6, None, answered(1.0, p=[[0.1, 0.9]], label=[1])),
    )


def test_a_summary_counts_requests_outputs_and_replies() -> None:
    result = mixed().to_json()
    assert (result["compared"], result["agreed"], result["undecided"]) == (3, 1, 2)
    assert result["agreement"] == pytest.approx(1 / 3)
    baseline, canary = result["versions"]
    assert baseline == {
        "version": "iris/v1",
        "digests": {"v1": ["aaa"]},
        "requests": 5,
        "errors": 1,
        "statuses": {"200": 4, "400": 1},
        "p50_ms": 1.0,
        "p95_ms": 5.0,
        "p99_ms": 5.0,
    }
    assert canary["statuses"] == {"0": 1, "200": 3, "400": 1, "500": 1}
    assert canary["p99_ms"] == 6.0
    scores, label = result["outputs"]
    assert (scores["measure"], scores["compared"], scores["agreed"], scores["argmax_equal"]) == ("argmax", 2, 1, 1)
    assert scores["max_absolute"] == pytest.approx(0.6)
    assert (label["measure"], label["agreed"]) == ("equal", 1)
    assert [(disagreement["line"], disagreement["output"]) for disagreement in result["disagreements"]] == [
        (2, "p"),
        (2, "label"),
        (3, "-"),
    ]
    json.dumps(result, allow_nan=False)


def test_an_unreadable_answer_is_an_error() -> None:
    result = summary_of(pair(1, answered(y=[1]), SampleReply(200, 1.0, error="odd")))
    assert (result.canary.errors, result.compared, result.agreed) == (1, 1, 0)


def test_nothing_compared_is_no_agreement() -> None:
    result = summary_of(pair(1, SampleReply(400, 1.0), SampleReply(400, 1.0)))
    assert result.agreement is None
    assert result.to_json()["agreement"] is None
    assert "No request could be compared" in render_report(result, ORIGIN, floor=None)
    assert VERDICT.findall(render_report(result, ORIGIN, floor=0.0)) == [("bad", "Failed")]


def test_only_the_first_disagreements_are_kept() -> None:
    result = summary_of(*(pair(number, answered(y=[1]), answered(y=[2])) for number in range(200)))
    assert (result.compared, len(result.disagreements)) == (200, MOST_DISAGREEMENTS)
    assert f"The first {MOST_DISAGREEMENTS} outputs" in render_report(result, ORIGIN, floor=None)


def test_long_values_and_texts_are_truncated() -> None:
    texts = np.array([b"x" * 100], object)
    result = summary_of(pair(1, answered(y=np.arange(20), t=texts), answered(y=np.arange(20) + 1, z=[1.5])))
    rows = {disagreement.output: (disagreement.baseline, disagreement.canary) for disagreement in result.disagreements}
    assert rows["y"][0] == "0, 1, 2, 3, 4, 5, 6, 7, ... (20 values)"
    assert rows["t"] == ("x" * 40 + "...", "missing")
    assert rows["z"] == ("missing", "1.5")
    assert result.outputs["z"].problems == {"missing in one of the two responses": 1}


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.5, 2.0), (0.75, 3.0), (0.99, 4.0), (1.0, 4.0)])
def test_a_quantile_is_one_of_the_values(share: float, expected: float) -> None:
    assert quantile([1.0, 2.0, 3.0, 4.0], share) == expected


def test_a_quantile_without_values_is_none() -> None:
    assert quantile([], 0.5) is None
    assert Side("v").quantile_ms(0.5) is None


def test_errors_are_written_for_users() -> None:
    assert [error_text(value) for value in (0.0, 0.123456, math.inf)] == ["0", "0.123", "-"]


class Tags(HTMLParser):
    """Checks that all tags are closed in order."""

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


VERDICT = re.compile(r'<div class="verdict ([a-z]+)"><p class="answer">([A-Za-z]+)</p>')


def test_the_page_is_complete_and_loads_nothing_from_elsewhere() -> None:
    page = render_report(mixed(), replace(ORIGIN, capture="<capture>.jsonl"), floor=0.9)
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert not re.search(r"<script|<link|src=|href=|url\(", page)
    assert "&lt;capture&gt;.jsonl" in page
    assert "&lt;b&gt;failed" in page
    assert "secret" not in page
    assert "prefers-color-scheme: dark" in page
    assert "max-width: 900px" in page


def test_the_page_says_when_where_and_what_was_compared() -> None:
    summary = summary_of(pair(1, answered(y=[1]), answered(y=[1])))
    summary.add(replace(pair(2, answered(y=[1]), answered(y=[1])), sample=replace(SAMPLE, time=90_000.0, stage="dev")))
    facts = dict(re.findall(r"<dt>([^<]*)</dt><dd>(.*?)</dd>", render_report(summary, ORIGIN, floor=None)))
    assert facts == {
        "Date": "2026-11-30 10:05 UTC",
        "Server": "http://127.0.0.1:8080",
        "Stage": "prod",
        "Version": "iris/v2, <code>aaa</code>",
        "Compared with": "iris/v1, <code>aaa</code>",
        "Capture": "capture.jsonl, sha256 <code>c0ffee</code>",
        "Requests": "2, captured on prod, dev from 1970-01-01 00:00 to 1970-01-02 01:00 UTC",
    }


def test_an_artifact_that_has_changed_is_reported() -> None:
    other = replace(answered(y=[1]), digest="bbb")
    page = render_report(
        summary_of(pair(1, answered(y=[1]), answered(y=[1])), pair(2, answered(y=[1]), other)), ORIGIN, floor=None
    )
    assert "iris/v2, <code>aaa</code>, <code>bbb</code> (the artifact changed during the replay)" in page


def test_answers_without_a_digest_and_a_server_without_a_stage_are_mentioned() -> None:
    silent = replace(answered(y=[1]), digest="")
    page = render_report(summary_of(pair(1, silent, silent)), replace(ORIGIN, stage=""), floor=None)
    assert "iris/v2, no digest in the answers" in page
    assert "the server's default stage" in page


@pytest.mark.parametrize("time_s", [1e300, -1e300, math.inf, math.nan])
def test_a_capture_with_an_impossible_time_is_still_reported(time_s: float) -> None:
    summary = summary_of()
    summary.add(replace(pair(1, answered(y=[1]), answered(y=[1])), sample=replace(SAMPLE, time=time_s)))
    assert "an unknown time" in render_report(summary, ORIGIN, floor=None)


def test_without_a_threshold_there_is_no_verdict() -> None:
    page = render_report(summary_of(pair(1, answered(y=[1]), answered(y=[1]))), ORIGIN, floor=None)
    body = page[page.index("<body>") :]
    assert "100.00% agree: 1 of 1 compared requests." in body
    assert "No threshold was set" in body
    assert not re.search(r'class="[^"]*(good|bad|answer)', body)


@pytest.mark.parametrize(
    ("floor", "verdict"), [(0.3, ("good", "Passed")), (1 / 3, ("good", "Passed")), (0.34, ("bad", "Failed"))]
)
def test_a_threshold_leads_to_a_verdict(floor: float, verdict: tuple[str, str]) -> None:
    page = render_report(mixed(), ORIGIN, floor=floor)
    assert VERDICT.findall(page) == [verdict]
    assert "33.33% agree: 1 of 3 compared requests." in page
    assert "Not compared: 2," in page


@pytest.mark.parametrize(
    ("part", "whole", "text"), [(1, 1, "100.00%"), (99_999, 100_000, "99.99%"), (0, 7, "0.00%"), (2, 3, "66.66%")]
)
def test_a_share_is_never_rounded_up(part: int, whole: int, text: str) -> None:
    assert share_text(part, whole) == text


def test_a_threshold_keeps_its_digits() -> None:
    assert [floor_text(floor) for floor in (0.98, 0.99999, 1.0, 0.0)] == ["98%", "99.999%", "100%", "0%"]


def test_every_cell_has_the_name_of_its_column_for_narrow_screens() -> None:
    page = render_report(mixed(), ORIGIN, floor=None)
    cells = re.findall(r"<td[^>]*>", page)
    assert cells
    assert all(re.search(r'data-label="[^"]+"', cell) for cell in cells)
    assert page.count('<svg class="wide"') == page.count('<svg class="narrow"') > 0


def test_a_name_cannot_forge_a_part_of_the_page() -> None:
    hostile = '<img src=x onerror=alert(1)>"\x1b[31m\u202e'
    summary = summary_of(pair(1, answered(**{hostile: [1.0]}), answered(**{hostile: [2.0]})))
    page = render_report(summary, replace(ORIGIN, url=hostile, stage=hostile, capture=hostile), floor=None)
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert "<img" not in page
    assert not set(page) & {"\x1b", "\u202e"}


@pytest.mark.parametrize(
    "values",
    [[1.0], [0.0], [1e-6, 1e6], [5.0] * 1000, list(range(1, 5000))],
    ids=["one", "zero", "wide", "equal", "many"],
)
@pytest.mark.parametrize("frame", [WIDE, NARROW], ids=["on a wide screen", "on a narrow one"])
def test_curves_stay_within_the_plot(frame: Frame, values: list[float]) -> None:
    root = ElementTree.fromstring(plot_durations({"a <b>": values, "none": []}, frame))
    lines = root.findall("polyline")
    assert len(lines) == 1
    points = [tuple(map(float, point.split(","))) for point in lines[0].attrib["points"].split()]
    assert len(points) <= 201
    bottom = frame.height - frame.bottom
    assert all(frame.left <= x <= frame.width - frame.right and frame.top <= y <= bottom for x, y in points)
    assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)


@pytest.mark.parametrize("frame", [WIDE, NARROW], ids=["on a wide screen", "on a narrow one"])
@pytest.mark.parametrize("values", [[1e-3, 1e6], [1.0, 2.0], [0.01, 90.0]], ids=["wide", "close", "decades"])
@pytest.mark.parametrize("kind", ["durations", "differences"])
def test_labels_below_the_axis_do_not_overlap(frame: Frame, values: list[float], kind: str) -> None:
    plot = plot_durations({"v1": values}, frame) if kind == "durations" else plot_differences("p", values, frame)
    root = ElementTree.fromstring(plot)
    ticks = [
        (float(text.attrib["x"]), len(text.text or ""))
        for text in root.findall("text")
        if text.attrib["text-anchor"] == "middle" and float(text.attrib["y"]) < frame.height - 10
    ]
    assert len(ticks) >= 2
    for (left, length), (right, _) in itertools.pairwise(ticks):
        assert right - left >= 6 * length


def test_a_legend_names_each_curve() -> None:
    assert re.findall(r"</svg> ([^<]*)</li>", draw_legend(["a <b>", "c"])) == ["a &lt;b&gt;", "c"]


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


def test_a_share_is_shown_as_a_bar() -> None:
    rest, bar = ElementTree.fromstring(plot_share(0.25)).findall("rect")
    assert float(bar.attrib["width"]) == float(rest.attrib["width"]) / 4

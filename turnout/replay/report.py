"""A replay's report: one HTML page without external resources.

It names the compared versions, so it remains evidence, and shows a verdict only if a threshold was set. It contains
answers about which the versions disagree, but never the requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from html import escape

from turnout import __version__
from turnout.replay.origin import ReplayOrigin
from turnout.replay.page_style import STYLE
from turnout.replay.plots import NARROW, WIDE, draw_legend, plot_differences, plot_durations, plot_share
from turnout.replay.summary import (
    MOST_DISAGREEMENTS,
    Captured,
    OutputTally,
    Side,
    Summary,
    error_text,
    floor_text,
    share_text,
)
from turnout.wording import listed, printable

_WORD, _NUMBER, _VALUE = "word", "number", "value"
"""Kinds of a table's columns: classes of the style sheet."""


def render_report(summary: Summary, origin: ReplayOrigin, *, floor: float | None) -> str:
    """Return the page.

    Args:
        summary: summary of the whole replay.
        origin: time, server and requests of the replay.
        floor: the lowest allowed share of agreement, 0-1, or None.
    """
    title = f"{summary.canary.name} compared with {summary.baseline.name}"
    sides = (summary.baseline, summary.canary)
    durations = {side.name: side.durations_ms for side in sides}
    parts = [
        f"<h1>{_html(title)}</h1>",
        _facts(_origin_facts(summary, origin)),
        _verdict(summary, floor),
        "<h2>Outputs</h2>" if summary.outputs else "",
        _outputs(summary.outputs.values()) if summary.outputs else "",
        "<h2>Latency and errors</h2>",
        _sides(sides),
        _figure(
            *(plot_durations(durations, frame) for frame in (WIDE, NARROW)),
            caption="Share of requests answered within a time, as the client measured it.",
            legend=draw_legend([printable(name) for name in durations]),
        ),
        *_differences(summary.outputs.values()),
        *_disagreements(summary),
        f'<p class="soft">Made by turnout {__version__}.</p>',
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{_html(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(filter(None, parts)) + "\n</body></html>\n"
    )


def _html(text: str) -> str:
    return escape(printable(text))


def _code(text: str) -> str:
    return f"<code>{_html(text)}</code>"


def _origin_facts(summary: Summary, origin: ReplayOrigin) -> Iterator[tuple[str, str]]:
    """Return names and HTML."""
    yield "Date", f"{origin.time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    yield "Server", _html(origin.url)
    yield "Stage", _html(origin.stage) or "the server's default stage"
    model = summary.canary.name.rpartition("/")[0]
    for side in (summary.canary, summary.baseline):
        for version, digests in side.digests.items():
            digests_text = ", ".join(map(_code, digests)) or "no digest in the answers"
            changed = " (the artifact changed during the replay)" if len(digests) > 1 else ""
            yield (
                f"{'Compared with' if side is summary.baseline else 'Version'}",
                (f"{_html(f'{model}/{version}')}, {digests_text}{changed}"),
            )
    yield "Capture", f"{_html(origin.capture)}, sha256 {_code(origin.capture_sha256)}"
    if summary.captured.stages:
        yield "Requests", _html(_captured_text(summary.captured, summary.canary.statuses.total()))


def _captured_text(captured: Captured, count: int) -> str:
    first, last = (_time_text(time_s) for time_s in (captured.first, captured.last))
    when = f"at {first}" if first == last else f"from {first} to {last}"
    stages = listed(stage for stage in captured.stages if stage)
    return f"{count:,}, captured {f'on {stages} ' if stages else ''}{when} UTC"


def _time_text(time_s: float) -> str:
    try:
        return f"{datetime.fromtimestamp(time_s, UTC):%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError, OSError):  # captures may be edited
        return "an unknown time"


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    return f"<dl>{''.join(f'<dt>{name}</dt><dd>{html}</dd>' for name, html in facts)}</dl>"


def _verdict(summary: Summary, floor: float | None) -> str:
    """Return the agreement, with a verdict in words and color only if a threshold was set."""
    agreement = summary.agreement
    share = "" if agreement is None else share_text(summary.agreed, summary.compared)
    kind = "" if floor is None else "good" if agreement is not None and agreement >= floor else "bad"
    lines = [f'<p class="answer">{"Passed" if kind == "good" else "Failed"}</p>'] if kind else []
    if agreement is None:
        lines.append("<p>No request could be compared.</p>")
    else:
        lines.append(f"<p>{share} agree: {summary.agreed:,} of {summary.compared:,} compared requests.</p>")
    if floor is None:
        lines.append('<p class="soft">No threshold was set (<code>--fail-under</code>), so there is no verdict.</p>')
    else:
        lines.append(f"<p>Threshold: at least {floor_text(floor)} must agree (<code>--fail-under</code>).</p>")
    if summary.undecided:
        lines.append(
            f"<p>Not compared: {summary.undecided:,}, because neither version answered, or one did not answer in "
            "time.</p>"
        )
    return f'<div class="verdict {kind}">{"".join(lines)}</div>'


def _outputs(outputs: Iterable[OutputTally]) -> str:
    rows = []
    for output in outputs:
        problems = "; ".join(f"{problem} ({count:,})" for problem, count in output.problems.most_common(3))
        share = f"{plot_share(output.agreed / output.compared)}{share_text(output.agreed, output.compared)}"
        rows.append(
            [
                _html(output.name),
                output.measure,
                f"<span>{share}</span>",
                error_text(output.max_absolute),
                error_text(output.max_relative),
                f"{output.cosine:.4f}",
                _html(problems),
            ]
        )
    heads = ["output", "rule", "agree", "max absolute", "max relative", "least cosine", "not measured"]
    if not any(row[-1] for row in rows):
        heads, rows = heads[:-1], [row[:-1] for row in rows]
    return _table(heads, rows, {1: _WORD, 2: _WORD, 3: _NUMBER, 4: _NUMBER, 5: _NUMBER})


def _sides(sides: Iterable[Side]) -> str:
    rows = []
    for side in sides:
        statuses = ", ".join(
            f"{status or 'no answer'}: {count:,}" for status, count in sorted(side.statuses.items()) if status != 200
        )
        quantiles = [_milliseconds(side.quantile_ms(share)) for share in (0.5, 0.95, 0.99)]
        rows.append([_html(side.name), f"{side.statuses.total():,}", f"{side.errors:,}", *quantiles, statuses])
    heads = ["version", "requests", "errors", "p50 ms", "p95 ms", "p99 ms", "statuses"]
    if not any(row[-1] for row in rows):
        heads, rows = heads[:-1], [row[:-1] for row in rows]
    return _table(heads, rows, dict.fromkeys(range(1, 6), _NUMBER))


def _milliseconds(duration: float | None) -> str:
    return "-" if duration is None else f"{duration:.2f}"


def _differences(outputs: Iterable[OutputTally]) -> Iterator[str]:
    for output in outputs:
        if output.measure != "equal":
            name = printable(output.name)
            yield _figure(
                *(plot_differences(name, output.differences, frame) for frame in (WIDE, NARROW)),
                caption=f"{name}: requests by the largest difference of two elements.",
            )


def _disagreements(summary: Summary) -> Iterator[str]:
    if not summary.disagreements:
        return
    yield "<h2>Where they disagree</h2>"
    if len(summary.disagreements) >= MOST_DISAGREEMENTS:
        yield f'<p class="soft">The first {len(summary.disagreements)} outputs that differ.</p>'
    rows = [
        [
            f"{disagreement.number:,}",
            _html(disagreement.output),
            _html(disagreement.baseline),
            _html(disagreement.canary),
        ]
        for disagreement in summary.disagreements
    ]
    heads = ("line", "output", summary.baseline.name, summary.canary.name)
    yield _table(heads, rows, {2: _VALUE, 3: _VALUE})


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], kinds: dict[int, str]) -> str:
    """Return a table of HTML cells; `kinds` has the class of some columns.

    On a narrow screen each cell shows its label.
    """
    classes = [f' class="{kinds[column]}"' if column in kinds else "" for column in range(len(heads))]
    labels = [_html(head) for head in heads]
    head = "".join(f"<th{kind}>{label}</th>" for kind, label in zip(classes, labels, strict=True))
    body = "".join(
        "<tr>"
        + "".join(
            f'<td{kind} data-label="{label}">{cell}</td>'
            for kind, label, cell in zip(classes, labels, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _figure(wide: str, narrow: str, *, caption: str, legend: str = "") -> str:
    """Return a plot for a wide and a narrow screen; the style sheet shows one of them."""
    if not wide:
        return ""
    plots = wide.replace("<svg ", '<svg class="wide" ', 1) + narrow.replace("<svg ", '<svg class="narrow" ', 1)
    return f"<figure>{legend}{plots}<figcaption>{escape(caption)}</figcaption></figure>"

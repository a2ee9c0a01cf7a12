"""A replay's report: one HTML page with everything in it, light or dark as the reader's screen is.

It holds answers of requests that disagree, never what was asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from turnout import __version__
from turnout.replay.plots import plot_differences, plot_durations, plot_share
from turnout.replay.summary import MOST_DISAGREEMENTS, OutputTally, Side, Summary, error_text

_STYLE = """
:root { color-scheme: light dark; --text: #1a1d21; --soft: #5c6570; --page: #fff; --line: #d8dde3; --one: #8a6d00;
  --two: #0b63c5; --good: #2b7a3d; --bad: #b3261e; --rest: #f0d4d2; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9ed; --soft: #9aa4b0; --page: #15181c; --line: #343a42;
  --one: #e0b93a; --two: #6aaeff; --good: #6cc381; --bad: #ff8a80; --rest: #53302d; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page); margin: 2rem auto;
  max-width: 60rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2.2rem; }
.soft, figcaption { color: var(--soft); } .good { color: var(--good); } .bad { color: var(--bad); }
.answer { font-size: 2.4rem; font-weight: 600; margin: 0.5rem 0 0; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 0.35rem 0.8rem 0.35rem 0; border-bottom: 1px solid var(--line); }
td { vertical-align: top; }
td.value { font-family: ui-monospace, monospace; font-size: 0.85em; overflow-wrap: anywhere; }
figure { margin: 1.5rem 0 0; } svg { width: 100%; max-width: 640px; height: auto; }
svg text { fill: var(--soft); font-size: 12px; } svg .grid { stroke: var(--line); }
svg .line { fill: none; stroke-width: 2; } svg .side0 { stroke: var(--one); stroke-dasharray: 6 3; }
svg .side1 { stroke: var(--two); } svg .bar { fill: var(--two); } svg .rest { fill: var(--rest); }
svg.share { width: 160px; vertical-align: middle; }
"""


def render_report(summary: Summary, *, source: str, floor: float | None) -> str:
    """The page.

    Args:
        summary: of the whole replay.
        source: the capture's name.
        floor: what was asked of the agreement, 0-1, or None.
    """
    title = f"{summary.canary.name} beside {summary.baseline.name}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(source)}, replayed by turnout {__version__}.</p>',
        *_agreement(summary, floor),
        "<h2>Outputs</h2>",
        _outputs(summary.outputs.values()),
        "<h2>Latency and errors</h2>",
        _sides((summary.baseline, summary.canary)),
        _figure(
            plot_durations({side.name: side.durations_ms for side in (summary.baseline, summary.canary)}),
            "Share of requests answered within a time, as the client saw it.",
        ),
        *_differences(summary.outputs.values()),
        *_disagreements(summary),
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style></head>\n<body>\n" + "\n".join(filter(None, parts)) + "\n</body></html>\n"
    )


def _agreement(summary: Summary, floor: float | None) -> Iterable[str]:
    if summary.agreement is None:
        yield '<p class="answer">Nothing to compare</p>'
    else:
        is_enough = floor is None or summary.agreement >= floor
        yield f'<p class="answer {"good" if is_enough else "bad"}">{summary.agreement:.2%} agree</p>'
        asked = "" if floor is None else f", {floor:.2%} were asked for"
        yield f"<p>{summary.agreed:,} of {summary.compared:,} requests{asked}.</p>"
    if summary.undecided:
        yield f'<p class="soft">Not counted: {summary.undecided:,} that neither version answered, or not in time.</p>'


def _outputs(outputs: Iterable[OutputTally]) -> str:
    rows = []
    for output in outputs:
        share = output.agreed / output.compared
        problems = "; ".join(f"{problem} ({count:,})" for problem, count in output.problems.most_common(3))
        rows.append(
            [
                escape(output.name),
                output.measure,
                f"{plot_share(share)} {share:.2%}",
                error_text(output.max_absolute),
                error_text(output.max_relative),
                f"{output.cosine:.4f}",
                escape(problems),
            ]
        )
    heads = ("output", "rule", "agree", "max absolute", "max relative", "least cosine", "not measured")
    return _table(heads, rows)


def _sides(sides: Iterable[Side]) -> str:
    rows = []
    for side in sides:
        statuses = ", ".join(
            f"{status or 'no answer'}: {count:,}" for status, count in sorted(side.statuses.items()) if status != 200
        )
        quantiles = [_milliseconds(side.quantile_ms(share)) for share in (0.5, 0.95, 0.99)]
        rows.append([escape(side.name), f"{side.statuses.total():,}", f"{side.errors:,}", *quantiles, statuses])
    return _table(("version", "requests", "errors", "p50 ms", "p95 ms", "p99 ms", "statuses"), rows)


def _milliseconds(duration: float | None) -> str:
    return "-" if duration is None else f"{duration:.2f}"


def _differences(outputs: Iterable[OutputTally]) -> Iterable[str]:
    for output in outputs:
        plot = "" if output.measure == "equal" else plot_differences(output.name, output.differences)
        if plot:
            yield _figure(plot, f"{output.name}: requests by the largest difference of two elements.")


def _disagreements(summary: Summary) -> Iterable[str]:
    if not summary.disagreements:
        return
    yield "<h2>Where they disagree</h2>"
    if len(summary.disagreements) >= MOST_DISAGREEMENTS:
        yield f'<p class="soft">The first {len(summary.disagreements)} outputs.</p>'
    rows = [
        [f"{row.number:,}", escape(row.output), escape(row.baseline), escape(row.canary)]
        for row in summary.disagreements
    ]
    yield _table(("line", "output", summary.baseline.name, summary.canary.name), rows, values=(2, 3))


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], values: Sequence[int] = ()) -> str:
    """Cells are HTML; the columns numbered in `values` are set as code."""
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="value">{text}</td>' if column in values else f"<td>{text}</td>"
            for column, text in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _figure(plot: str, caption: str) -> str:
    return f"<figure>{plot}<figcaption>{escape(caption)}</figcaption></figure>" if plot else ""

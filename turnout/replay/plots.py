"""The plots of a replay's report, as SVG that needs nothing from anywhere; colours come from the page's style."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 12, 44
_LEAST_MS = 1e-3
_POINTS = 200
"""Of a curve: more cannot be seen."""

LEAST_DIFFERENCE = 1e-9
"""A histogram's first decade; what is smaller, zeros too, stands in the column before it."""


def plot_durations(series: Mapping[str, Sequence[float]]) -> str:
    """The share of requests answered within a time, a curve per version; the time's axis is logarithmic."""
    curves = {name: sorted(values) for name, values in series.items() if values}
    if not curves:
        return ""
    low = math.log10(max(_LEAST_MS, min(values[0] for values in curves.values())))
    high = math.log10(max(_LEAST_MS, *(values[-1] for values in curves.values())))
    low, high = (low, high) if high - low > 0.1 else (low - 0.5, high + 0.5)

    def x_of(duration_ms: float) -> float:
        return _LEFT + (math.log10(max(duration_ms, _LEAST_MS)) - low) / (high - low) * (WIDTH - _LEFT - _RIGHT)

    parts = list(_share_axis())
    parts += [_tick(x_of(tick), f"{tick:g}") for tick in _log_ticks(low, high)]
    for number, (name, values) in enumerate(curves.items()):
        count = len(values)
        chosen = sorted({round(index * (count - 1) / _POINTS) for index in range(_POINTS + 1)})
        points = " ".join(f"{x_of(values[index]):.1f},{_y_of((index + 1) / count):.1f}" for index in chosen)
        parts.append(f'<polyline class="line side{number}" points="{points}"/>')
        parts.append(_legend(number, name))
    parts.append(_axis_title("milliseconds"))
    return _svg("Share of requests answered within a time", parts)


def plot_differences(name: str, values: Sequence[float]) -> str:
    """How many requests had a largest difference of which decade."""
    finite = [value for value in values if math.isfinite(value)]
    if not any(finite):
        return ""
    first = math.floor(math.log10(LEAST_DIFFERENCE))
    highest = max(first + 1, math.floor(math.log10(max(finite))) + 1)
    counts = [0] * (highest - first + 1)
    for value in finite:
        counts[0 if value < LEAST_DIFFERENCE else math.floor(math.log10(value)) - first + 1] += 1
    most = max(counts)
    step = (WIDTH - _LEFT - _RIGHT) / len(counts)
    parts = list(_share_axis(most))
    for number, count in enumerate(counts):
        x, y = _LEFT + number * step, _y_of(count / most)
        label = "0" if number == 0 else f"1e{first + number - 1}"
        title = f"{label}: {count:,}"
        parts.append(
            f'<rect class="bar" x="{x + 2:.1f}" y="{y:.1f}" width="{step - 4:.1f}" height="{_y_of(0) - y:.1f}">'
            f"<title>{title}</title></rect>"
        )
        parts.append(_tick(x + (step / 2 if number == 0 else 0), label))
    parts.append(_axis_title("largest difference of a request"))
    return _svg(f"Differences of {name}", parts)


def plot_share(share: float) -> str:
    """A bar of what agrees."""
    width = 160
    return (
        f'<svg class="share" viewBox="0 0 {width} 10" role="img" aria-label="{share:.2%}">'
        f'<rect class="rest" width="{width}" height="10"/>'
        f'<rect class="bar" width="{share * width:.2f}" height="10"/></svg>'
    )


def _y_of(share: float) -> float:
    return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)


def _share_axis(most: int = 0) -> Iterator[str]:
    """Lines and labels from nothing to all, or to `most`."""
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _y_of(share)
        label = f"{share * most:,.0f}" if most else f"{share:.0%}"
        yield f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        if not most or most >= 4 or share in {0.0, 1.0}:
            yield f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'


def _log_ticks(low: float, high: float) -> Iterator[float]:
    """1, 2 and 5 of each decade; of many decades, 1 alone."""
    for decade in range(math.floor(low), math.ceil(high) + 1):
        for digit in (1, 2, 5) if high - low < 3 else (1,):
            if low <= math.log10(digit) + decade <= high:
                yield float(f"{digit}e{decade}")


def _tick(x: float, label: str) -> str:
    return f'<text x="{x:.1f}" y="{HEIGHT - _BOTTOM + 18}" text-anchor="middle">{label}</text>'


def _axis_title(text: str) -> str:
    return f'<text x="{(_LEFT + WIDTH - _RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(text)}</text>'


def _legend(number: int, name: str) -> str:
    y = _y_of(0) - 34 + 18 * number
    return (
        f'<line class="line side{number}" x1="{WIDTH - 190}" x2="{WIDTH - 166}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{WIDTH - 160}" y="{y + 4:.1f}">{escape(name)}</text>'
    )


def _svg(title: str, parts: Sequence[str]) -> str:
    inside = "".join(parts)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{inside}</svg>'

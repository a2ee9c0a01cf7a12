"""The plots of a replay's report, as SVG without external resources; the page's style sheet colors them.

The text of a plot does not scale with the page: each plot is drawn for a wide and for a narrow screen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

_LEAST_MS = 1e-3
_POINTS = 200
"""Number of points of a curve: more would not be visible."""

_LABEL_WIDTH = 44
"""Width in pixels of a label below the axis."""

LEAST_DIFFERENCE = 1e-9
"""A histogram's first decade. The column before it counts smaller differences and zeros."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The size of a plot and of its margins, in pixels."""

    width: int
    height: int = 260
    left: int = 56
    right: int = 16
    top: int = 12
    bottom: int = 44

    @property
    def inner_width(self) -> int:
        """Return the width of the plot's area."""
        return self.width - self.left - self.right

    def y_of(self, share: float) -> float:
        """Return the position of a share, 0-1, on the vertical axis."""
        return self.height - self.bottom - share * (self.height - self.top - self.bottom)


WIDE, NARROW = Frame(640), Frame(340, 220, left=48)


def plot_durations(series: Mapping[str, Sequence[float]], frame: Frame = WIDE) -> str:
    """Return a plot of the share of requests answered within a time.

    It has a curve per version and a logarithmic time axis.
    """
    curves = {name: sorted(values) for name, values in series.items()}
    shown = [values for values in curves.values() if values]
    if not shown:
        return ""
    low = math.log10(max(_LEAST_MS, min(values[0] for values in shown)))
    high = math.log10(max(_LEAST_MS, *(values[-1] for values in shown)))
    low, high = (low, high) if high - low > 0.1 else (low - 0.5, high + 0.5)

    def x_of(duration_ms: float) -> float:
        return frame.left + (math.log10(max(duration_ms, _LEAST_MS)) - low) / (high - low) * frame.inner_width

    parts = list(_share_axis(frame))
    parts += [_tick(frame, x_of(tick), f"{tick:g}") for tick in _log_ticks(low, high, frame.inner_width)]
    for number, values in enumerate(curves.values()):
        count = len(values)
        chosen = sorted({round(index * (count - 1) / _POINTS) for index in range(_POINTS + 1)}) if values else ()
        points = " ".join(f"{x_of(values[index]):.1f},{frame.y_of((index + 1) / count):.1f}" for index in chosen)
        if points:
            parts.append(f'<polyline class="line side{number}" points="{points}"/>')
    parts.append(_axis_title(frame, "milliseconds"))
    return _svg(frame, "Share of requests answered within a time", parts)


def plot_differences(name: str, values: Sequence[float], frame: Frame = WIDE) -> str:
    """Return a histogram of the requests' largest differences, by decade."""
    finite = [value for value in values if math.isfinite(value)]
    if not any(finite):
        return ""
    first = math.floor(math.log10(LEAST_DIFFERENCE))
    highest = max(first + 1, math.floor(math.log10(max(finite))) + 1)
    counts = [0] * (highest - first + 1)
    for value in finite:
        counts[0 if value < LEAST_DIFFERENCE else math.floor(math.log10(value)) - first + 1] += 1
    most = max(counts)
    step = frame.inner_width / len(counts)
    stride = max(1, math.ceil(_LABEL_WIDTH / step))
    parts = list(_share_axis(frame, most))
    for number, count in enumerate(counts):
        x, y = frame.left + number * step, frame.y_of(count / most)
        label = "0" if number == 0 else f"1e{first + number - 1}"
        parts.append(
            f'<rect class="bar" x="{x + 2:.1f}" y="{y:.1f}" width="{max(step - 4, 1):.1f}" '
            f'height="{frame.y_of(0) - y:.1f}"><title>{label}: {count:,}</title></rect>'
        )
        if number % stride == 0 or (number == 1 and step > _LABEL_WIDTH):
            parts.append(_tick(frame, x + (step / 2 if number == 0 else 0), label))
    parts.append(_axis_title(frame, "largest difference in a request"))
    return _svg(frame, f"Differences of {name}", parts)


def plot_share(share: float) -> str:
    """Return a bar of the share that agrees."""
    width = 160
    return (
        f'<svg class="share" viewBox="0 0 {width} 10" aria-hidden="true">'
        f'<rect class="rest" width="{width}" height="10"/>'
        f'<rect class="bar" width="{share * width:.2f}" height="10"/></svg>'
    )


def draw_legend(names: Sequence[str]) -> str:
    """Return the curves' names beside a piece of each curve, as HTML, so that long names wrap."""
    items = "".join(
        f'<li><svg class="key" viewBox="0 0 24 8" aria-hidden="true"><line class="line side{number}" x1="0" x2="24" '
        f'y1="4" y2="4"/></svg> {escape(name)}</li>'
        for number, name in enumerate(names)
    )
    return f'<ul class="legend">{items}</ul>'


def _share_axis(frame: Frame, most: int = 0) -> Iterator[str]:
    """Return lines and labels from 0 to all, or to `most`."""
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = frame.y_of(share)
        label = f"{share * most:,.0f}" if most else f"{share:.0%}"
        yield f'<line class="grid" x1="{frame.left}" x2="{frame.width - frame.right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        if not most or most >= 4 or share in {0.0, 1.0}:
            yield f'<text x="{frame.left - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'


def _log_ticks(low: float, high: float, width: int) -> Iterator[float]:
    """Return 1, 2 and 5 of each decade if there is room for them, else 1 alone, else 1 of every few decades."""
    decade_width = width / (high - low)
    digits = (1, 2, 5) if decade_width > 3 * _LABEL_WIDTH else (1,)
    stride = math.ceil(_LABEL_WIDTH / decade_width)
    for decade in range(math.floor(low), math.ceil(high) + 1):
        for digit in digits:
            if decade % stride == 0 and low <= math.log10(digit) + decade <= high:
                yield float(f"{digit}e{decade}")


def _tick(frame: Frame, x: float, label: str) -> str:
    return f'<text x="{x:.1f}" y="{frame.height - frame.bottom + 18}" text-anchor="middle">{label}</text>'


def _axis_title(frame: Frame, text: str) -> str:
    x = frame.left + frame.inner_width / 2
    return f'<text x="{x}" y="{frame.height - 6}" text-anchor="middle">{escape(text)}</text>'


def _svg(frame: Frame, title: str, parts: Sequence[str]) -> str:
    inside = "".join(parts)
    return f'<svg viewBox="0 0 {frame.width} {frame.height}" role="img" aria-label="{escape(title)}">{inside}</svg>'

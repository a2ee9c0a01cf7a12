"""Shows a run: live on a terminal, as lines elsewhere; both with a small chart of share and error rates."""

from __future__ import annotations

import sys
import textwrap
import time
from typing import TYPE_CHECKING, Self

from turnout.cli.canary.status import WIDTH, check_text, rate_text
from turnout.cli.output import console_of, say
from turnout.wording import printable, printable_lines

if TYPE_CHECKING:
    from rich.live import Live

    from turnout.canary.judging.observed import Arm
    from turnout.canary.run import Tick
    from turnout.manifest.judgement import Judgement

CHART_WIDTH = 50
BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.:-=+*#"
LEAST_TOP = 0.01
"""The smallest error rate that fills a block."""

QUIET_S = 60.0
"""In a pipe a line is printed at this interval even if nothing changes."""


class RunProgress:
    """The state of a run's display.

    Args:
        judgement: the run's judgement.
    """

    def __init__(self, judgement: Judgement) -> None:
        self._bake_s = judgement.bake_minutes * 60
        self._history: list[Tick] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Show the chart of the whole run."""
        for line in self.chart():
            say(line)

    def show(self, tick: Tick) -> None:
        """Show one tick."""
        self._history.append(tick)

    def line(self, tick: Tick) -> str:
        """Return `02:51:02 25%, 43 of 30 s: baseline 3,039 (0% errors), canary 990 (0% errors)`, folded."""
        clock = time.strftime("%H:%M:%S", time.localtime(tick.time_s))
        since_s = max(0.0, tick.time_s - tick.at.step_started_s)
        text = f"{clock} {tick.at.percent:g}%, {since_s:,.0f} of {self._bake_s:,.0f} s"
        if tick.observation:
            baseline, canary = tick.observation.baseline, tick.observation.canary
            text += f": baseline {arm_text(baseline)}, canary {arm_text(canary)}"
        if tick.problem:
            text += f": {printable(tick.problem)}; trying again"
        return textwrap.fill(text, WIDTH, subsequent_indent="  ")

    def chart(self) -> list[str]:
        """Return share and error rates over the run, one line each, the oldest at the left."""
        seen = [(tick.at.percent / 100, tick.observation) for tick in self._history if tick.observation]
        if not seen:
            return []
        baseline = [error_rate(observation.baseline) for _, observation in seen]
        canary = [error_rate(observation.canary) for _, observation in seen]
        highest = max(LEAST_TOP, *baseline, *canary)
        rows = (
            ("canary's share", [share for share, _ in seen], 1.0),
            ("baseline's errors", baseline, highest),
            ("canary's errors", canary, highest),
        )
        return [f"{name:18}{spark(values, top)}  {100 * values[-1]:.3g}%" for name, values, top in rows]


class PlainProgress(RunProgress):
    """Lines: one for each change, and one a minute."""

    def __init__(self, judgement: Judgement) -> None:
        super().__init__(judgement)
        self._shown: tuple[object, ...] = ()
        self._shown_s = 0.0

    def show(self, tick: Tick) -> None:
        """Print the tick with its checks if there is something new."""
        super().show(tick)
        shown = (
            tick.at.phase,
            tick.at.percent,
            tick.state.phase,
            tick.problem,
            [check.verdict for check in tick.checks],
        )
        if shown == self._shown and tick.time_s - self._shown_s < QUIET_S:
            return
        self._shown, self._shown_s = shown, tick.time_s
        say(self.line(tick))
        for check in tick.checks:
            say(textwrap.indent(check_text(check), "  "))
        if tick.state.percent != tick.at.percent:
            say(f"  Set canary to {tick.state.percent:g}%.")
        sys.stdout.flush()


class LiveProgress(RunProgress):
    """An updated picture: the run's state, its checks, the chart."""

    def __init__(self, judgement: Judgement) -> None:
        super().__init__(judgement)
        self._live: Live | None = None

    def __enter__(self) -> Self:
        from rich.live import Live

        self._live = Live(console=console_of(sys.stdout), auto_refresh=False, transient=True, redirect_stdout=False)
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._live is not None
        self._live.stop()
        if self._history:
            say("\n".join([self.line(self._history[-1]), *map(check_text, self._history[-1].checks)]))
        super().__exit__()

    def show(self, tick: Tick) -> None:
        """Draw the tick."""
        from rich.text import Text

        super().show(tick)
        assert self._live is not None
        lines = [self.line(tick), *map(check_text, tick.checks), *self.chart()]
        self._live.update(Text(printable_lines("\n".join(lines))), refresh=True)


def error_rate(arm: Arm) -> float:
    """Return the share of an arm's requests that failed, 0-1."""
    return arm.errors / arm.requests if arm.requests else 0.0


def arm_text(arm: Arm) -> str:
    """Return `1,234 (0.1% errors)`."""
    return f"{arm.requests:,} ({rate_text(arm)} errors)"


def spark(values: list[float], top: float) -> str:
    """Return a line of blocks as high as the values; if there are too many values, the highest of each group."""
    encoding = (sys.stdout.encoding or "").lower()
    blocks = BLOCKS if encoding.startswith("utf") else ASCII_BLOCKS
    each = -(-len(values) // CHART_WIDTH)
    peaks = [max(values[at : at + each]) for at in range(0, len(values), each)]
    return "".join(blocks[min(len(blocks) - 1, -int(-value / top * (len(blocks) - 1) // 1))] for value in peaks)

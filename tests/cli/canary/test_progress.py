"""The display of a run: lines in a pipe, an updated picture on a terminal, and a chart in both."""

from __future__ import annotations

import io
import os
import sys

import pytest

from turnout.canary.judging.checks import Check, Verdict
from turnout.canary.judging.observed import Arm, Observation
from turnout.canary.judging.states import Phase, State
from turnout.canary.run import Tick
from turnout.canary.run_settings import ending_of
from turnout.cli.canary.progress import CHART_WIDTH, LiveProgress, PlainProgress, spark
from turnout.cli.canary.status import quantile_text
from turnout.manifest.judgement import Judgement

START_S = 1_000_000.0


def tick(after_s: float, percent: float, errors: int = 0, *, to: float | None = None, problem: str = "") -> Tick:
    at = State(Phase.BAKING, 0, percent, START_S)
    state = at if to is None else State(Phase.BAKING, 1, to, START_S + after_s)
    observation = Observation(Arm(1000, 1, (999, 1)), Arm(100, errors, (100, 0)), (0.004,))
    checks = (Check("errors", Verdict.INCONCLUSIVE, "about 900 more are needed to decide", 900),)
    return Tick(START_S + after_s, at, state, None if problem else observation, () if problem else checks, problem)


def test_a_pipe_gets_a_line_for_each_change_and_one_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    with PlainProgress(Judgement(bake_minutes=10)) as progress:
        for after_s in range(0, 130, 10):
            progress.show(tick(after_s, 5))
        progress.show(tick(130, 5, problem="nobody listens"))
        progress.show(tick(140, 5, 20, to=25))
    lines = capsys.readouterr().out.splitlines()
    looks = [line for line in lines if " of 600 s" in line]
    assert [line.split("%, ")[1].split()[0] for line in looks] == ["0", "60", "120", "130", "140"]
    assert looks[0].endswith(" 5%, 0 of 600 s: baseline 1,000 (0.1% errors), canary 100 (0% errors)")
    assert looks[3].endswith(" 5%, 130 of 600 s: nobody listens; trying again")
    assert max(map(len, lines)) <= 80
    assert "  - errors: inconclusive. about 900 more are needed to decide." in lines
    assert "  Set canary to 25%." in lines
    assert lines[-3:] == [
        "canary's share    " + "▂" * 14 + "  5%",
        "baseline's errors " + "▂" * 14 + "  0.1%",
        "canary's errors   " + "▁" * 13 + "█  20%",
    ]


def test_a_run_without_observations_has_no_chart(capsys: pytest.CaptureFixture[str]) -> None:
    with PlainProgress(Judgement()) as progress:
        progress.show(tick(0, 5, problem="nobody listens"))
    assert "share" not in capsys.readouterr().out


class Terminal(io.StringIO):
    """A fake terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_one_picture_and_keeps_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setitem(os.environ, "TERM", "xterm")
    with LiveProgress(Judgement()) as progress:
        progress.show(tick(0, 5))
        progress.show(tick(30, 5, 3))
    last = terminal.getvalue().rpartition("\x1b[2K")[2]
    assert "5%, 30 of 600 s" in last
    assert "canary's errors" in last
    assert "5%, 0 of 600 s" not in last


def test_long_runs_fit_into_the_chart_and_keep_their_peaks() -> None:
    values = [0.0] * 1000
    values[500] = 1.0
    line = spark(values, 1.0)
    assert len(line) == CHART_WIDTH
    assert line.count("█") == 1


def test_chart_without_unicode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert spark([0.0, 0.5, 1.0], 1.0) == "_=#"


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        (Phase.PROMOTED, "Promoted: prod serves it to all requests."),
        (Phase.ROLLED_BACK, "Rolled back: errors: many"),
        (Phase.PAUSED, "`auto_rollback` is off. End the canary with `turnout canary rollback prod`."),
        (Phase.LEFT, "Stopped at 5%: inconclusive. errors: many"),
    ],
)
def test_each_ending_suggests_the_next_action(phase: Phase, words: str) -> None:
    assert words in ending_of(State(phase, 0, 5, START_S, "errors: many"), "prod")


@pytest.mark.parametrize(
    ("durations", "expected"), [((0, 0), "-"), ((10, 0), "4 ms"), ((0, 10), "> 4 ms"), ((99, 1), "4 ms")]
)
def test_quantile_is_an_upper_bound(durations: tuple[int, ...], expected: str) -> None:
    assert quantile_text(Arm(sum(durations), 0, durations), (0.004,), 0.99) == expected

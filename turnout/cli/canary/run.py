"""`turnout canary run`: walk a canary through its steps, live, until it is promoted, rolled back or left."""

from __future__ import annotations

import re
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turnout.cli.canary.percents import find_percent
from turnout.cli.canary.progress import LiveProgress, PlainProgress
from turnout.cli.canary.status import WIDTH
from turnout.cli.canary.target import (
    WHERE,
    EndpointOption,
    StackOption,
    StageArgument,
    compare_for,
    find_target,
    log_of,
    reported_errors,
    sentence_of,
)
from turnout.cli.commands.invoke import ApiKeyOption
from turnout.cli.options import DEFAULT_MANIFEST, ManifestOption, load
from turnout.cli.output import CommandError, is_plain, notify, print_problems, say
from turnout.problems import ProblemsError, TurnoutError

if TYPE_CHECKING:
    from turnout.canary.judging.states import State
    from turnout.canary.run import CanaryRun

LOCAL_INTERVAL_S = 2.0
AWS_INTERVAL_S = 30.0
"""CloudWatch counts whole minutes."""

LOOKS_PER_BAKE = 10
SHORTEST_INTERVAL_S = 0.2
UNITS_MINUTES = {"s": 1 / 60, "m": 1.0, "h": 60.0}

StepsOption = Annotated[
    str,
    typer.Option(
        "--steps",
        metavar="PERCENTS",
        help="The canary's shares in order, such as 5,25,50. Default: `steps` in models.yaml.",
        show_default=False,
    ),
]
BakeOption = Annotated[
    str,
    typer.Option(
        "--bake",
        metavar="DURATION",
        help="Minimum duration of each step, such as 90s, 10m or 1h. Default: `bake_minutes` in models.yaml.",
        show_default=False,
    ),
]


def run(
    stage: StageArgument,
    *,
    steps: StepsOption = "",
    bake: BakeOption = "",
    endpoint_url: EndpointOption = "",
    stack: StackOption = "",
    api_key: ApiKeyOption = "",
    manifest: ManifestOption = DEFAULT_MANIFEST,
) -> None:
    """Raise a canary's share step by step and judge it at each step.

    If all checks succeed, the canary moves to the next step, and is promoted after the last one. If a check fails, it
    is rolled back. If the checks stay inconclusive for three times --bake, the run stops and changes nothing. Every
    move edits models.yaml, changes the stage and is recorded. Ctrl-C stops the run and keeps the canary; the same
    command resumes it.

    The run ends if another command changes the canary.

    Exit codes: 0 promoted; 1 rolled back, failed, inconclusive, or ended by another command; 130 Ctrl-C.
    """
    from turnout.canary.judging.states import Phase
    from turnout.canary.report import judgement_of
    from turnout.canary.rollout.manifest_edits import find_canary, find_stage
    from turnout.canary.run import CanaryRun, RunSettings, Surroundings

    settings = RunSettings(parse_steps(steps), parse_bake(bake))
    from turnout.canary.connection import connect

    target = find_target(endpoint_url, stack)
    if target is None:
        raise CommandError("`turnout canary run` needs the address of the stage.", WHERE)
    with reported_errors(manifest):
        project = load(manifest)
        find_canary(project.manifest, stage)
        stage_settings = find_stage(project.manifest, stage)
        judgement = judgement_of(stage_settings, target)
        connection = connect(project, target, stage, judgement)
        around = Surroundings(
            lambda: load(manifest),
            manifest,
            log_of(manifest),
            target,
            connection,
            compare_for(project, stage_settings, target, connection, api_key),
            time.time,
            time.sleep,
        )
        going = CanaryRun(around, stage, judgement, settings)
        with interruptible(going, stage, manifest), ending_with_1():
            state = watch(going, stage, is_local=target.is_local)
    raise typer.Exit(0 if state.phase is Phase.PROMOTED else 1)


def watch(going: CanaryRun, stage: str, *, is_local: bool) -> State:
    """Show a run until it is over; the state that it ends in."""
    bake_s = going.judgement.bake_minutes * 60
    longest_s = LOCAL_INTERVAL_S if is_local else AWS_INTERVAL_S
    progress = (PlainProgress if is_plain(sys.stdout) else LiveProgress)(going.judgement)
    say(f"{'Resumed canary run' if going.resumed else 'Canary run'}: {plan_text(going)}")
    with progress:
        for tick in going.ticks(max(SHORTEST_INTERVAL_S, min(longest_s, bake_s / LOOKS_PER_BAKE))):
            progress.show(tick)
    for line in ending_of(going.state, stage).splitlines():
        say(textwrap.fill(line, WIDTH, break_long_words=False))
    return going.state


def plan_text(going: CanaryRun) -> str:
    """`5%, 25%, 50%; at least 10 minutes per step; judged with 95% confidence.`."""
    from turnout.canary.judging.checks import shares_of

    judgement = going.judgement
    shares = ", ".join(f"{share:g}%" for share in shares_of(judgement) or (going.state.percent,))
    confidence = f"judged with {100 * judgement.confidence:g}% confidence"
    return f"{shares}; at least {duration_text(judgement.bake_minutes)} per step; {confidence}."


def duration_text(minutes: float) -> str:
    """`10 minutes`, `90 seconds`."""
    return f"{minutes:g} minutes" if minutes >= 2 else f"{minutes * 60:g} seconds"


def ending_of(state: State, stage: str) -> str:
    """What a run ended in, and what there is to do."""
    from turnout.canary.judging.states import Phase

    match state.phase:
        case Phase.PROMOTED:
            return f"Promoted: {stage} serves it to all requests."
        case Phase.ROLLED_BACK:
            return f"Rolled back: {state.reason}."
        case Phase.PAUSED:
            then = f"`auto_rollback` is off. End the canary with `turnout canary rollback {stage}`."
            return f"Failed, stopped at {state.percent:g}%: {state.reason}.\n{then}"
    then = (
        f"Decide with `turnout canary promote {stage}` or `turnout canary rollback {stage}`, or run again "
        "with a longer --bake."
    )
    return f"Stopped at {state.percent:g}%: inconclusive. {state.reason}.\n{then}"


@contextmanager
def ending_with_1() -> Iterator[None]:
    """Make an error of a run that has begun exit with 1, as its help says: its command line was right."""
    try:
        yield
    except TurnoutError as error:
        raise CommandError(sentence_of(error.message), error.hint, code=1) from error
    except ProblemsError as error:
        print_problems(error)
        raise CommandError("The run ended because models.yaml can no longer be edited.", code=1) from error


@contextmanager
def interruptible(going: CanaryRun, stage: str, manifest: Path) -> Iterator[None]:
    """Ctrl-C leaves the canary as it is, and says so."""
    try:
        yield
    except KeyboardInterrupt:
        notify(f"\nStopped. The canary of {stage} stays at {going.state.percent:g}%.")
        if log_of(manifest).unfinished():
            notify("A step was interrupted. Finish it with `turnout canary mend`.")
        notify(
            f"Resume with `turnout canary run {stage}` and the same options, or end the canary with `turnout "
            f"canary rollback {stage}`."
        )
        raise


def parse_steps(text: str) -> tuple[float, ...] | None:
    """`5,25,50`, rising; None for an empty text."""
    if not text:
        return None
    percents = [find_percent(part.strip()) for part in text.split(",")]
    steps = tuple(step for step in percents if step)
    is_rising = all(low < high for low, high in pairwise(steps))
    if not is_rising or len(steps) < len(percents) or steps == (100.0,):
        raise CommandError(f"--steps must be increasing percentages such as 5,25,50, not {text!r}.")
    return steps


def parse_bake(text: str) -> float | None:
    """Minutes; None for an empty text."""
    if not text:
        return None
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smh])", text)
    if not match:
        raise CommandError(f"--bake must be a number with s, m or h, such as 90s or 10m, not {text!r}.")
    return float(match[1]) * UNITS_MINUTES[match[2]]

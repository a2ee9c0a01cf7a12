"""`turnout canary run`: moves a canary through its steps until it is promoted, rolled back or stopped."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from turnout.cli.canary.progress import LiveProgress, PlainProgress
from turnout.cli.canary.status import WIDTH
from turnout.cli.canary.target import (
    WHERE,
    EndpointOption,
    StackOption,
    StageArgument,
    find_target,
    log_of,
    reported_errors,
)
from turnout.cli.commands.invoke import ApiKeyOption
from turnout.cli.options import DEFAULT_MANIFEST, ManifestOption, load
from turnout.cli.output import CommandError, is_plain, notify, print_problems, say, sentence_of
from turnout.problems import ProblemsError, TurnoutError

if TYPE_CHECKING:
    from turnout.canary.judging.states import State
    from turnout.canary.rollout.stage_control import StageTarget
    from turnout.canary.run import CanaryRun, RunSettings

T = TypeVar("T")

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


OnceOption = Annotated[
    bool,
    typer.Option("--once", help="Judge once, move the canary if it is time, and exit. For use in a schedule."),
]


def run(
    stage: StageArgument,
    *,
    model: Annotated[
        str, typer.Option("--model", metavar="MODEL", help="The model of a routed canary.", show_default=False)
    ] = "",
    steps: StepsOption = "",
    bake: BakeOption = "",
    once: OnceOption = False,
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

    Each model of the canary is judged by itself. One that fails is rolled back alone, and one that is successful for
    the last step is promoted alone. --model runs the routed canary of that model, which can be omitted if the stage has
    no other canary. Runs of several canaries do not disturb each other.

    The run ends if another command changes the canary's share or ends it.

    With --once, judges once and exits; rollouts.jsonl keeps the state of the run. Without --model, judges each canary
    of the stage. Exits with 0 while the runs continue, or if there is no canary.

    Exit codes: 0 promoted; 1 rolled back, failed, inconclusive, or ended by another command; 130 Ctrl-C.
    """
    from turnout.canary.judging.states import TERMINAL, Phase
    from turnout.canary.run import RunSettings
    from turnout.canary.run_settings import parse_bake, parse_steps

    settings = RunSettings(parse_option("--steps", parse_steps, steps), parse_option("--bake", parse_bake, bake))
    target = find_target(endpoint_url, stack)
    if target is None:
        raise CommandError("`turnout canary run` needs the address of the stage.", WHERE)
    states: list[State] = []
    failure: CommandError | None = None
    for name in find_runs(stage, model, manifest, once=once):
        try:
            with reported_errors(manifest):
                if once:
                    check_undecided(stage, name, manifest)
                going = make_run(stage, name, target, settings, api_key, manifest)
                with interruptible(going, stage, manifest), ending_with_1():
                    states.append(look(going, stage) if once else watch(going, stage, is_local=target.is_local))
        except CommandError as error:
            if not once:
                raise
            failure = failure or error  # the other canaries are still judged
    if failure is not None:
        raise failure
    is_well = all(state.phase is Phase.PROMOTED or (once and state.phase not in TERMINAL) for state in states)
    raise typer.Exit(0 if is_well else 1)


def find_runs(stage: str, model: str, manifest: Path, *, once: bool) -> list[str]:
    """Return the models whose routed canaries are run; an empty name stands for the stage's own canary.

    With `once`, print a line and return nothing if there is no canary.
    """
    from turnout.canary.rollout.stage_canaries import find_stage, view_of, views_of

    with reported_errors(manifest):
        project = load(manifest)
        settings = find_stage(project.manifest, stage)
        known = {*settings.routed, *(settings.canary.serve if settings.canary else ())}
        if once and ((model and model not in known) or (settings.canary is None and not settings.routed)):
            say(f"No canary of {model} on {stage}." if model else f"No canary on {stage}.")
            return []
        return list(views_of(settings)) if once and not model else [view_of(settings, model)[0]]


def make_run(
    stage: str, model: str, target: StageTarget, settings: RunSettings, api_key: str, manifest: Path
) -> CanaryRun:
    """Begin the run of a stage's canary, or of a model's routed one, or resume it."""
    from turnout.canary.agreement import compare_for
    from turnout.canary.connection import connect
    from turnout.canary.report import judgement_of
    from turnout.canary.rollout.stage_canaries import find_stage
    from turnout.canary.run import CanaryRun, Surroundings

    project = load(manifest)
    stage_settings = find_stage(project.manifest, stage)
    view = stage_settings.with_canary_of(model) if model else stage_settings
    judgement = judgement_of(view, target)
    connection = connect(project, target, stage, judgement)
    around = Surroundings(
        lambda: load(manifest),
        manifest,
        log_of(manifest),
        target,
        connection,
        compare_for(project, replace(view, routed={}), target, connection, api_key),
        time.time,
        time.sleep,
    )
    return CanaryRun(around, stage, judgement, settings, model)


def check_undecided(stage: str, model: str, manifest: Path) -> None:
    """Raise a CommandError if the canary's run ended without a decision and the canary still exists."""
    from turnout.canary.judging.states import TERMINAL, State
    from turnout.canary.observed_models import records_of
    from turnout.canary.rollout.stage_canaries import find_canary
    from turnout.canary.run import find_run, is_continued

    records = records_of(log_of(manifest).read(stage), model)
    run, canary = find_run(records), find_canary(load(manifest).manifest, stage, model)
    if not run:
        return
    state = State.from_json(dict(run["state"]))
    if state.phase in TERMINAL and is_continued(records, canary, state):
        named = f"{stage} --model {model}" if model else stage
        raise CommandError(
            f"The run of {named} ended at {state.percent:g}%: {state.reason}.",
            f"Decide with `turnout canary promote {named}` or `turnout canary rollback {named}`.",
            code=1,
        )


def look(going: CanaryRun, stage: str) -> State:
    """Show one tick of a run; return the state after it."""
    from turnout.canary.judging.states import TERMINAL
    from turnout.canary.run_settings import ending_of

    progress = PlainProgress(going.judgement)
    with progress:
        progress.show(next(going.ticks(0)))
    if going.state.phase in TERMINAL:
        say(ending_of(going.state, stage))
    else:
        say(f"The run of {stage} continues at {going.state.percent:g}%.")
    return going.state


def watch(going: CanaryRun, stage: str, *, is_local: bool) -> State:
    """Show a run until it is over; return its final state."""
    from turnout.canary.run_settings import ending_of, interval_of, plan_text

    progress = (PlainProgress if is_plain(sys.stdout) else LiveProgress)(going.judgement)
    say(f"{'Resumed canary run' if going.resumed else 'Canary run'}: {plan_text(going.judgement, going.state.percent)}")
    with progress:
        for tick in going.ticks(interval_of(going.judgement, is_local=is_local)):
            progress.show(tick)
    for line in ending_of(going.state, stage).splitlines():
        say(textwrap.fill(line, WIDTH, break_long_words=False))
    return going.state


@contextmanager
def ending_with_1() -> Iterator[None]:
    """Exit with 1 on an error of a started run, as the help says; 2 is for a wrong command line."""
    try:
        yield
    except TurnoutError as error:
        raise CommandError(sentence_of(error.message), error.hint, code=1) from error
    except ProblemsError as error:
        print_problems(error)
        raise CommandError("The run ended because models.yaml can no longer be edited.", code=1) from error


@contextmanager
def interruptible(going: CanaryRun, stage: str, manifest: Path) -> Iterator[None]:
    """On Ctrl-C, leave the canary unchanged and say so."""
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


def parse_option(name: str, parse: Callable[[str], T], text: str) -> T:
    """Parse an option; its error names the option."""
    try:
        return parse(text)
    except ValueError as error:
        raise CommandError(f"{name} {error}.") from error

"""The `turnout canary` commands.

They start a stage's canary, change its share, promote it, roll it back, and finish an interrupted command.
"""

from __future__ import annotations

import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turnout.cli.canary.percents import parse_percent
from turnout.cli.canary.run import run
from turnout.cli.canary.status import WIDTH, status
from turnout.cli.canary.target import (
    WHERE,
    EndpointOption,
    StackOption,
    StageArgument,
    editing_alone,
    find_target,
    log_of,
    recorded_target,
    reported_errors,
)
from turnout.cli.group import Group
from turnout.cli.options import DEFAULT_MANIFEST, JsonOption, ManifestOption, load
from turnout.cli.output import CommandError, notify, say, say_json, say_table
from turnout.problems import ProblemsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from turnout.canary.rollout.action import Action
    from turnout.canary.rollout.log import Rollout
    from turnout.manifest.values import Stage

canary = typer.Typer(
    name="canary",
    cls=Group,
    help="Move a stage's traffic to other versions safely.",
    epilog="Each command edits models.yaml and appends a line to rollouts.jsonl next to it. `pulumi up` "
    "applies the edit; --now applies it immediately.",
    rich_markup_mode=None,
    no_args_is_help=False,
)

ModelOption = Annotated[list[str], typer.Option("--model", metavar="MODEL", help="A model to move. Repeatable.")]
ToOption = Annotated[
    list[str],
    typer.Option("--to", metavar="VERSION", help="The version that the canary serves. One for each --model."),
]
StartPercentOption = Annotated[
    float | None,
    typer.Option(
        "--percent",
        metavar="0-100",
        parser=parse_percent,
        help="The canary's share of the stage's traffic. Default: 10, or the share of the running canary.",
        show_default=False,
    ),
]
PercentOption = Annotated[
    float,
    typer.Option("--percent", metavar="0-100", parser=parse_percent, help="The canary's share of the stage's traffic."),
]
ReleaseOption = Annotated[
    bool, typer.Option("--release", help="The canary's requests also get the new code and routes.")
]
RoutedOption = Annotated[
    bool,
    typer.Option("--routed", help="Let each model's router split its requests: a share independent of other models."),
]
NowOption = Annotated[
    bool, typer.Option("--now", help="Also change the live stage immediately. Needs --url or --stack.")
]


def start(
    stage: StageArgument,
    *,
    model: ModelOption = [],  # noqa: B006  # typer copies it
    to: ToOption = [],  # noqa: B006
    percent: StartPercentOption = None,
    release: ReleaseOption = False,
    routed: RoutedOption = False,
    now: NowOption = False,
    endpoint_url: EndpointOption = "",
    stack: StackOption = "",
    manifest: ManifestOption = DEFAULT_MANIFEST,
) -> None:
    """Start a canary: send a share of the traffic to other versions.

    turnout canary start prod --model iris --to v2 --percent 10

    If the stage has a canary of other models, these join it: API Gateway has one canary for a stage, with one share.
    With another --percent, or if the stage has a release canary, they get routed canaries instead: their routers split
    their requests. Each model can be promoted and rolled back alone (`--model`). Versions that are incompatible with
    what the stage serves are rejected.
    """
    from turnout.canary.rollout.action import Action
    from turnout.canary.rollout.stage_canaries import place_canary
    from turnout.wording import listed

    if len(model) != len(to):
        raise CommandError("Each --model needs a --to.", "For example: --model iris --to v2 --model digits --to v2")
    if len(set(model)) != len(model):
        raise CommandError(
            "--model names the same model twice.", "A canary serves one version of each model: remove one of them."
        )
    if release and now:
        hint = "Omit --now: `pulumi up` deploys the code and starts the canary."
        raise CommandError("--release cannot be combined with --now: its code and routes are not deployed yet.", hint)

    if release and routed:
        raise CommandError("--release cannot be combined with --routed: routers split versions, not code.")
    if routed and not model:
        raise CommandError("--routed needs a model.", "For example: --routed --model iris --to v2 --percent 25")
    reasons: list[str] = []

    def make_start(current: Stage) -> Action:
        placement = place_canary(current, percent, release=release, routed=routed)
        reasons.append(placement.reason)
        serve = dict(zip(model, to, strict=True))
        return Action("start", stage, serve, placement.percent, release, placement.is_routed)

    do(make_start, stage, manifest, now=now, endpoint_url=endpoint_url, stack=stack)
    if reasons[0]:
        say(textwrap.fill(f"Routed by {listed(model)}'s own weights: {reasons[0]}.", WIDTH, break_long_words=False))


def set_share(
    stage: StageArgument,
    *,
    percent: Annotated[
        float,
        typer.Option("--percent", metavar="0-100", parser=parse_percent, help="The canary's new share."),
    ],
    model: Annotated[
        list[str], typer.Option("--model", metavar="MODEL", help="Change only this model's share. Repeatable.")
    ] = [],  # noqa: B006
    now: NowOption = False,
    endpoint_url: EndpointOption = "",
    stack: StackOption = "",
    manifest: ManifestOption = DEFAULT_MANIFEST,
) -> None:
    """Change the share of a running canary.

    With --model, change the share of that model alone. A model that shares the stage's canary with others leaves that
    canary and gets a routed one. With --now, models.yaml overwrites the live stage's canary.
    """
    from turnout.canary.rollout.action import Action

    action = Action("set", stage, dict.fromkeys(model, ""), percent)
    do(lambda _: action, stage, manifest, now=now, endpoint_url=endpoint_url, stack=stack)


def promote(
    stage: StageArgument,
    *,
    model: Annotated[
        list[str], typer.Option("--model", metavar="MODEL", help="Promote only this model. Repeatable.")
    ] = [],  # noqa: B006
    now: NowOption = False,
    endpoint_url: EndpointOption = "",
    stack: StackOption = "",
    manifest: ManifestOption = DEFAULT_MANIFEST,
) -> None:
    """Send all traffic to the canary's versions and end the canary.

    With --model, promote only that model. The canary continues with the others and ends with the last one. A routed
    canary is promoted by its --model, which can be omitted if the stage has no other canary.
    """
    from turnout.canary.rollout.action import Action

    action = Action("promote", stage, dict.fromkeys(model, ""))
    do(lambda _: action, stage, manifest, now=now, endpoint_url=endpoint_url, stack=stack)


def rollback(
    stage: StageArgument,
    *,
    model: Annotated[
        list[str], typer.Option("--model", metavar="MODEL", help="Roll back only this model. Repeatable.")
    ] = [],  # noqa: B006
    to_previous: Annotated[
        bool, typer.Option("--to-previous", help="Return to what the stage served before its last promotion.")
    ] = False,
    now: NowOption = False,
    endpoint_url: EndpointOption = "",
    stack: StackOption = "",
    manifest: ManifestOption = DEFAULT_MANIFEST,
) -> None:
    """End a canary: send all traffic to what the stage served before.

    With --model, roll back only that model. The canary continues with the others and ends with the last one. A routed
    canary is rolled back by its --model, which can be omitted if the stage has no other canary.

    After a promotion, --to-previous returns to what the stage served before it, as recorded in rollouts.jsonl. Each
    further call undoes the promotion before that one. With --model, only the promotions of that model count.
    """

    def make_action(target: Stage) -> Action:
        from turnout.canary.rollout.action import Action
        from turnout.canary.rollout.way_back import describe, find_promotion, make_return, offer_of
        from turnout.yaml_text.editor import EditError

        rollouts = log_of(manifest).read(stage)
        if to_previous:
            return make_return(target, rollouts, model)
        promotion = find_promotion(rollouts)
        has_none = target.canary is None and not target.routed
        if has_none and promotion and (offer := offer_of(target, rollouts)):
            served = f"To return to {describe(promotion)}, served before the promotion at {promotion.time}"
            raise EditError(f"{stage} has no canary", f"{served}: {offer}")
        return Action("rollback", stage, dict.fromkeys(model, ""))

    do(make_action, stage, manifest, now=now, endpoint_url=endpoint_url, stack=stack)


def mend(
    stage: Annotated[
        str,
        typer.Argument(
            metavar="STAGE", help="Also repair the live stage variable `canary` of this stage.", show_default=False
        ),
    ] = "",
    *,
    abandon: Annotated[bool, typer.Option("--abandon", help="Close the record without changing anything.")] = False,
    endpoint_url: EndpointOption = "",
    stack: StackOption = "",
    manifest: ManifestOption = DEFAULT_MANIFEST,
) -> None:
    """Finish an interrupted command.

    Completes models.yaml, the stage and rollouts.jsonl. Does nothing if no command was interrupted.

    Connects only to AWS, to a running server of this project, or to --url, never to another address in rollouts.jsonl.

    With STAGE and --url or --stack, also repairs the stage variable `canary`. A promotion in the AWS console copies the
    canary's overrides to the stage and leaves it `true`, so that every response is marked as the canary's.
    """
    from turnout.canary.connection import connect
    from turnout.canary.rollout import rollout as effects
    from turnout.canary.rollout.sentences import sentence_of
    from turnout.canary.rollout.stage_canaries import find_stage

    target = find_target(endpoint_url, stack, uses_environment=bool(stage))
    if stage and target is None:
        raise CommandError("STAGE needs --url or --stack, which say where it is served.", WHERE)
    if stage and abandon:
        raise CommandError("--abandon closes a record and changes no stage.", "Omit the stage.")
    with editing_alone(manifest):
        project, log = load(manifest), log_of(manifest)
        if abandon:
            rollout = effects.abandon(project.manifest, log)
        else:
            rollout = effects.mend(
                project.manifest,
                log,
                lambda rollout: connect(project, recorded_target(project, rollout, target), rollout.stage).control,
            )
        was_wrong = False
        if target is not None and stage:
            find_stage(project.manifest, stage)
            was_wrong = effects.reset_marker(connect(project, target, stage).control)
    if target is not None and stage:
        done = "Reset" if was_wrong else "Nothing to repair in"
        say(f"{done} the stage variable `canary` of {stage} at {target}.")
    if rollout is None and stage:
        return
    if rollout is None:
        say("Nothing to finish: no command was interrupted.")
    elif abandon:
        say(f"Closed: `{rollout.command}` of {rollout.time}. Nothing else was changed.")
    else:
        say(f"Finished: {sentence_of(rollout)}")


def history(
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="Only show this stage.", show_default=False)] = "",
    *,
    manifest: ManifestOption = DEFAULT_MANIFEST,
    as_json: JsonOption = False,
) -> None:
    """Show all changes to canaries, oldest first."""
    from turnout.canary.rollout.stage_canaries import find_stage

    with reported_errors(manifest):
        rollouts = log_of(manifest).read(stage)
        if stage and not rollouts:
            find_stage(load(manifest).manifest, stage)
    if as_json:
        say_json({"rollouts": [rollout.to_json() for rollout in rollouts]})
    elif not rollouts:
        say(f"No canary commands recorded{f' for {stage}' if stage else ''}.")
    else:
        say_history(rollouts)


def do(
    make_action: Callable[[Stage], Action], stage: str, manifest: Path, *, now: bool, endpoint_url: str, stack: str
) -> None:
    """Perform the action that follows from a stage's current state, and report the result."""
    from turnout.canary.connection import connect
    from turnout.canary.rollout.action import prepare
    from turnout.canary.rollout.rollout import carry_out, check_finished
    from turnout.canary.rollout.sentences import sentence_of
    from turnout.canary.rollout.stage_canaries import find_stage

    target = find_target(endpoint_url, stack, uses_environment=now)
    if now and target is None:
        raise CommandError("--now needs the address of the stage.", WHERE)
    if target is not None and not now:
        raise CommandError("--url and --stack have no effect without --now.", "Add --now.")
    with editing_alone(manifest):
        check_finished(log_of(manifest))  # otherwise an interrupted promotion is reported as `prod has no canary`
        project = load(manifest)
        action = make_action(find_stage(project.manifest, stage))
        try:
            prepared = prepare(project, action, target, now_s=time.time())
        except ProblemsError:
            notify(f"{project.manifest.source} would be invalid with this change. Nothing was changed:")
            raise
        connection = connect(project, target, action.stage) if target else None
        carry_out(prepared, log_of(manifest), connection)
    say(sentence_of(prepared.rollout))
    if now:
        say(f"Applied to {target}.")
    else:
        say(f"Updated {project.manifest.source}. Apply it with `pulumi up`, or with SIGHUP to `turnout serve`.")
    if prepared.rollout.release:
        say(remark_on_release(prepared.rollout))


def remark_on_release(rollout: Rollout) -> str:
    """Print what the next deployment must do after a canary with new code and routes."""
    if rollout.action == "rollback":
        return (
            "This checkout still has the new code and routes: the next `pulumi up` would deploy them for all requests."
        )
    if rollout.action == "promote":
        return "The next `pulumi up` moves the alias `live` to the new code."
    return "`pulumi up` deploys the canary's code and routes."


def say_history(rollouts: Sequence[Rollout]) -> None:
    """Print a line for each rollout."""
    headers = ("TIME", "WHO", "STAGE", "ACTION", "VERSIONS", "SHARE", "VERDICT")
    say_table(
        headers,
        [
            (
                rollout.time.replace("T", " ").removesuffix("Z"),
                rollout.who,
                rollout.stage,
                rollout.action,
                ", ".join(
                    [f"{model} {rollout.before[model]} > {version}" for model, version in rollout.after.items()]
                    + ["new release"] * rollout.release
                ),
                f"{rollout.percent:g}%",
                rollout.verdict or ("-" if rollout.done else "HALF-DONE"),
            )
            for rollout in rollouts
        ],
        right=("SHARE",),
    )
    if not rollouts[-1].done:
        say("\nThe last command was interrupted. Finish it with `turnout canary mend`.")


for command in (start, set_share, status, run, promote, rollback, history, mend):
    canary.command(command.__name__.removesuffix("_share"))(command)

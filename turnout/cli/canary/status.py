"""`turnout canary status`: what baseline and canary serve, observations, the verdict, and differences."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from turnout.cli.canary.target import (
    EndpointOption,
    StackOption,
    StageArgument,
    find_target,
    log_of,
    reported_errors,
)
from turnout.cli.commands.invoke import ApiKeyOption
from turnout.cli.options import DEFAULT_MANIFEST, JsonOption, ManifestOption, load
from turnout.cli.output import CommandError, say, say_json, say_section, say_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from turnout.canary.judging.checks import Check
    from turnout.canary.judging.observed import Arm, Observation
    from turnout.canary.report import CanaryReport

WIDTH = 80

OutputsOption = Annotated[
    str,
    typer.Option(
        "--outputs",
        metavar="FILE",
        help="Output of `pulumi stack output --json` to compare with. - reads standard input.",
        show_default=False,
    ),
]


def status(
    stage: StageArgument,
    *,
    endpoint_url: EndpointOption = "",
    stack: StackOption = "",
    outputs: OutputsOption = "",
    api_key: ApiKeyOption = "",
    manifest: ManifestOption = DEFAULT_MANIFEST,
    as_json: JsonOption = False,
) -> None:
    """Show the status of a stage's canaries.

    Shows the versions, the requests and errors of canary and baseline, the verdict on each model, and all differences
    between models.yaml, the live stage and Pulumi's outputs. Reads the live stage if --url or --stack is passed. If a
    canary has an agreement check, sends recent requests to both versions: samples of a local gateway, or the last hour
    of the functions' logs on AWS.
    """
    from turnout.canary.agreement import compare_for
    from turnout.canary.connection import connect
    from turnout.canary.report import judgement_of, make_report, report_to_json
    from turnout.canary.rollout.stage_canaries import find_stage

    with reported_errors(manifest):
        project = load(manifest)
        target = find_target(endpoint_url, stack)
        stage_settings = find_stage(project.manifest, stage)
        connection = connect(project, target, stage, judgement_of(stage_settings, target)) if target else None
        report = make_report(
            project,
            stage,
            log_of(manifest),
            target=target,
            connection=connection,
            compare=compare_for(project, stage_settings, target, connection, api_key)
            if target and connection
            else None,
            outputs=read_outputs(outputs),
        )
    if as_json:
        say_json(report_to_json(report))
    else:
        say_report(report, is_asked=target is not None)


def read_outputs(name: str) -> Mapping[str, Any] | None:
    """Return the outputs in a file, None if no file is named."""
    if not name:
        return None
    try:
        tree = json.loads(sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8"))
    except ValueError as error:
        raise CommandError(f"{name} is not JSON: {error}") from error
    if not isinstance(tree, dict):
        raise CommandError(f"{name} does not contain a JSON object", "Pass the output of `pulumi stack output --json`.")
    return tree


def say_report(report: CanaryReport, *, is_asked: bool) -> None:
    """Print the whole report, the most important parts first."""
    say(headline_of(report))
    if report.models:
        say()
        say_canaries(report)
    if report.observation and len(report.models) == 1:
        say_observation(report.observation)
        say_checks(report.checks)
    for entry in report.models if len(report.models) > 1 else ():
        if entry.observation:
            say_section(f"{entry.model}: {entry.verdict}")
            say_observation(entry.observation)
            say_checks(entry.checks, is_titled=False)
    if report.warnings:
        say_section("Warnings")
        for warning in report.warnings:
            say(textwrap.fill(f"- {warning}", WIDTH, subsequent_indent="  ", break_long_words=False))
    elif not is_asked:
        say("\nThe live stage was not checked. Name it with --url or --stack.")


def say_canaries(report: CanaryReport) -> None:
    """Print a line for each model, with its share if they differ."""
    from turnout.canary.rollout.stage_canaries import served_text

    release = report.stage.canary is not None and report.stage.canary.release
    rows = [
        (
            entry.model or "(all)",
            entry.baseline,
            entry.version,
            f"{entry.percent:g}%{' (routed)' if entry.is_routed else ''}",
            (entry.since.time.replace("T", " ").removesuffix("Z") if entry.since else "-"),
        )
        for entry in report.models
    ]
    if release and report.stage.canary is not None:
        own = [(model, served_text(report.stage, model), name) for model, name in report.stage.canary.serve.items()]
        rows = [(*line, *rows[0][3:]) for line in own] + rows
    if len(report.models) > 1:
        say_table(("MODEL", "BASELINE", "CANARY", "SHARE", "SINCE"), rows)
    else:
        say_table(("MODEL", "BASELINE", "CANARY"), [line[:3] for line in rows])


def headline_of(report: CanaryReport) -> str:
    """Return the stage, its shares, the last action and the verdict."""
    canary, since, routed = report.stage.canary, report.since, report.stage.routed
    lines = [f"{report.stage.name}: the canary has {canary.percent:g}% of the traffic."] if canary else []
    if len(report.models) > 1 and canary and not routed:
        models = len(report.models)
        lines = [f"{report.stage.name}: the canary of {models} models has {canary.percent:g}% of the traffic."]
    elif routed:
        own = [f"the canary has {canary.percent:g}% of the traffic"] if canary else []
        own += [f"the routed canary of {model} has {routed[model].percent:g}% of its requests" for model in routed]
        lines = textwrap.wrap(f"{report.stage.name}: {', '.join(own)}.", WIDTH, break_long_words=False)
    lines = lines or [f"{report.stage.name} has no canary."]
    if since:
        lines.append(f"Last: {since.action} by {since.who}, {since.time.replace('T', ' ').removesuffix('Z')} UTC.")
    if report.verdict:
        lines.append(f"Verdict: {report.verdict}.")
    return "\n".join(lines)


def say_checks(checks: Iterable[Check], *, is_titled: bool = True) -> None:
    """Print a paragraph for each check."""
    if is_titled:
        say_section("Checks")
    else:
        say()
    for check in checks:
        say(check_text(check))


def say_observation(observation: Observation) -> None:
    """Print a row for each share: requests, errors, median and p99."""
    headers = ("SHARE", "REQUESTS", "ERRORS", "ERROR RATE", "P50", "P99")
    rows = [
        (name, *arm_texts(arm, observation.bounds_s))
        for name, arm in (("baseline", observation.baseline), ("canary", observation.canary))
    ]
    say()
    say_table(headers, rows, right=headers[1:])


def arm_texts(arm: Arm, bounds_s: tuple[float, ...]) -> Iterable[str]:
    """Return requests, errors, error rate, median and p99 of one share."""
    yield f"{arm.requests:,}"
    yield f"{arm.errors:,}"
    yield rate_text(arm)
    for share in (0.5, 0.99):
        yield quantile_text(arm, bounds_s, share)


def rate_text(arm: Arm) -> str:
    """Return `0.3%`, `-` without requests."""
    return f"{100 * arm.errors / arm.requests:.2g}%" if arm.requests else "-"


def quantile_text(arm: Arm, bounds_s: tuple[float, ...], share: float) -> str:
    """Return `4 ms`, an upper bound; `> 30,000 ms` past the last bound."""
    from turnout.canary.judging.observed import quantile_s

    seconds = quantile_s(arm, bounds_s, share)
    if seconds is None:
        return "-"
    return f"> {bounds_s[-1] * 1000:,.0f} ms" if seconds > bounds_s[-1] else f"{seconds * 1000:,.3g} ms"


def check_text(check: Check) -> str:
    """Return `errors: inconclusive. 0.1% of the canary's ...`, folded."""
    return textwrap.fill(f"- {check.name}: {check.verdict}. {check.sentence}.", WIDTH, subsequent_indent="  ")

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
    """Show the status of a stage's canary.

    Shows its versions, the requests and errors of canary and baseline, the verdict, and all differences between
    models.yaml, the live stage and Pulumi's outputs. Reads the live stage if --url or --stack is passed. If the canary
    has an agreement check, sends recent requests to both versions: samples of a local gateway, or the last hour of the
    functions' logs on AWS.
    """
    from turnout.canary.agreement import compare_for
    from turnout.canary.connection import connect
    from turnout.canary.report import judgement_of, make_report, report_to_json
    from turnout.canary.rollout.manifest_edits import find_stage

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
    canary = report.stage.canary
    if canary is not None:
        rows = [(model, report.baseline[model], version) for model, version in canary.serve.items()]
        rows += [("(all)", "as deployed", "the new release")] if canary.release else []
        say()
        say_table(("MODEL", "BASELINE", "CANARY"), rows)
    if report.observation:
        say_observation(report.observation)
        say_section("Checks")
        for check in report.checks:
            say(check_text(check))
    if report.warnings:
        say_section("Out of step")
        for warning in report.warnings:
            say(textwrap.fill(f"- {warning}", WIDTH, subsequent_indent="  ", break_long_words=False))
    elif not is_asked:
        say("\nThe live stage was not checked. Name it with --url or --stack.")


def headline_of(report: CanaryReport) -> str:
    """Return stage, share, last change and verdict."""
    canary, since = report.stage.canary, report.since
    share = f": the canary has {canary.percent:g}% of the traffic" if canary else " has no canary"
    lines = [f"{report.stage.name}{share}."]
    if since:
        lines.append(f"Last: {since.action} by {since.who}, {since.time.replace('T', ' ').removesuffix('Z')} UTC.")
    if report.verdict:
        lines.append(f"Verdict: {report.verdict}.")
    return "\n".join(lines)


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

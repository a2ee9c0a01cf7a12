"""`turnout replay`: sends captured requests again to one or two versions and compares the answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from http import HTTPStatus
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turnout.cli.commands.answer import print_error_answer
from turnout.cli.commands.invoke import (
    DEFAULT_URL,
    ApiKeyOption,
    StageOption,
    UrlOption,
    is_listed,
    local_key,
    local_token,
)
from turnout.cli.options import DEFAULT_MANIFEST, JsonOption, ManifestOption, read_manifest
from turnout.cli.output import CommandError, counted, notify, progress, say, say_json, say_table
from turnout.wording import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from turnout.client.captured_lines import Sample
    from turnout.manifest.judgement import OutputRule
    from turnout.replay.origin import ReplayOrigin
    from turnout.replay.replay import Replay
    from turnout.replay.summary import Side, Summary

FileArgument = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="File written by `turnout serve --capture`, or an export of CloudWatch Logs."),
]
AgainstOption = Annotated[
    list[str],
    typer.Option(
        metavar="MODEL/VERSION",
        help="The version to test. Compared with a second --against, or else with the version that answered "
        "when the request was captured.",
    ),
]
FailUnderOption = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE", min=0, max=1, help="Exit with 1 if a smaller share agrees (0-1).", show_default=False
    ),
]
ReportOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write an HTML report with plots to this file.", show_default=False)
]
ConcurrencyOption = Annotated[int, typer.Option(metavar="N", min=1, max=64, help="Number of concurrent requests.")]

SIDE_HEADERS = ("VERSION", "REQUESTS", "ERRORS", "P50 MS", "P95 MS", "P99 MS")
OUTPUT_HEADERS = ("OUTPUT", "RULE", "AGREE", "MAX ABS", "MAX REL", "LEAST COSINE")

SHOWN_DISAGREEMENTS = 5
"""Most disagreeing requests that are printed; the report contains more."""


def replay(
    file: FileArgument,
    *,
    against: AgainstOption,
    url: UrlOption = DEFAULT_URL,
    stage: StageOption = "",
    api_key: ApiKeyOption = "",
    manifest: ManifestOption = DEFAULT_MANIFEST,
    fail_under: FailUnderOption = None,
    report: ReportOption = None,
    as_json: JsonOption = False,
    concurrency: ConcurrencyOption = 4,
) -> None:
    """Replay captured requests and compare versions.

    Sends each captured request to both versions. Compares outputs by the rules of the stage's canary in the manifest,
    or else by their datatypes. --fail-under exits with 1 if too few requests agree: a gate before a canary starts.
    """
    from turnout.replay.origin import ReplayOrigin, fetch_stage, public_url
    from turnout.replay.replay import Replay, replay_headers
    from turnout.replay.summary import floor_text

    model, canary, baseline = parse_against(against)
    key = api_key or local_key(manifest, url, stage)
    rules = rules_of(manifest, stage)
    try:
        headers = replay_headers(url, key, local_token(manifest, url))
        sender = Replay(
            url,
            model,
            canary,
            baseline,
            stage=stage,
            headers=headers,
            rules=rules,
            concurrency=concurrency,
        )
    except ValueError as error:
        raise CommandError(f"{error}.") from error
    digest = sha256()
    with closing(sender):
        known = partial(is_listed, manifest, model)
        summary = send(sender, file, model, canary, baseline, digest=digest.update, is_known=known)
    origin = ReplayOrigin(
        datetime.now(UTC), public_url(url), stage or fetch_stage(url, headers), file.name, digest.hexdigest()
    )
    if report is not None:
        write_report(report, summary, origin, fail_under)
    if as_json:
        say_json({**origin.to_json(), **summary.to_json()})
    else:
        say_summary(summary, model)
    if fail_under is not None and (summary.agreement is None or summary.agreement < fail_under):
        required = f"at least {floor_text(fail_under)} must"
        raise CommandError(f"{summary.agreed:,} of {summary.compared:,} agree, {required}.", code=1)


def parse_against(against: list[str]) -> tuple[str, str, str]:
    """Return the model, the version to check, and the one to compare it with, empty if none is named."""
    if len(against) > 2:
        raise CommandError(f"--against was passed {len(against)} times: pass one version, or two.")
    pairs = [name.split("/") for name in against]
    for name, pair in zip(against, pairs, strict=True):
        if len(pair) != 2 or not all(pair):
            raise CommandError(f"--against {name}: expected MODEL/VERSION, such as iris/v2.")
    (model, canary), baseline = pairs[0], ["", ""] if len(pairs) == 1 else pairs[1]
    if len(pairs) == 2 and baseline[0] != model:
        raise CommandError(f"--against {against[0]} and {against[1]}: only versions of the same model can be compared.")
    if baseline[1] == canary:
        raise CommandError(f"--against {against[0]} was passed twice: name two different versions.")
    return model, canary, baseline[1]


def rules_of(manifest: Path, stage: str) -> Mapping[str, OutputRule]:
    """Return the rules of a stage's canary; those of `defaults.canary` without a stage, none without a manifest."""
    if manifest == DEFAULT_MANIFEST and not manifest.exists():
        return {}
    read = read_manifest(manifest)
    stages = [candidate for candidate in read.stages if candidate.name == stage]
    judgement = stages[0].canary.judgement if stages and stages[0].canary else read.judgement
    return judgement.agreement.rules if judgement.agreement else {}


def send(
    sender: Replay,
    file: Path,
    model: str,
    canary: str,
    baseline: str,
    *,
    digest: Callable[[bytes], None],
    is_known: Callable[[str], bool],
) -> Summary:
    """Send all requests, with a progress bar; errors become command errors with a remedy.

    Args:
        sender: sends the requests.
        file: the capture.
        model: the model whose requests are sent.
        canary: the version to check.
        baseline: the other version; empty for the one that answered when a request was captured.
        digest: gets the capture's bytes, line by line.
        is_known: whether models.yaml contains a version of the model.
    """
    from turnout.client.captured_lines import CaptureError, lines_in
    from turnout.replay.summary import Side, Summary

    summary = Summary(Side(f"{model}/{baseline}" if baseline else "captured version"), Side(f"{model}/{canary}"))
    try:
        size_bytes = file.stat().st_size
        with file.open("rb") as stream, progress(f"replaying {file.name}", size_bytes) as advance:
            samples = samples_in(digested(lines_in(stream, size_bytes), digest), advance)
            first = find_first(samples, file, model)
            for version in (baseline or first[1].version, canary):
                check_version(sender, model, version, first[1], is_known=is_known)
            for pair in sender.run(chain([first], samples)):
                summary.add(pair)
    except CaptureError as error:
        raise CommandError(f"{file}, {error}.") from error
    except OSError as error:
        raise CommandError(f"cannot read {file}: {error.strerror}.") from error
    return summary


def digested(lines: Iterable[bytes], digest: Callable[[bytes], None]) -> Iterator[bytes]:
    """Yield the lines, updating the digest with each."""
    for line in lines:
        digest(line)
        yield line


def samples_in(lines: Iterable[bytes], advance: Callable[[int], None]) -> Iterator[tuple[int, Sample]]:
    """Yield every sample with the number of its line; the bar moves as lines are read."""
    from turnout.client.captured_lines import read_lines

    for line in read_lines(lines):
        advance(line.size_bytes)
        yield from ((line.number, sample) for sample in line.samples)


def find_first(samples: Iterator[tuple[int, Sample]], file: Path, model: str) -> tuple[int, Sample]:
    """Return the first sample of the model."""
    others: dict[str, None] = {}
    for number, sample in samples:
        if sample.model == model:
            return number, sample
        others[sample.model] = None
    hint = f"It contains requests to {', '.join(others)}." if others else "`turnout serve --capture FILE` writes one."
    raise CommandError(f"{file} contains no captured requests to {model}.", hint)


def check_version(sender: Replay, model: str, version: str, sample: Sample, *, is_known: Callable[[str], bool]) -> None:
    """Call a version once without counting the call: it loads the model and reports a permanent failure only once."""
    from turnout.client.connection import UnreachableError

    try:
        answer = sender.ask(version, sample)
    except UnreachableError as error:
        hint = "Start a server with `turnout serve`, or pass its address with --url."
        raise CommandError(str(error), hint, code=1) from error
    if answer.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}:
        print_error_answer(answer, is_listed=is_known(version))
        raise CommandError(f"{model}/{version} cannot be called.", code=1)


def write_report(report: Path, summary: Summary, origin: ReplayOrigin, floor: float | None) -> None:
    """Write the page and print its path."""
    from turnout.replay.report import render_report
    from turnout.system.files import PRIVATE, write_whole

    try:
        write_whole(report, render_report(summary, origin, floor=floor).encode(), PRIVATE)
    except OSError as error:
        raise CommandError(f"cannot write {report}: {error.strerror}.") from error
    notify(f"Wrote {report}.")


def say_summary(summary: Summary, model: str) -> None:
    """Print both versions side by side, then agreement by output, then the result in one sentence."""
    from turnout.replay.summary import error_text, share_text

    rows = [side_row(side) for side in (summary.baseline, summary.canary)]
    say_table(SIDE_HEADERS, rows, right=SIDE_HEADERS[1:])
    if summary.outputs:
        say()
        outputs = [
            (
                output.name,
                output.measure,
                share_text(output.agreed, output.compared),
                error_text(output.max_absolute),
                error_text(output.max_relative),
                f"{output.cosine:.4f}",
            )
            for output in summary.outputs.values()
        ]
        say_table(OUTPUT_HEADERS, outputs, right=OUTPUT_HEADERS[2:])
    say()
    if summary.agreement is None:
        say(f"No request to {model} could be compared.")
    else:
        share = share_text(summary.agreed, summary.compared)
        say(f"{share} agree: {summary.agreed:,} of {counted(summary.compared, 'request')}.")
    if summary.undecided:
        say(f"Not counted: {counted(summary.undecided, 'request')} that neither version answered in time.")
    for disagreement in summary.disagreements[:SHOWN_DISAGREEMENTS]:
        baseline, canary = printable(disagreement.baseline), printable(disagreement.canary)
        say(f"  line {disagreement.number}, {disagreement.output}: {baseline} | {canary}")


def side_row(side: Side) -> tuple[str, ...]:
    """Return a version's row."""
    quantiles = (side.quantile_ms(share) for share in (0.5, 0.95, 0.99))
    times = ("-" if seconds is None else f"{seconds:.2f}" for seconds in quantiles)
    return side.name, f"{side.statuses.total():,}", f"{side.errors:,}", *times

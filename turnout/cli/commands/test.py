"""`turnout test`: runs every version's examples and compares the answers with the expected ones."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turnout.cli.commands.invoke import ApiKeyOption, StageOption, local_key, local_token
from turnout.cli.commands.serve import preparing
from turnout.cli.options import DEFAULT_MANIFEST, JsonOption, ManifestOption, load
from turnout.cli.output import CommandError, counted, say, say_json, say_table
from turnout.wording import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from turnout.gateway.editions.example_calls import CallVersion
    from turnout.manifest.parser import Version
    from turnout.project.project import Project
    from turnout.replay.example_runs import Ask, ExampleReply, ExampleRun

TargetArgument = Annotated[
    str, typer.Argument(metavar="MODEL[/VERSION]", help="What to test. Default: everything.", show_default=False)
]
IsolatedOption = Annotated[
    bool, typer.Option("--isolated", help="Run each version in its own process from its own zip, as Lambda does.")
]
UrlOption = Annotated[
    str,
    typer.Option(
        "--url",
        "--endpoint-url",
        metavar="URL",
        help="Send the examples to a running server instead.",
        show_default=False,
    ),
]
JunitOption = Annotated[
    Path | None, typer.Option("--junit", metavar="FILE", help="Write the results as JUnit XML.", show_default=False)
]

SHOWN_REASONS = 3
"""Most reasons shown for one example; --json and --junit contain all."""


def run(
    target: TargetArgument = "",
    *,
    isolated: IsolatedOption = False,
    url: UrlOption = "",
    stage: StageOption = "",
    api_key: ApiKeyOption = "",
    junit: JunitOption = None,
    manifest: ManifestOption = DEFAULT_MANIFEST,
    as_json: JsonOption = False,
) -> None:
    """Run the examples of every version.

    Sends each example to its version and compares the response with the expected outputs. Models run in this process,
    unless --isolated or --url is passed.

    Exit codes: 0 all examples passed; 1 an example failed, or no response; 2 bad input, or nothing to test.
    """
    from turnout.replay.example_runs import RunOutcome, run_examples

    if isolated and url:
        raise CommandError(
            "--isolated and --url cannot be combined: --isolated runs the models on this machine, --url calls a server."
        )
    if stage and not url:
        raise CommandError("--stage needs --url: models that run on this machine belong to no stage.")
    project = load(manifest)
    versions = find_versions(project, target)
    with asking(project, isolated=isolated, url=url, stage=stage, api_key=api_key, manifest=manifest) as ask:
        runs = list(run_examples(project, versions, ask, needs_artifact=not url))
    if all(run.outcome is RunOutcome.SKIPPED for run in runs):
        hint = "`examples` of a version in models.yaml names its file; `turnout add --examples` copies one."
        raise CommandError(f"{target or 'models.yaml'} has nothing to test: {reasons_text(runs)}.", hint)
    counts = Counter(run.outcome for run in runs)
    if as_json:
        say_json(
            {
                "counts": {str(outcome): counts[outcome] for outcome in RunOutcome},
                "examples": [run.to_json() for run in runs],
            }
        )
    else:
        say_runs(runs)
    if junit is not None:
        write_junit(junit, runs)
    if counts[RunOutcome.FAILED] or counts[RunOutcome.ERROR]:
        raise typer.Exit(1)


def find_versions(project: Project, target: str) -> Sequence[Version]:
    """Return the versions that the argument names."""
    from turnout.replay.example_runs import choose_versions
    from turnout.replay.sample_request import UnknownNameError

    try:
        return choose_versions(project.manifest, target)
    except UnknownNameError as error:
        raise CommandError(str(error), error.hint) from error
    except ValueError as error:
        raise CommandError(f"{error}.") from error


@contextmanager
def asking(project: Project, *, isolated: bool, url: str, stage: str, api_key: str, manifest: Path) -> Iterator[Ask]:
    """Open what answers the examples."""
    if url:
        key, token = api_key or local_key(manifest, url, stage), local_token(manifest, url)
        with asking_server(url, stage, key, token) as ask:
            yield ask
        return
    from turnout.gateway.editions.example_calls import calling_in_process, calling_isolated
    from turnout.packaging.layer import LayerError
    from turnout.plan.planner import make_plan

    plan = make_plan(project.manifest, project.artifacts, enforce=False)
    with ExitStack() as stack:
        if not isolated:
            yield asking_functions(stack.enter_context(calling_in_process(project, plan)))
            return
        try:
            progress = stack.enter_context(preparing(len(plan.functions)))
            call = stack.enter_context(calling_isolated(project, plan, progress))
        except LayerError as error:
            message = f"cannot prepare the environment of isolated functions: {error}"
            raise CommandError(message, "It is downloaded once with uv and cached in .turnout.", code=1) from None
        yield asking_functions(call)


def asking_functions(call: CallVersion) -> Ask:
    """Call functions on this machine, without a server."""
    return lambda version, body: reply_of(call, version, body, {"content-type": "application/json"})


def reply_of(call: CallVersion, version: Version, body: bytes, headers: Mapping[str, str]) -> ExampleReply:
    """Call a version's function on this machine. Header names are in lower case."""
    from turnout.protocol.aws.events import read_event
    from turnout.replay.example_runs import ExampleReply

    started = time.perf_counter()
    invocation = call(version, body, headers)
    elapsed_ms = (time.perf_counter() - started) * 1000
    if invocation.error is not None or invocation.answer is None:
        problem = f"{invocation.error or 'failed'}: {invocation.message}".rstrip(": ")
        return ExampleReply(0, {}, b"", elapsed_ms, problem)
    named, content = read_event(invocation.answer)
    return ExampleReply(int(invocation.answer.get("statusCode", 200)), named, content, elapsed_ms)


@contextmanager
def asking_server(url: str, stage: str, key: str, token: str) -> Iterator[Ask]:
    """Send requests to a server; if the first one finds no server, the command ends."""
    from turnout.client.connection import INFERENCE_TIMEOUT_S, ApiConnection, UnreachableError, inference_path
    from turnout.replay.example_runs import ExampleReply
    from turnout.replay.replay import THROTTLED_WAITS_S, replay_headers

    try:
        connection = ApiConnection(url, timeout_s=INFERENCE_TIMEOUT_S)
    except ValueError as error:
        raise CommandError(f"--url: {error}.") from error
    with closing(connection):
        # examples are not callers' requests, so they do not count in a canary's judgement
        headers = replay_headers(url, key, token)

        def ask(version: Version, body: bytes) -> ExampleReply:
            path = inference_path(version.model, version.name, stage)
            try:
                answer = connection.request("POST", path, body, headers)
                for wait_s in THROTTLED_WAITS_S:
                    if answer.status != HTTPStatus.TOO_MANY_REQUESTS:
                        break
                    time.sleep(wait_s)
                    answer = connection.request("POST", path, body, headers)
            except UnreachableError as error:
                hint = "Start a server with `turnout serve`, or correct --url."
                raise CommandError(str(error), hint, code=1) from error
            return ExampleReply(answer.status, answer.headers, answer.body, answer.elapsed_ms)

        yield ask


def say_runs(runs: Sequence[ExampleRun]) -> None:
    """Print a table with a line for each example, the reasons of failures, and the counts."""
    from turnout.replay.example_runs import RunOutcome

    headers = ("MODEL", "VERSION", "EXAMPLE", "RESULT", "MS")
    rows = [
        (
            run.model,
            run.version,
            run.example or "-",
            str(run.outcome),
            "-" if run.outcome is RunOutcome.SKIPPED else f"{run.elapsed_ms:.1f}",
        )
        for run in runs
    ]
    say_table(headers, rows, right=("MS",))
    for run in runs:
        if run.outcome in {RunOutcome.FAILED, RunOutcome.ERROR}:
            say()
            say(printable(f"{run.model}/{run.version} {run.example}: {run.outcome}"))
            for reason in run.reasons[:SHOWN_REASONS]:
                say(printable(f"  {reason}"))
            if len(run.reasons) > SHOWN_REASONS:
                say(f"  and {len(run.reasons) - SHOWN_REASONS} more")
    counts = Counter(run.outcome for run in runs)
    asked = len(runs) - counts[RunOutcome.SKIPPED]
    skipped = f", {counted(counts[RunOutcome.SKIPPED], 'version')} skipped: {reasons_text(runs)}"
    passed = f"{counts[RunOutcome.PASSED]:,} of {counted(asked, 'example')} passed"
    say(f"\n{passed}{skipped if counts[RunOutcome.SKIPPED] else ''}.")


def reasons_text(runs: Sequence[ExampleRun]) -> str:
    """Return the reasons for skipping versions, each once."""
    from turnout.replay.example_runs import RunOutcome

    reasons = dict.fromkeys(reason for run in runs if run.outcome is RunOutcome.SKIPPED for reason in run.reasons)
    return ", ".join(reasons) or "no versions"


def write_junit(path: Path, runs: Sequence[ExampleRun]) -> None:
    """Write the results for a CI system."""
    from turnout.replay.example_runs import make_junit

    try:
        path.write_bytes(make_junit(runs))
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}.") from error

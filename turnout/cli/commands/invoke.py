"""`turnout invoke`: sends a real HTTP request to a running server and prints the answer as a table."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turnout.cli.commands.answer import print_error_answer, say_answer
from turnout.cli.options import DEFAULT_MANIFEST, JsonOption, ManifestOption, load, read_manifest
from turnout.cli.output import CommandError, notify, say, say_body
from turnout.problems import ProblemsError
from turnout.protocol.naming import VERSION_HEADER
from turnout.wording import printable

if TYPE_CHECKING:
    from turnout.client.connection import ApiAnswer
    from turnout.replay.sample_request import SampleRequest

DEFAULT_URL = "http://127.0.0.1:8080"

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="The model's name.")]
VersionArgument = Annotated[
    str, typer.Argument(metavar="VERSION", help="The version. Default: the one that the stage serves.")
]
DataOption = Annotated[
    str, typer.Option("--data", "-d", metavar="JSON|@FILE|-", help="The request body. - reads standard input.")
]
UrlOption = Annotated[
    str,
    typer.Option(
        "--url", "--endpoint-url", metavar="URL", envvar="TURNOUT_URL", help="Address of the server.", show_envvar=True
    ),
]
StageOption = Annotated[
    str, typer.Option(metavar="NAME", help="The stage to call. Default: the server's default stage.")
]
ExampleOption = Annotated[str, typer.Option(metavar="NAME", help="Name of the example to send.")]
ApiKeyOption = Annotated[
    str,
    typer.Option(
        metavar="KEY",
        envvar="TURNOUT_API_KEY",
        help="The API key. For a local server, the key that `turnout serve` wrote is used.",
        show_default=False,
    ),
]

AsyncOption = Annotated[
    bool,
    typer.Option("--async", help="Send an asynchronous request and wait for its answer. Ctrl-C leaves it running."),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="With --async, write the response to FILE. An interrupted download is resumed.",
        show_default=False,
    ),
]


def invoke(
    model: ModelArgument,
    version: VersionArgument = "",
    *,
    data: DataOption = "",
    url: UrlOption = DEFAULT_URL,
    stage: StageOption = "",
    api_key: ApiKeyOption = "",
    manifest: ManifestOption = DEFAULT_MANIFEST,
    example: ExampleOption = "",
    is_async: AsyncOption = False,
    output: OutputOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send one request to a running server.

    Prints the response as a table. Without --data, it sends the version's first example and compares the response with
    the expected outputs. For a version without examples, it generates a request from the signature.
    """
    if data and example:
        raise CommandError("--data and --example cannot be combined: both define the request.")
    if output and not is_async:
        raise CommandError("--output needs --async.", "Redirect standard output: turnout invoke ... --json > FILE.")
    sample = None if data else sample_request(manifest, model, version, stage, example)
    body = read_data(data) if sample is None else json.dumps(sample.request).encode()
    key = api_key or local_key(manifest, url, stage or (sample.stage if sample else ""))
    if is_async:
        from turnout.cli.commands.invoke_async import send_async

        later = send_async(url, model, version, stage, body, key, output)
        if later is None:
            return  # the answer was written to the file
        answer = later
    else:
        answer = send(url, model, version, stage, body, key)
    if as_json:
        say_body(answer.body)
    if answer.status >= 400:
        print_error_answer(answer, is_listed=sample is not None or is_listed(manifest, model, version))
        raise typer.Exit(1)
    if not as_json:
        say_answer(answer)
    if sample:
        compare(sample, answer, quiet=as_json)


def read_data(data: str) -> bytes:
    """Return the body that `--data` names: a text, `@file`, or `-` for standard input. It is sent unchanged."""
    if data == "-":
        return sys.stdin.buffer.read()
    if not data.startswith("@"):
        return data.encode()
    try:
        return Path(data[1:]).read_bytes()
    except OSError as error:
        raise CommandError(f"cannot read {data[1:]}: {error.strerror}.") from error


def sample_request(manifest: Path, model: str, version: str, stage: str, example: str) -> SampleRequest:
    """Return the request that is sent by default."""
    from turnout.replay.sample_request import UnknownNameError, make_sample_request

    project = load(manifest)
    try:
        return make_sample_request(project, model, version, stage, example)
    except UnknownNameError as error:
        raise CommandError(str(error), error.hint) from error
    except ValueError as error:
        raise CommandError(f"{error}.") from error


def is_listed(manifest: Path, model: str, version: str) -> bool:
    """Whether models.yaml contains the model and the version; False if it cannot be read."""
    try:
        read = read_manifest(manifest)
    except (OSError, ProblemsError):
        return False
    return any(
        entry.name == model and (not version or version in [each.name for each in entry.versions])
        for entry in read.models
    )


def local_key(manifest: Path, url: str, stage: str) -> str:
    """Return the key that `turnout serve` wrote next to the manifest."""
    from turnout.client.connection import read_local_key
    from turnout.project.manifest_file import manifest_path

    return read_local_key(url, manifest_path(manifest).parent, stage)


def local_token(manifest: Path, url: str) -> str:
    """Return the token of the services of a server that `turnout serve` runs for the manifest."""
    from turnout.project.manifest_file import manifest_path
    from turnout.system.service_tokens import find_token

    return find_token(manifest_path(manifest).parent, url)


def send(url: str, model: str, version: str, stage: str, body: bytes, key: str) -> ApiAnswer:
    """Post the request and return the answer with any status."""
    from turnout.client.client import Client

    with reported_unreachable(), Client(url, stage=stage, api_key=key) as client:
        return client.infer_body(model, body, version=version)


@contextmanager
def reported_unreachable() -> Iterator[None]:
    """Turn invalid addresses and unreachable servers into errors with the remedy."""
    from turnout.client.connection import UnreachableError

    try:
        yield
    except ValueError as error:
        raise CommandError(f"{error}.") from error
    except UnreachableError as error:
        hint = "Start one with `turnout serve`, or pass its address with --url."
        raise CommandError(str(error), hint, code=1) from error


def compare(sample: SampleRequest, answer: ApiAnswer, *, quiet: bool) -> None:
    """Print whether the answer matches the example; a mismatch is a failure."""
    from turnout.artifacts.examples import matches

    name = f"{sample.model} {sample.version}"
    if sample.example is None:
        if not quiet:
            say(f"\nThe request was generated from the signature of {name}: its values are arbitrary.")
        return
    answered_by = answer.headers.get(VERSION_HEADER, sample.version)
    if answered_by != sample.version:
        notify(f"Not compared: the request is an example of {name}, but {answered_by} answered.")
        return
    differences = matches(sample.example, json.loads(answer.body))
    if differences:
        lines = "\n    ".join(printable(difference) for difference in differences)
        raise CommandError(
            f"the response differs from what example {sample.example.name!r} of {name} expects:", lines, code=1
        )
    if not quiet:
        say(f"\nThe response matches example {sample.example.name!r} of {name}.")

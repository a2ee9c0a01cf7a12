"""`turnout requests`: list, show, cancel and redrive the asynchronous requests that `turnout serve` stores.

The commands open the queue itself, so they work whether or not a server runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from turnout.cli.group import Group
from turnout.cli.options import DEFAULT_MANIFEST, JsonOption, ManifestOption
from turnout.cli.output import CommandError, counted, say, say_json, say_table
from turnout.protocol.requests.states import RequestState, StepError

if TYPE_CHECKING:
    import sqlite3

    from turnout.gateway.requests.rows import Stored

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The request's identifier, or its Location.")]
StageOption = Annotated[str, typer.Option(metavar="NAME", help="Only requests of this stage.", show_default=False)]
StateOption = Annotated[
    list[RequestState] | None, typer.Option("--state", help="Only requests in this state. Repeatable.")
]
MostOption = Annotated[int, typer.Option("--most", metavar="N", min=1, help="At most N requests, newest first.")]
AllFailedOption = Annotated[bool, typer.Option("--all-failed", help="Requeue all failed requests.")]
OptionalIdArgument = Annotated[
    str, typer.Argument(metavar="ID", help="The request's identifier, or its Location.", show_default=False)
]

requests = typer.Typer(
    name="requests",
    cls=Group,
    help="List, cancel and redrive asynchronous requests.",
    rich_markup_mode=None,
    no_args_is_help=False,
)


@requests.command("list")
def list_requests(
    *,
    state: StateOption = None,
    stage: StageOption = "",
    most: MostOption = 100,
    manifest: ManifestOption = DEFAULT_MANIFEST,
    as_json: JsonOption = False,
) -> None:
    """List asynchronous requests, newest first.

    `--state failed` lists the failed ones, with their reasons.
    """
    from turnout.gateway.requests import store

    with opened_queue(manifest) as connection:
        stages = (stage,) if stage else ()
        stored = store.list_requests(connection, stages=stages, wanted=[str(name) for name in state or ()], most=most)
    if as_json:
        say_json([describe(request) for request in stored])
        return
    if not stored:
        say("No requests found.")
        return
    cells = [
        (
            request.description.id,
            str(request.progress.state),
            request.description.stage,
            f"{request.description.model} {request.description.version}".strip(),
            str(request.progress.attempts),
            describe(request)["accepted"],
            str(request.description.failure.get("code", "")),
        )
        for request in stored
    ]
    say_table(("ID", "STATE", "STAGE", "VERSION", "ATTEMPTS", "ACCEPTED", "REASON"), cells)


@requests.command()
def show(identifier: IdArgument, *, stage: StageOption = "", manifest: ManifestOption = DEFAULT_MANIFEST) -> None:
    """Print one request as JSON, with the reason of its last failure."""
    with opened_queue(manifest) as connection:
        say_json(describe(find(connection, identifier, stage)))


@requests.command()
def cancel(identifier: IdArgument, *, stage: StageOption = "", manifest: ManifestOption = DEFAULT_MANIFEST) -> None:
    """Cancel a request that has not started."""
    from turnout.gateway.requests import store

    with opened_queue(manifest) as connection:
        request = find(connection, identifier, stage)
        change(connection, store.cancel, request)
        say(f"Canceled request {request.description.id}.")


@requests.command()
def redrive(
    identifier: OptionalIdArgument = "",
    *,
    all_failed: AllFailedOption = False,
    stage: StageOption = "",
    manifest: ManifestOption = DEFAULT_MANIFEST,
) -> None:
    """Requeue a request that failed, expired or was canceled.

    Its attempts and its time to live are reset. It calls the version that it was accepted for.
    """
    from turnout.gateway.requests import store

    if bool(identifier) == all_failed:
        raise CommandError("expected either a request's identifier or --all-failed.")
    with opened_queue(manifest) as connection:
        if not all_failed:
            request = find(connection, identifier, stage)
            change(connection, store.redrive, request)
            say(f"Queued request {request.description.id}.")
            return
        stages = (stage,) if stage else ()
        failed = store.list_requests(connection, stages=stages, wanted=("failed",), most=1_000_000)
        for request in failed:
            change(connection, store.redrive, request)
        say(f"Queued {counted(len(failed), 'request')}.")


@requests.command()
def secret(*, manifest: ManifestOption = DEFAULT_MANIFEST) -> None:
    """Print the secret that signs webhooks.

    Receivers need it to check the header x-turnout-signature.
    """
    from turnout.gateway.requests.signing import load_secret
    from turnout.protocol.requests.webhooks import webhook_secret

    say(webhook_secret(load_secret(queue_folder(manifest))))


def queue_folder(manifest: Path) -> Path:
    """Return the folder of a project's queue."""
    from turnout.gateway.requests.queue import FOLDER
    from turnout.project.manifest_file import manifest_path

    path = manifest_path(manifest)
    if not path.is_file():
        raise CommandError(f"{path}: no such file.", "Run it in the project's folder, or pass --manifest.")
    return path.parent / ".turnout" / FOLDER


@contextmanager
def opened_queue(manifest: Path) -> Iterator[sqlite3.Connection]:
    """Open the queue's database. Fails if there is none, so that listing does not create one."""
    from turnout.gateway.requests.database import FILE_NAME, DatabaseError, connect

    folder = queue_folder(manifest)
    if not (folder / FILE_NAME).exists():
        raise CommandError("this project has no asynchronous requests.", "docs/async.md describes how to send one.")
    try:
        connection = connect(folder)
    except DatabaseError as error:
        raise CommandError(f"{error}.", code=1) from error
    with closing(connection):
        yield connection


def find(connection: sqlite3.Connection, identifier: str, stage: str) -> Stored:
    """Return the request with an identifier or a location."""
    from turnout.gateway.requests import store

    before, slash, name = identifier.rstrip("/").rpartition("/requests/")
    stage = stage or (before.rpartition("/")[2] if slash else "")
    if not slash:
        name = identifier
    stages = (stage,) if stage else store.stages_of(connection, name)
    candidates = [stored for each in stages if (stored := store.find(connection, each, name)) is not None]
    if not candidates:
        raise CommandError(f"there is no request {name}.", "`turnout requests list` shows all of them.")
    if len(candidates) > 1:
        names = ", ".join(candidate.description.stage for candidate in candidates)
        raise CommandError(f"several stages have a request {name}: {names}.", "Pass --stage.")
    return candidates[0]


def change(
    connection: sqlite3.Connection, step: Callable[[sqlite3.Connection, str, str, float], object], request: Stored
) -> None:
    """Apply a step to a request. Fails if the request's state does not allow it."""
    import time

    from turnout.gateway.requests.database import transaction

    try:
        with transaction(connection):
            step(connection, request.description.stage, request.description.id, time.time())
    except StepError as error:
        raise CommandError(f"request {request.description.id}: {error}.") from error


def describe(request: Stored) -> dict[str, Any]:
    """Return a request as the API describes it."""
    from turnout.protocol.requests.description import describe as describe_request

    return describe_request(request.progress, request.description)

"""`turnout requests`: list, show, cancel and redrive the asynchronous requests of `turnout serve`, or of a stack.

The commands open the queue itself, so they work whether or not a server runs.
"""

from __future__ import annotations

from typing import Annotated

import typer

from turnout.cli.group import Group
from turnout.cli.options import DEFAULT_MANIFEST, JsonOption, ManifestOption
from turnout.cli.output import CommandError, counted, say, say_json, say_table
from turnout.cli.requests.queues import Described, OpenQueue, open_stack, opened_queue, queue_folder, reporting_aws
from turnout.protocol.requests.states import RequestState, StepError

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
StackOption = Annotated[
    str,
    typer.Option(
        "--stack",
        metavar="NAME",
        help="The Pulumi stack, for its requests on AWS.",
        show_default=False,
    ),
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
    stack: StackOption = "",
    manifest: ManifestOption = DEFAULT_MANIFEST,
    as_json: JsonOption = False,
) -> None:
    """List asynchronous requests, newest first.

    `--state failed` lists the failed ones, with their reasons.
    """
    with opened_queue(manifest, stack) as queue:
        stored = queue.list_requests([stage] if stage else [], [str(name) for name in state or ()], most)
    if as_json:
        say_json(stored)
        return
    if not stored:
        say("No requests found.")
        return
    cells = [
        (
            request["id"],
            request["state"],
            request["stage"],
            f"{request['model']} {request['version']}".strip(),
            str(request["attempts"]),
            request["accepted"],
            str(request.get("error", {}).get("code", "")),
        )
        for request in stored
    ]
    say_table(("ID", "STATE", "STAGE", "VERSION", "ATTEMPTS", "ACCEPTED", "REASON"), cells)


@requests.command()
def show(
    identifier: IdArgument,
    *,
    stage: StageOption = "",
    stack: StackOption = "",
    manifest: ManifestOption = DEFAULT_MANIFEST,
) -> None:
    """Print one request as JSON, with the reason of its last failure."""
    with opened_queue(manifest, stack) as queue:
        say_json(find(queue, identifier, stage))


@requests.command()
def cancel(
    identifier: IdArgument,
    *,
    stage: StageOption = "",
    stack: StackOption = "",
    manifest: ManifestOption = DEFAULT_MANIFEST,
) -> None:
    """Cancel a request that has not started."""
    with opened_queue(manifest, stack) as queue:
        request = find(queue, identifier, stage)
        try:
            queue.cancel(request["stage"], request["id"])
        except StepError as error:
            raise CommandError(f"request {request['id']}: {error}.") from error
        say(f"Canceled request {request['id']}.")


@requests.command()
def redrive(
    identifier: OptionalIdArgument = "",
    *,
    all_failed: AllFailedOption = False,
    stage: StageOption = "",
    stack: StackOption = "",
    manifest: ManifestOption = DEFAULT_MANIFEST,
) -> None:
    """Requeue a request that failed, expired or was canceled.

    Its attempts and its time to live are reset. It calls the version that it was accepted for.
    """
    if bool(identifier) == all_failed:
        raise CommandError("expected either a request's identifier or --all-failed.")
    with opened_queue(manifest, stack) as queue:
        if not all_failed:
            request = find(queue, identifier, stage)
            requeue(queue, request)
            say(f"Queued request {request['id']}.")
            return
        revived = queue.revive()
        failed = queue.list_requests([stage] if stage else [], ["failed"], 1_000_000)
        for request in failed:
            requeue(queue, request)
        say(f"Queued {counted(len(failed) + revived, 'request')}.")


@requests.command()
def secret(*, stack: StackOption = "", manifest: ManifestOption = DEFAULT_MANIFEST) -> None:
    """Print the secret that signs webhooks.

    Receivers need it to check the header x-turnout-signature.
    """
    from turnout.protocol.requests.webhooks import webhook_secret

    if stack:
        with reporting_aws(stack):
            say(webhook_secret(open_stack(manifest, stack).load_secret()))
        return
    from turnout.gateway.requests.signing import load_secret

    say(webhook_secret(load_secret(queue_folder(manifest))))


def find(queue: OpenQueue, identifier: str, stage: str) -> Described:
    """Return the request with an identifier or a location."""
    before, slash, name = identifier.rstrip("/").rpartition("/requests/")
    stage = stage or (before.rpartition("/")[2] if slash else "")
    if not slash:
        name = identifier
    candidates = queue.find(name, stage)
    if not candidates:
        raise CommandError(f"there is no request {name}.", "`turnout requests list` shows all of them.")
    if len(candidates) > 1:
        names = ", ".join(candidate["stage"] for candidate in candidates)
        raise CommandError(f"several stages have a request {name}: {names}.", "Pass --stage.")
    return candidates[0]


def requeue(queue: OpenQueue, request: Described) -> None:
    """Queue a request again. Fails if the request's state does not allow it."""
    try:
        if queue.redrive(request["stage"], request["id"]) is None:
            raise CommandError(f"request {request['id']}: its body has been deleted.")
    except StepError as error:
        raise CommandError(f"request {request['id']}: {error}.") from error

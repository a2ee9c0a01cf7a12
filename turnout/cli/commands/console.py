"""`turnout console`: the console's page for a stack on AWS, or for a running server on this machine."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Annotated

import typer

from turnout.cli.canary.target import WHERE, EndpointOption, StackOption, find_target, reported_errors
from turnout.cli.options import DEFAULT_MANIFEST, ManifestOption, load
from turnout.cli.output import CommandError, notify

PortOption = Annotated[
    int, typer.Option(metavar="PORT", min=0, max=65535, help="The port to listen on; 0 takes a free one.")
]
CaptureOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="The file that the server's `--capture` writes, to show its requests.",
        show_default=False,
    ),
]
KeyOption = Annotated[
    str,
    typer.Option(
        "--api-key",
        metavar="KEY",
        envvar="TURNOUT_API_KEY",
        help="The API key with which captured requests are sent again to stages with `auth: api_key`.",
        show_default=False,
    ),
]
TokenOption = Annotated[
    str,
    typer.Option(
        metavar="TOKEN",
        envvar="TURNOUT_TOKEN",
        help="The token with which captured requests are sent again to stages with `auth: jwt`.",
        show_default=False,
    ),
]
ReadOnlyOption = Annotated[bool, typer.Option("--read-only", help="Show everything and change nothing.")]


def console(
    *,
    stack: StackOption = "",
    endpoint_url: EndpointOption = "",
    port: PortOption = 0,
    capture: CaptureOption = None,
    api_key: KeyOption = "",
    token: TokenOption = "",
    read_only: ReadOnlyOption = False,
    manifest: ManifestOption = DEFAULT_MANIFEST,
) -> None:
    """Serve the console of a stack on AWS.

    Example: turnout console --stack prod

    Serves the console on 127.0.0.1 and prints its address. It shows what `turnout canary status` shows and does what
    `turnout canary --now` does, with this machine's AWS credentials. For a local server, `turnout serve` has its own
    console.
    """
    from turnout.canary.rollout.stage_control import make_client
    from turnout.console.standalone import serve_console
    from turnout.console.subject import Subject

    target = find_target(endpoint_url, stack)
    if target is None:
        raise CommandError("The console needs to know where the stages are served.", WHERE)
    with reported_errors(manifest):
        load(manifest)
        if not target.is_local:
            make_client("apigateway", target)  # report a missing boto3 here, not on the page
    try:
        subject = Subject(manifest, target, capture=capture, api_key=api_key, token=token)
        serve_console(subject, port, announce, may_write=not read_only)
    except OSError as error:
        hint = "The port is in use. Choose another with --port." if error.errno == errno.EADDRINUSE else ""
        raise CommandError(f"cannot listen on 127.0.0.1:{port}: {error.strerror or error}.", hint, code=1) from error


def announce(address: str) -> None:
    """Print the console's address."""
    notify(f"Console: {address}")
    notify("Ctrl-C ends it.")

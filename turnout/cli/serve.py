"""`turnout serve`: the whole API on this machine, with real inference."""

from __future__ import annotations

import errno
import socket
from enum import StrEnum
from typing import Annotated

import typer

from turnout.cli.options import DEFAULT_MANIFEST, ManifestOption, load
from turnout.cli.output import CommandError

CANNOT_LISTEN = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES, errno.EAFNOSUPPORT})


class LogFormat(StrEnum):
    """How a line of the access log is spelled."""

    TEXT = "text"
    JSON = "json"


HostOption = Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 lets other machines in.")]
PortOption = Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 takes a free one.")]
StageOption = Annotated[
    str, typer.Option(help="The stage that answers paths without one; the first of the manifest where none is named.")
]
PreloadOption = Annotated[bool, typer.Option("--preload", help="Load every model before the first request.")]
LogOption = Annotated[LogFormat, typer.Option(help="How a line of the access log is spelled.")]
AccessLogOption = Annotated[
    bool, typer.Option("--access-log/--no-access-log", help="Whether each request gets a line on standard output.")
]


def serve(
    *,
    manifest: ManifestOption = DEFAULT_MANIFEST,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8080,
    stage: StageOption = "",
    preload: PreloadOption = False,
    log_format: LogOption = LogFormat.TEXT,
    access_log: AccessLogOption = True,
) -> None:
    """Serve the API on this machine.

    It answers with real inference until Ctrl-C or SIGTERM.
    Models are loaded when they are first called, or all at once with --preload. Requests in flight are finished
    before it stops.
    """
    project = load(manifest)
    stages = [row.name for row in project.manifest.stages]
    if stage and stage not in stages:
        raise CommandError(f"there is no stage {stage!r}.", f"The stages are: {', '.join(stages)}.")
    from turnout.gateway import local

    try:
        local.serve(
            project,
            host=host,
            port=port,
            stage=stage,
            preload=preload,
            log_format=log_format.value,
            access_log=access_log,
        )
    except OSError as error:
        listening = error.errno in CANNOT_LISTEN and error.filename is None
        if not listening and not isinstance(error, socket.gaierror):
            raise
        hint = "Something listens there already; --port takes another." if error.errno == errno.EADDRINUSE else ""
        raise CommandError(f"cannot listen on {host}:{port}: {error.strerror or error}.", hint, code=1) from error

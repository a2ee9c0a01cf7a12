"""`turnout serve`: the whole API on this machine, with real inference."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from turnout.cli.commands.build import FULL, building
from turnout.cli.options import DEFAULT_MANIFEST, ManifestOption, load
from turnout.cli.output import CommandError, tell
from turnout.gateway.interrupt import remembered_interrupt
from turnout.system.service_tokens import ServicesMode

CANNOT_LISTEN = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES, errno.EAFNOSUPPORT})


class LogFormat(StrEnum):
    """How a line of the access log is spelled."""

    TEXT = "text"
    JSON = "json"


HostOption = Annotated[
    str, typer.Option(metavar="ADDRESS", help="The address to listen on; 0.0.0.0 lets other machines in.")
]
PortOption = Annotated[
    int, typer.Option(metavar="PORT", min=0, max=65535, help="The port to listen on; 0 takes a free one.")
]
StageOption = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="The stage that answers paths without one; the first of the manifest where none is named."
    ),
]
PreloadOption = Annotated[bool, typer.Option("--preload", help="Load every model before the first request.")]
LogOption = Annotated[LogFormat, typer.Option(help="How a line of the access log is spelled.")]
AccessLogOption = Annotated[
    bool, typer.Option("--access-log/--no-access-log", help="Whether each request gets a line on standard output.")
]

WorkersOption = Annotated[
    int, typer.Option(metavar="N", min=0, help="Processes that answer requests; 0 is one per core that may be used.")
]
WatchOption = Annotated[
    bool, typer.Option("--watch", help="Serve what models.yaml and its files say now, whenever they change.")
]
CaptureOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Add every request that reaches a model to this file, for `turnout replay`; at most 1 GB.",
        show_default=False,
    ),
]
ServicesOption = Annotated[
    ServicesMode | None,
    typer.Option(
        help="Who may use /restapis, Lambda's Invoke API, /turnout and /metrics: programs on this machine, whoever has "
        "the token that `turnout keys --services` prints, or nobody. On a loopback address `local`, else `token`.",
        show_default=False,
    ),
]
IsolatedOption = Annotated[
    bool, typer.Option("--isolated", help="Run each version in processes of its own, as Lambda does.")
]
EnvironmentsOption = Annotated[
    int, typer.Option(metavar="N", min=0, help="With --isolated, processes of one version at once; 0 is one per core.")
]
IdleOption = Annotated[
    float, typer.Option(min=0, metavar="SECONDS", help="With --isolated, how long a process waits for its next call.")
]
AllowPortOption = Annotated[
    list[int] | None,
    typer.Option(
        metavar="PORT",
        min=1,
        max=65535,
        help="With --isolated, a TCP port that versions may connect to; may be repeated. 443 is open.",
    ),
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
    workers: WorkersOption = 0,
    watch: WatchOption = False,
    capture: CaptureOption = None,
    services: ServicesOption = None,
    isolated: IsolatedOption = False,
    max_environments: EnvironmentsOption = 0,
    idle_timeout: IdleOption = 300.0,
    allow_port: AllowPortOption = None,
) -> None:
    """Serve the API on this machine.

    It answers with real inference until Ctrl-C or SIGTERM.
    Models are loaded when they are first called, or all at once with --preload. Requests in flight are finished
    before it stops.
    With --watch an edit goes into service without a request lost; a broken one is told and changes nothing.
    SIGHUP does the same once.
    With --isolated each version runs as on Lambda: in processes of its own, from its own zip, within its memory, and
    apart from this machine's files and services.
    """
    with remembered_interrupt() as check_interrupt:
        project = load(manifest)
        stages = [row.name for row in project.manifest.stages]
        if stage and stage not in stages:
            raise CommandError(f"there is no stage {stage!r}.", f"The stages are: {', '.join(stages)}.")
        if port in (allow_port or ()):
            raise CommandError(f"--allow-port {port} is the server's own port.", "Versions never reach it.")
        from turnout.gateway import serve as local
        from turnout.gateway.editions.isolated import Isolation
        from turnout.gateway.functions.isolated.confinement import find_boundary
        from turnout.gateway.functions.isolated.process import OUTGOING_PORTS
        from turnout.gateway.output.process import OutputError
        from turnout.gateway.workers.supervisor import StartError, StopError
        from turnout.packaging.layer import LayerError
        from turnout.project.manifest_file import manifest_path

        isolation = None
        if isolated:
            ports = {*OUTGOING_PORTS, *(allow_port or ())} - {port}
            isolation = Isolation(max_environments, idle_timeout, tuple(sorted(ports)))
            tell(f"Isolation: {find_boundary([str(project.manifest.path.parent)]).describe()}.")
        try:
            local.serve(
                project,
                host=host,
                port=port,
                stage=stage,
                preload=preload,
                log_format=log_format.value,
                access_log=access_log,
                workers=workers,
                watch=watch,
                capture=capture,
                services=services,
                isolation=isolation,
                preparing=preparing,
                check_interrupt=check_interrupt,
            )
        except LayerError as error:
            message = f"what isolated functions run on cannot be made: {error}"
            raise CommandError(message, "It is fetched once, through uv, and kept in .turnout.", code=1) from None
        except (OutputError, StartError, StopError) as error:
            raise CommandError(f"{error}.", code=1) from None
        except OSError as error:
            if isolated and error.errno in FULL:
                message = f"cannot write packages to {manifest_path(manifest).parent / '.turnout'}: {error.strerror}."
                raise CommandError(message, "Make room and start again: finished packages are kept.", code=1) from error
            if capture is not None and error.filename == str(capture):
                raise CommandError(f"cannot capture to {capture}: {error.strerror}.") from error
            listening = error.errno in CANNOT_LISTEN and error.filename is None
            if not listening and not isinstance(error, socket.gaierror):
                raise
            hint = "Something listens there already; --port takes another." if error.errno == errno.EADDRINUSE else ""
            raise CommandError(f"cannot listen on {host}:{port}: {error.strerror or error}.", hint, code=1) from error


@contextmanager
def preparing(functions: int) -> Iterator[Callable[[str, str], None]]:
    """A bar that moves as packages are built; without a terminal, a line for each that was not there."""
    if sys.stderr.isatty():
        with building(functions + 1, on_terminal=True) as progress:  # and the runtime
            yield progress
        return
    yield lambda name, event: tell(f"built {name}") if event == "built" else None

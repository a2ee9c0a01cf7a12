"""`turnout serve`: the whole API on this machine, with real inference."""

from __future__ import annotations

import errno
import re
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turnout.cli.commands.build import FULL, building
from turnout.cli.options import DEFAULT_MANIFEST, ManifestOption, load
from turnout.cli.output import CommandError, notify
from turnout.extras import MissingPackageError
from turnout.gateway.interrupt import remembered_interrupt
from turnout.loopback import is_loopback
from turnout.system.service_tokens import ServicesMode

if TYPE_CHECKING:
    from turnout.console.door import Door

CANNOT_LISTEN = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES, errno.EAFNOSUPPORT})


LEAST_MEMORY_MB = 64

UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
"""Bytes in a unit, by its first letter: `GB`, `Gi`, `GiB` and `g` mean the same."""


def parse_memory(text: str | int) -> int:
    """Return the bytes of an amount of memory: `2GB`, `512 MB`, `1.5GiB`."""
    if isinstance(text, int):
        return text
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?(?:([kmgt])(?:i?b?)|b?)", text.strip().lower())
    if match is None:
        raise typer.BadParameter(f"expected an amount of memory such as 2GB or 512MB, got {text!r}.")
    amount = int(float(match[1]) * UNITS[match[2] or ""])
    if amount < LEAST_MEMORY_MB * UNITS["m"]:
        raise typer.BadParameter(f"must be at least {LEAST_MEMORY_MB}MB, got {text!r}.")
    return amount


class LogFormat(StrEnum):
    """Format of the access log."""

    TEXT = "text"
    JSON = "json"


HostOption = Annotated[
    str, typer.Option(metavar="ADDRESS", help="The address to listen on. 0.0.0.0 accepts other machines.")
]
PortOption = Annotated[
    int, typer.Option(metavar="PORT", min=0, max=65535, help="The port to listen on. 0 chooses a free one.")
]
StageOption = Annotated[
    str,
    typer.Option(metavar="NAME", help="The stage for paths without a stage. Default: the first in the manifest."),
]
PreloadOption = Annotated[bool, typer.Option("--preload", help="Load every model before the first request.")]
LogOption = Annotated[LogFormat, typer.Option(help="Format of the access log.")]
AccessLogOption = Annotated[
    bool, typer.Option("--access-log/--no-access-log", help="Log each request to standard output.")
]

WorkersOption = Annotated[
    int, typer.Option(metavar="N", min=0, help="Number of worker processes. 0 is one per available core.")
]
WatchOption = Annotated[bool, typer.Option("--watch", help="Reload when models.yaml or a file it names changes.")]
CaptureOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Append every request to a model to this file, for `turnout replay`. At most 1 GB.",
        show_default=False,
    ),
]
ServicesOption = Annotated[
    ServicesMode | None,
    typer.Option(
        help="Who may call /restapis, Lambda's Invoke API, /turnout and /metrics: programs on this machine (local), "
        "callers with the token that `turnout keys --services` prints (token), or no one (off). Default: "
        "`local` on a loopback address, else `token`.",
        show_default=False,
    ),
]
ConsoleOption = Annotated[
    bool | None,
    typer.Option(
        "--console/--no-console",
        help="Whether browsers get the console at /console; on by default on a loopback address.",
        show_default=False,
    ),
]
ConsoleWriteOption = Annotated[
    bool,
    typer.Option("--console-write", help="Allow changes in the console even if other machines can reach it."),
]
OtlpOption = Annotated[
    str,
    typer.Option(
        "--otlp-endpoint",
        metavar="URL",
        help="Send traces to this OpenTelemetry collector over OTLP/HTTP, such as http://127.0.0.1:4318.",
        show_default=False,
    ),
]
IsolatedOption = Annotated[
    bool, typer.Option("--isolated", help="Run each version in its own processes, as Lambda does.")
]
EnvironmentsOption = Annotated[
    int,
    typer.Option(
        metavar="N", min=0, help="With --isolated, the maximum number of processes per version. 0 is one per core."
    ),
]
IdleOption = Annotated[
    float, typer.Option(min=0, metavar="SECONDS", help="With --isolated, stop a process after this idle time.")
]
MaxMemoryOption = Annotated[
    int,
    typer.Option(
        metavar="SIZE",
        parser=parse_memory,
        help="Memory limit of the server, such as 2GB. Above it, idle versions are unloaded, the least "
        "recently used first. Default: 80% of the container's or the machine's memory.",
        show_default=False,
    ),
]
AllowPortOption = Annotated[
    list[int] | None,
    typer.Option(
        metavar="PORT",
        min=1,
        max=65535,
        help="With --isolated, a TCP port that versions may connect to. Repeatable. 443 is always open.",
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
    console: ConsoleOption = None,
    console_write: ConsoleWriteOption = False,
    otlp_endpoint: OtlpOption = "",
    isolated: IsolatedOption = False,
    max_environments: EnvironmentsOption = 0,
    idle_timeout: IdleOption = 300.0,
    allow_port: AllowPortOption = None,
    max_memory: MaxMemoryOption = 0,
) -> None:
    """Serve the API on this machine.

    Runs real inference until Ctrl-C or SIGTERM, then finishes the requests in flight. Models are loaded on their first
    call, or at startup with --preload. --watch applies edits without losing requests; invalid edits are reported and
    ignored. SIGHUP reloads once. --isolated runs each version as on Lambda: in its own processes, from its own zip,
    within its memory, without access to this machine's files and services.
    """
    with remembered_interrupt() as check_interrupt:
        project = load(manifest)
        stages = [entry.name for entry in project.manifest.stages]
        if stage and stage not in stages:
            raise CommandError(f"unknown stage {stage!r}.", f"Known stages: {', '.join(stages)}.")
        if port in (allow_port or ()):
            raise CommandError(f"--allow-port {port} is the server's own port.", "Versions can never connect to it.")
        from turnout.console.mounted import make_console
        from turnout.gateway import serve as local
        from turnout.gateway.output.process import OutputError
        from turnout.gateway.workers.supervisor import StartError, StopError
        from turnout.packaging.layer import LayerError
        from turnout.project.manifest_file import manifest_path

        check_otlp(otlp_endpoint)
        door = make_door(host, services, is_wanted=console, may_write=console_write)
        isolation = None
        if isolated:
            from turnout.gateway.editions.isolated import Isolation
            from turnout.gateway.functions.isolated.confinement import find_boundary
            from turnout.gateway.functions.isolated.process import OUTGOING_PORTS

            ports = {*OUTGOING_PORTS, *(allow_port or ())} - {port}
            isolation = Isolation(max_environments, idle_timeout, tuple(sorted(ports)))
            notify(f"Isolation: {find_boundary([str(project.manifest.path.parent)]).describe()}.")
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
                max_memory=max_memory,
                otlp_endpoint=otlp_endpoint,
                make_console=None
                if door is None
                else partial(make_console, manifest, door, capture=None if capture is None else capture.absolute()),
                preparing=preparing,
                check_interrupt=check_interrupt,
            )
        except LayerError as error:
            message = f"cannot prepare the environment of isolated functions: {error}"
            raise CommandError(message, "It is downloaded once with uv and cached in .turnout.", code=1) from None
        except (OutputError, StartError, StopError) as error:
            raise CommandError(f"{error}.", code=1) from None
        except OSError as error:
            if isolated and error.errno in FULL:
                message = f"cannot write packages to {manifest_path(manifest).parent / '.turnout'}: {error.strerror}."
                raise CommandError(
                    message, "Free disk space and start again: finished packages are kept.", code=1
                ) from error
            if capture is not None and error.filename == str(capture):
                raise CommandError(f"cannot capture to {capture}: {error.strerror}.") from error
            listening = error.errno in CANNOT_LISTEN and error.filename is None
            if not listening and not isinstance(error, socket.gaierror):
                raise
            hint = (
                "Another program listens there. Choose another port with --port."
                if error.errno == errno.EADDRINUSE
                else ""
            )
            raise CommandError(f"cannot listen on {host}:{port}: {error.strerror or error}.", hint, code=1) from error


def check_otlp(endpoint: str) -> None:
    """Reject an invalid endpoint, and any endpoint if the packages that send spans are missing; empty is fine."""
    if not endpoint:
        return
    try:
        from turnout.gateway.tracing.tracing import check_endpoint
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        missing = MissingPackageError("opentelemetry-exporter-otlp-proto-http", "--otlp-endpoint")
        raise CommandError(f"{missing.message}.", missing.hint) from None
    if problem := check_endpoint(endpoint):
        raise CommandError(f"--otlp-endpoint: {problem}.")


def make_door(host: str, services: ServicesMode | None, *, is_wanted: bool | None, may_write: bool) -> Door | None:
    """Return the console's access check; None without a console.

    Args:
        host: the host that the server listens on.
        services: who may use the services, which the console uses; None for the default.
        is_wanted: whether the console was requested or disabled; None for the default.
        may_write: whether it may change stages also from other machines; requests the console, too.

    Raises:
        CommandError: the options contradict each other.
    """
    from turnout.console.door import Door

    is_here = is_loopback(host)
    if may_write and is_wanted is False:
        raise CommandError("--console-write needs the console that --no-console turns off.", "Leave one of them out.")
    if (is_wanted or may_write) and services is ServicesMode.OFF:
        option = "--console" if is_wanted else "--console-write"
        raise CommandError(f"{option} needs the services that --services off turns off.", "Leave one of them out.")
    if may_write:
        is_wanted = True
    if services is ServicesMode.OFF or not (is_here if is_wanted is None else is_wanted):
        return None
    return Door(is_open=not is_here, may_write=is_here or may_write)


@contextmanager
def preparing(functions: int) -> Iterator[Callable[[str, str], None]]:
    """Show a bar that moves as packages are built; without a terminal, a line for each new one."""
    if sys.stderr.isatty():
        with building(functions + 1, on_terminal=True) as progress:  # one step more for the runtime
            yield progress
        return
    yield lambda name, event: notify(f"built {name}") if event == "built" else None

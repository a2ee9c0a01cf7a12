"""`turnout serve`: assembles a project's plan, document, functions and gateway, and serves until a signal arrives."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from turnout.artifacts.example_request import count_request, make_request
from turnout.extras import install_hint
from turnout.gateway.api.identifiers import RequestTimes
from turnout.gateway.assembly import Assembly, Preparing
from turnout.gateway.banner import BannerRequest, render_banner
from turnout.gateway.editions.edition import Edition, make_edition
from turnout.gateway.functions.deferred import Deferred
from turnout.gateway.functions.invocation import Loaded, title_of
from turnout.gateway.logs import format_warning, set_up_logs
from turnout.gateway.observers.access_log import escape, iso_time, json_log, make_json_line, text_log
from turnout.gateway.observers.capture import CaptureFile
from turnout.gateway.observers.line_writer import LineWriter
from turnout.gateway.observers.registry import Outlets
from turnout.gateway.output.process import Output
from turnout.gateway.requests.queue import FOLDER as QUEUE_FOLDER
from turnout.gateway.requests.queue import Queue
from turnout.gateway.rules.stored_tables import find_tables_folder
from turnout.gateway.rules.tokens import is_installed
from turnout.gateway.services.access import Guard, make_guard, make_token
from turnout.gateway.services.console import Console
from turnout.gateway.services.registry import ServiceParts
from turnout.gateway.shared.samples import SharedSamples
from turnout.gateway.shared.session_budget import SessionBudget
from turnout.gateway.shared.state import CAPTURE_LOCK, LINES_LOCK, SAMPLES_LOCK, SharedState
from turnout.gateway.sockets import bind_sockets
from turnout.gateway.tracing_parts import open_tracing
from turnout.gateway.workers.memory import find_memory_limit, trim_memory
from turnout.gateway.workers.processors import processors
from turnout.http_server.messages import Request, Response
from turnout.http_server.reader import Limits
from turnout.http_server.wire import make_refusal
from turnout.loopback import is_loopback
from turnout.packaging.build_progress import ignore_progress
from turnout.plan.values import Plan
from turnout.project.project import CACHE_DIR, Project
from turnout.system.service_tokens import ServicesMode, announced_services
from turnout.wording import printable_lines

if TYPE_CHECKING:
    from turnout.gateway.editions.isolated import Isolation

SHORT_BYTES = 400
"""Size of a request that is readable in a terminal."""

LONGEST_ELEMENTS = 100_000
"""Most elements of the sample request: a signature may require more values than fit in memory."""

BODIES_BYTES = 256 * 1024 * 1024
LEAST_BODIES_BYTES = 64 * 1024 * 1024
"""Least limit for bodies that are being read or answered, for all workers together and for each of them."""

MEMORY_SHARE = 0.8
"""Share of the container's or the machine's memory that the server may use by default."""

SWITCH_INTERVAL_S = 0.0005
"""How long a thread that runs Python may keep the interpreter from the event loop; Python's default is 5 ms."""


def serve(
    project: Project,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    stage: str = "",
    preload: bool = False,
    log_format: str = "text",
    access_log: bool = True,
    workers: int = 0,
    watch: bool = False,
    capture: Path | None = None,
    services: ServicesMode | None = None,
    isolation: Isolation | None = None,
    max_memory: int = 0,
    otlp_endpoint: str = "",
    make_console: Callable[[str], Console] | None = None,
    preparing: Preparing = lambda _: nullcontext(ignore_progress),
    check_interrupt: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests in flight.

    Messages for the user are written to standard error, the access log to standard output.

    Args:
        project: the manifest and its artifacts.
        host: the host to listen on.
        port: the port to listen on; 0 uses a free one.
        stage: the stage for paths that name none; empty for the manifest's first.
        preload: open every session before the first request.
        log_format: `text` or `json`.
        access_log: whether each request gets a line.
        workers: processes that answer requests; 0 is one per processor.
        watch: apply changes of the project's files.
        capture: the file to which every request that reaches a model is appended.
        services: who may use the services besides the API; None is `local` on a loopback address, else `token`.
        isolation: how each function runs in separate processes; None runs all of them in this process.
        max_memory: most bytes that the server may use; above it, idle versions are unloaded. 0 is `MEMORY_SHARE` of the
            memory.
        otlp_endpoint: the address of an OpenTelemetry collector that gets spans; empty traces nothing.
        make_console: makes the console of the server at an address; None for no console.
        preparing: shows progress while the isolated functions' packages are built; called with the number of functions.
        check_interrupt: raises KeyboardInterrupt if one arrived and was dropped; called once, before workers start.

    Raises:
        LayerError: the isolated functions' layer or runtime cannot be resolved.
        OSError: the server cannot listen on the address, or the capture cannot be opened.
        ProblemsError: the plan or the API keys cannot be used.
    """
    from turnout.gateway.workers.supervise import supervise
    from turnout.gateway.workers.worker import First, ServerParts

    set_up_logs(log_format, sys.stderr)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    edition = make_edition(project)
    folder = project.manifest.path.parent
    workers = workers or processors()
    services = services or (ServicesMode.LOCAL if is_loopback(host) else ServicesMode.TOKEN)
    with ExitStack() as closing:
        sockets = bind_sockets(host, port)
        for bound in sockets:
            closing.callback(bound.close)
        output = closing.enter_context(redirected_output(log_format, capture))
        bound_port = sockets[0].getsockname()[1]
        url = make_url(host, bound_port)
        state = SharedState(workers)
        lines = LineWriter(sys.stdout, partial(state.lock.hold, LINES_LOCK))
        captured = open_capture(output, capture, state)
        samples = SharedSamples(state.lock, SAMPLES_LOCK)
        guard = closing.enter_context(guarded_services(services, folder, host, bound_port))
        console = None if make_console is None else make_console(url)
        tracing = open_tracing(otlp_endpoint, project.manifest.platform, state.spans)
        line_log = json_log(lines.write) if log_format == "json" else text_log(lines.write)
        budget = make_budget(max_memory, state, in_process=isolation is None)
        assembly = Assembly(
            stage=stage,
            port=bound_port,
            workers=workers,
            mode=services,
            isolation=isolation,
            preparing=preparing,
            parts=ServiceParts(
                state,
                samples,
                guard,
                secrets.token_hex(8),
                output.dropped,
                console,
                find_tables_folder(folder / CACHE_DIR),
            ),
            outlets=Outlets(
                state.counters,
                samples,
                Deferred("captured requests"),
                None if captured is None else captured.write,
                line_log if access_log else None,
                state.callers,
                tracing.observe,
            ),
            lines=lines,
            captured=captured,
            tracing=tracing,
            queue=Queue(folder / ".turnout" / QUEUE_FOLDER),
            budget=budget,
        )
        functions = assembly.functions_of(edition, None)
        gateway = assembly.gateway_of(edition, functions)
        refusals = {int(status): make_refusal(status) for status in HTTPStatus if status >= HTTPStatus.BAD_REQUEST}
        serving = ServerParts(
            assembly.functions_of,
            assembly.gateway_of,
            preload=preload,
            opens_together=watch,
            progress=print_load,
            limits=Limits(max_bodies_bytes=max(LEAST_BODIES_BYTES, BODIES_BYTES // workers)),
            refusals=refusals,
            log=partial(log_refusal, refusals, lines.write, log_format) if access_log else None,
            flush=assembly.flush,
            budget=budget,
            beside=assembly.work_queue,
        )
        default_stage = stage or project.manifest.stages[0].name
        greet = partial(greet_user, edition, gateway.notes, url, default_stage, capture, console)
        first = First(1, edition, functions, gateway)
        check_interrupt()
        output.redirect()
        supervise(sockets, state, serving, first, is_watching=watch, notify=notify, on_ready=greet, output=output)


def make_budget(max_memory: int, state: SharedState, *, in_process: bool) -> SessionBudget | None:
    """Return the memory budget of loaded versions; None if there is no limit and the system reports none."""
    limit = max_memory or int(MEMORY_SHARE * find_memory_limit())
    state.max_memory_bytes = limit
    return SessionBudget(limit, state.sessions, trim_memory, in_process=in_process) if limit else None


def greet_user(
    edition: Edition, notes: Sequence[str], url: str, default_stage: str, capture: Path | None, console: Console | None
) -> None:
    """Print the stages' addresses, an example call, and notes."""
    notes = [*(f"{note.path}: {note.message}" for note in edition.plan.notes), *notes, *find_missing_keys(edition)]
    if capture is not None:
        notes.append(f"requests are captured to {capture}: it will contain what callers send")
    project, keys = edition.project, edition.keys
    sample = choose_sample(project, edition.plan, default_stage, keys)
    if console is not None:
        notify(f"Console: {console.address}")
    notify(render_banner(project.manifest, url, default_stage=default_stage, keys=keys, sample=sample, notes=notes))


def find_missing_keys(edition: Edition) -> Iterator[str]:
    """Yield which consumers have no key on this machine, and what is missing to check tokens."""
    for stage in edition.project.manifest.stages:
        known = {key.consumer.name for key in edition.consumer_keys.get(stage.name, ()) if key.consumer is not None}
        for consumer in stage.consumers:
            if consumer.name not in known:
                command = f"turnout keys issue {stage.name} {consumer.name}"
                yield f"stages.{stage.name}.consumers.{consumer.name}: has no key here: `{command}` makes one"
        if stage.jwt is not None and not is_installed():
            yield f"stages.{stage.name}.jwt: tokens cannot be checked without pyjwt. {install_hint('pyjwt')}"


def open_capture(output: Output, capture: Path | None, state: SharedState) -> LineWriter | None:
    """Return the writer of captured lines in each worker; None if nothing is captured."""
    if capture is None:
        return None
    return LineWriter(output.capture, partial(state.lock.hold, CAPTURE_LOCK), name=f"the capture {capture}")


@contextmanager
def guarded_services(services: ServicesMode, project: Path, host: str, port: int) -> Iterator[Guard]:
    """Return the check before the services; commands find the server and its token while it runs."""
    token = make_token() if services is ServicesMode.TOKEN else ""
    with nullcontext() if services is ServicesMode.OFF else announced_services(project / ".turnout", host, port, token):
        yield make_guard(token)


@contextmanager
def redirected_output(log_format: str, capture: Path | None) -> Iterator[Output]:
    """Open the server's output process; a terminal is redirected later, because a progress bar is drawn first."""
    file = None if capture is None else CaptureFile(capture)
    output = Output(partial(format_warning, log_format, "turnout.output"), capture=file)
    try:
        if not sys.stderr.isatty():
            output.redirect()
        yield output
    finally:
        output.close()


def make_url(host: str, port: int) -> str:
    """Return an address to copy: a wildcard becomes the loopback address."""
    shown = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - only shown, not bound
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def choose_sample(project: Project, plan: Plan, stage: str, keys: Mapping[str, str]) -> BannerRequest | None:
    """Return a request that fits on a screen: that of the first such model, or the shortest.

    Return None without readable models.
    """
    served = project.manifest.stage(stage).serve
    requests = project.first_requests
    samples: list[tuple[int, BannerRequest]] = []
    for entry in plan.versions:
        model, version = entry.version.model, entry.version.name
        if (model, version) not in project.artifacts or served.get(model, version) != version:
            continue
        if (model, version) not in requests and count_request(entry.signature) > LONGEST_ELEMENTS:
            continue
        is_routed = model not in served or project.manifest.model(model).routing
        path = f"/models/{model}/{version}/inference" if is_routed else f"/models/{model}/inference"
        body = requests.get((model, version)) or make_request(entry.signature)
        size = len(orjson.dumps(body))
        samples.append((size, BannerRequest(path, body, stage if stage in keys else "")))
        if size <= SHORT_BYTES:
            break
    if not samples:
        return None
    # Only the last sample can be short; if it is not, take the smallest.
    return samples[-1][1] if samples[-1][0] <= SHORT_BYTES else min(samples, key=lambda sample: sample[0])[1]


def notify(text: str) -> None:
    """Print a line for the user. A full disk does not stop the server."""
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{printable_lines(text)}\n")
        sys.stderr.flush()


def print_load(loaded: Loaded) -> None:
    """Print one line of progress."""
    outcome = f"failed: {loaded.reason}" if loaded.reason else f"loaded in {loaded.seconds:.2f} s"
    notify(f"[{loaded.done}/{loaded.total}] {title_of(loaded.function)} {outcome}")


def log_refusal(
    refusals: Mapping[int, Response],
    write: Callable[[str], object],
    log_format: str,
    request: Request,
    response: Response,
    seconds: float,
) -> None:
    """Log a request that the HTTP server itself rejected; the gateway logs all that reach it."""
    if refusals.get(response.status) is not response:
        return
    now = time.time()
    if log_format == "json":
        write(
            make_json_line(
                time=RequestTimes().at(now),
                ip=request.client,
                method=request.method,
                status=response.status,
                bytes=len(response.body),
                latency_ms=round(seconds * 1000, 3),
                canary=False,
            )
        )
        return
    write(
        f"{iso_time(now)} {escape(request.client)} {escape(request.method)} {escape(request.path)} {response.status} "
        f"{seconds * 1000:.1f}ms {len(response.body)}B function=- canary=false id=-"
    )

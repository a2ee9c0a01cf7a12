"""`turnout serve --capture FILE`: every request that reached a model, as a line of a file."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path

from turnout.gateway.api.exchange import Exchange, Observer, Routed
from turnout.gateway.functions.deferred import QUICK_BYTES, Deferred, is_encoded
from turnout.gateway.rules.errors import EVENT_TOO_LARGE, MISCONFIGURED
from turnout.http_server.messages import Response
from turnout.plan.routes import SHARED_PATHS
from turnout.plan.values import Plan
from turnout.project.project import Project
from turnout.protocol.codecs.samples import Sample, make_sample, write_line
from turnout.protocol.naming import MODEL_HEADER, VERSION_HEADER
from turnout.wording import size_text

_OPTIONS = os.O_APPEND | os.O_CREAT | os.O_CLOEXEC

LARGEST_FILE_BYTES = 1024 * 1024 * 1024
"""Of a capture; what comes after is not captured, and a warning says so."""

Versions = Mapping[str, tuple[str, str]]
"""Function name -> model and version, of the functions that serve one version."""


Redactions = Mapping[tuple[str, str], Collection[str]]
"""Model and version -> inputs whose values are in no capture and no sample."""


class CaptureFile:
    """A stream of whole lines for `LineWriter`: what does not fit leaves no part of itself behind.

    Args:
        path: the file, made where it is not there; for its owner's eyes only, since requests hold what people sent.
        most_bytes: that it may grow to.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, most_bytes: int = LARGEST_FILE_BYTES) -> None:
        self.file = _open_fifo(path) if path.is_fifo() else os.open(path, os.O_WRONLY | _OPTIONS, 0o600)
        self._most_bytes = most_bytes

    def write(self, text: str) -> int:
        """As `write_bytes`, of text."""
        self.write_bytes(text.encode())
        return len(text)

    def write_bytes(self, lines: bytes) -> None:
        """Add lines; the caller keeps other processes from doing so meanwhile.

        Raises:
            OSError: they could not be written, or the file is as large as it may be.
        """
        data = memoryview(lines)
        before = os.fstat(self.file).st_size
        if before + len(data) > self._most_bytes:
            raise OSError(errno.EFBIG, f"it may take {size_text(self._most_bytes)} and no more")
        try:
            while data:
                data = data[os.write(self.file, data) :]
        except OSError:
            with suppress(OSError):  # a pipe cannot be truncated
                os.ftruncate(self.file, before)
            raise

    def flush(self) -> None:
        """Nothing is held back."""


def _open_fifo(path: Path) -> int:
    """Open a FIFO without waiting for its reader, who may come later."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_NONBLOCK | _OPTIONS)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return os.open(path, os.O_RDWR | _OPTIONS)  # on Linux a writer that also reads can open a pipe without a reader
    os.set_blocking(file, True)
    return file


def versions_of(plan: Plan) -> Versions:
    """The functions that serve one version."""
    return {
        function.name: (function.model, function.version) for function in plan.functions if function.kind == "model"
    }


def redactions_of(project: Project) -> Redactions:
    """Model and version -> the inputs whose values are in no capture, of those that have some."""
    return {
        (model.name, version.name): frozenset(version.capture.redact)
        for model in project.manifest.models
        for version in model.versions
        if version.capture is not None and version.capture.redact
    }


def who_answered(exchange: Exchange, response: Response, versions: Versions) -> tuple[str, str] | None:
    """Model and version that a request reached: the function's own, or what a router's answer says; None for none."""
    target = exchange.target
    if target is None or exchange.error in {MISCONFIGURED, EVENT_TOO_LARGE}:
        return None
    own = versions.get(target.function)
    if own is not None:
        return own
    said = {name.lower(): value for name, value in response.headers}
    named = said.get(MODEL_HEADER, ""), said.get(VERSION_HEADER, "")
    return named if named in versions.values() else None


def sample_of(
    exchange: Exchange,
    response: Response,
    duration_s: float,
    answered: tuple[str, str],
    redact: Collection[str] = (),
) -> Sample | None:
    """The sample of an exchange that reached a function; see `make_sample`."""
    routed = exchange.routed
    if routed is None:
        return None
    return make_sample(
        routed.fields.by_lower_name(),
        exchange.request.body,
        redact,
        time=exchange.now,
        stage=routed.stage.settings.name,
        model=answered[0],
        version=answered[1],
        canary=routed.share.is_canary,
        status=response.status,
        duration_ms=duration_s * 1000,
        resource=_resource_of(routed),
        caller=exchange.caller,
    )


def _resource_of(routed: Routed) -> str:
    """The resource that was called; a model's own also where models share one."""
    resource = routed.operation.resource
    if resource not in SHARED_PATHS:
        return resource
    for name, value in (routed.parameters or {}).items():
        resource = resource.replace(f"{{{name}}}", value)
    return resource


def with_sample(
    exchange: Exchange, make: Callable[[], bytes | None], take: Callable[[bytes], object], deferred: Deferred | None
) -> None:
    """Make a request's line and give it to `take`: here and now where that is quick, else in a thread.

    Args:
        exchange: a body that is large, or may become so when its content encoding is undone, is for the thread.
        make: makes the line, or None where there is nothing to keep.
        take: called on the event loop with the line.
        deferred: the thread; None makes every line at once.
    """
    body, routed = exchange.request.body, exchange.routed
    if deferred is None or (len(body) <= QUICK_BYTES and not (routed and is_encoded(routed.fields.single))):
        line = make()
        if line is not None:
            take(line)
        return
    deferred.submit(len(body), make, lambda made: None if made is None else take(made))


def capture_requests(
    write: Callable[[str], object], project: Project, plan: Plan, deferred: Deferred | None = None
) -> Observer:
    """Writes a line for each request that reached a model; replayed ones are not captured."""
    versions = versions_of(plan)
    redactions = redactions_of(project)

    def capture(exchange: Exchange, response: Response, duration_s: float) -> None:
        answered = None if exchange.is_replayed else who_answered(exchange, response, versions)
        if answered is not None:
            redact = redactions.get(answered, ())

            def make() -> bytes | None:
                sample = sample_of(exchange, response, duration_s, answered, redact)
                return None if sample is None else write_line(sample)

            with_sample(exchange, make, lambda line: write(line.decode()), deferred)

    return capture

"""`turnout serve --capture FILE`: writes every request that reached a model as a line of a file."""

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
"""Largest size of a capture; later requests are not captured, and a warning says so."""

Versions = Mapping[str, tuple[str, str]]
"""Function name -> model and version, for functions that serve one version."""


Redactions = Mapping[tuple[str, str], Collection[str]]
"""Model and version -> inputs whose values are left out of captures and samples."""


class CaptureFile:
    """A stream of complete lines for `LineWriter`: a line that does not fit leaves no part of it behind.

    Args:
        path: the file, created if it is missing; only its owner may read it, because requests contain callers' data.
        most_bytes: the limit of its size.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, most_bytes: int = LARGEST_FILE_BYTES) -> None:
        self.file = _open_fifo(path) if path.is_fifo() else os.open(path, os.O_WRONLY | _OPTIONS, 0o600)
        self._most_bytes = most_bytes

    def write(self, text: str) -> int:
        """Like `write_bytes`, for text."""
        self.write_bytes(text.encode())
        return len(text)

    def write_bytes(self, lines: bytes) -> None:
        """Append lines; the caller prevents concurrent writes by other processes.

        Raises:
            OSError: they could not be written, or the file has reached its limit.
        """
        data = memoryview(lines)
        before = os.fstat(self.file).st_size
        if before + len(data) > self._most_bytes:
            raise OSError(errno.EFBIG, f"it has reached its limit of {size_text(self._most_bytes)}")
        try:
            while data:
                data = data[os.write(self.file, data) :]
        except OSError:
            with suppress(OSError):  # a pipe cannot be truncated
                os.ftruncate(self.file, before)
            raise

    def flush(self) -> None:
        """Do nothing: there is no buffer."""


def _open_fifo(path: Path) -> int:
    """Open a FIFO without waiting for its reader, which may open it later."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_NONBLOCK | _OPTIONS)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return os.open(path, os.O_RDWR | _OPTIONS)  # on Linux a writer that also reads can open a pipe without a reader
    os.set_blocking(file, True)
    return file


def versions_of(plan: Plan) -> Versions:
    """Return the functions that serve one version."""
    return {
        function.name: (function.model, function.version)
        for function in plan.unpooled_functions
        if function.kind == "model"
    }


def redactions_of(project: Project) -> Redactions:
    """Return model and version -> the inputs that are left out of captures, for versions that have some."""
    return {
        (model.name, version.name): frozenset(version.capture.redact)
        for model in project.manifest.models
        for version in model.versions
        if version.capture is not None and version.capture.redact
    }


def who_answered(exchange: Exchange, response: Response, versions: Versions) -> tuple[str, str] | None:
    """Return the model and version that a request reached: the function's own, or those in a router's answer.

    Return None if it reached none.
    """
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
    """Return the sample of an exchange that reached a function; see `make_sample`."""
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
    """Return the called resource; a model's own path also if models share a route."""
    resource = routed.operation.resource
    if resource not in SHARED_PATHS:
        return resource
    for name, value in (routed.parameters or {}).items():
        resource = resource.replace(f"{{{name}}}", value)
    return resource


def with_sample(
    exchange: Exchange, make: Callable[[], bytes | None], take: Callable[[bytes], object], deferred: Deferred | None
) -> None:
    """Make a request's line and pass it to `take`: immediately if that is quick, else in a thread.

    Args:
        exchange: a body that is large, or may become large when decoded, is read in the thread.
        make: makes the line, or returns None if there is nothing to write.
        take: called on the event loop with the line.
        deferred: the thread; None makes every line immediately.
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
    """Return an observer that writes a line for each request that reached a model, except replayed ones."""
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

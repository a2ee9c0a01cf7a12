"""Requests that can be sent again: lines of `turnout serve --capture`, samples for canaries, functions' logs on AWS.

A request is identified by the digest of its line, because any worker may answer the next call: no state is shared. For
a stack, `LatestRequests` caches the logs that it has read.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import orjson

from turnout.canary.observation.latest_requests import SPANS_S, LatestLook
from turnout.client.captured_lines import parse_sample
from turnout.console.subject import Subject
from turnout.manifest.parser import Version
from turnout.plan.checks.pools import find_pool_functions
from turnout.protocol.codecs.samples import Sample, write_line
from turnout.protocol.naming import function_name, function_prefix

TAIL_BYTES = 8 * 1024 * 1024
"""Bytes to read from the end of a capture: enough for recent requests, and read in a fraction of a second."""

MOST_SAMPLES = 500
"""Samples to read per stage."""

MOST_ROWS = 200
"""Requests on one page."""

MOST_SHOWN_BYTES = 100_000
"""Bytes of a body that the page shows."""

STATUSES: Mapping[str, range] = {"answered": range(200, 400), "refused": range(400, 500), "failed": range(500, 600)}


@dataclass(frozen=True, slots=True)
class KeptRequest:
    """One request.

    Args:
        key: the digest of its line, first 16.
        source: `capture`, `sample` or `log`.
        sample: the request.
    """

    key: str
    source: str
    sample: Sample


@dataclass(frozen=True, slots=True)
class Filter:
    """Selects requests. An empty text matches all.

    Args:
        stage: the stage's name.
        model: the model's name.
        version: the version that answered.
        share: `canary` or `baseline`.
        status: a key of `STATUSES`, or a number such as `422`.
        slower_ms: the least duration.
        caller: the consumer whose key was sent.
    """

    stage: str = ""
    model: str = ""
    version: str = ""
    share: str = ""
    status: str = ""
    slower_ms: float = 0.0
    caller: str = ""

    def wants(self, sample: Sample) -> bool:
        """Whether a request matches."""
        return (
            self.stage in ("", sample.stage)
            and self.model in ("", sample.model)
            and self.version in ("", sample.version)
            and self.caller in ("", sample.caller)
            and self.share in ("", "canary" if sample.canary else "baseline")
            and (not self.status or sample.status in STATUSES.get(self.status, ()) or self.status == str(sample.status))
            and sample.duration_ms >= self.slower_ms
        )


@dataclass(frozen=True, slots=True)
class KeptRequests:
    """The requests that were kept, newest first, without duplicates.

    Args:
        requests: not filtered, but on AWS the filter selects the functions whose logs are read.
        logs: a message about the logs on AWS that were read; empty for a server on this machine.
    """

    requests: Sequence[KeptRequest]
    logs: str = ""


def read_kept(subject: Subject, wanted: Filter) -> KeptRequests:
    """The requests that the server kept, or that the stack's functions logged.

    Raises:
        UnreachableError: the server does not respond.
        ObservationError: the logs cannot be read.
    """
    captured = read_capture(subject.capture)
    if subject.target.is_local:
        return KeptRequests(_sort_once(chain(_sampled(subject), captured)))
    functions = logging_functions(subject, wanted)
    manifest = subject.project().manifest
    pools = find_pool_functions(manifest, function_prefix(manifest.platform, subject.target.stack))
    look = subject.logged().read(functions, pools) if functions else LatestLook((), 0, 0)
    return KeptRequests(_sort_once(chain(_logged(look.samples), captured)), describe_look(look, wanted))


def find_kept(subject: Subject, key: str) -> KeptRequest | None:
    """The request with that key, or None if it is no longer kept. For a stack, only requests that were read before."""
    if subject.target.is_local:
        kept: Iterable[KeptRequest] = read_kept(subject, Filter()).requests
    else:
        kept = chain(_logged(subject.logged().kept()), read_capture(subject.capture))
    return next((kept_request for kept_request in kept if kept_request.key == key), None)


def logging_functions(subject: Subject, wanted: Filter) -> list[str]:
    """The functions that log requests of a filter's model and version, those that a stage serves first."""
    manifest = subject.project().manifest
    served: set[tuple[str, str]] = set()
    for stage in manifest.stages:
        served.update(stage.serve.items(), stage.canary.serve.items() if stage.canary else ())
        served.update((model, version) for model, weights in stage.weights.items() for version in weights)

    def is_wanted(version: Version) -> bool:
        is_logging = version.capture is not None and version.capture.percent > 0
        return is_logging and wanted.model in ("", version.model) and wanted.version in ("", version.name)

    versions = [version for version in manifest.versions if is_wanted(version)]
    versions.sort(key=lambda version: (version.model, version.name) not in served)
    prefix = function_prefix(manifest.platform, subject.target.stack)
    return [function_name(prefix, version.model, version.name) for version in versions]


def describe_look(look: LatestLook, wanted: Filter) -> str:
    """Which logs on AWS were read, what was left out, and what to do about it."""
    if not look.of:
        of = "/".join(filter(None, (wanted.model, wanted.version)))
        return (
            f"No function {f'of {of} ' if of else ''}logs requests. Set `capture: {{percent: 5}}` on a version in "
            "models.yaml and run `pulumi up`."
        )
    left_out = look.of - look.read - len(look.missing)
    hours = SPANS_S[-1] / 3600
    sentences = [f"The latest requests in the logs of {look.read} of {look.of} functions, up to {hours:.0f} hours old."]
    if look.missing:
        more = f" and {len(look.missing) - 1} more" if len(look.missing) > 1 else ""
        sentences.append(
            f"No log group was found for {look.missing[0]}{more}: run `pulumi up`, or check `--stack` and AWS_REGION."
        )
    if left_out:
        sentences.append("Choose a model to read the logs of its functions.")
    if look.is_cut:
        sentences.append("There are more requests than were read: look again in a minute.")
    return " ".join(sentences)


def _logged(samples: Iterable[Sample]) -> Iterator[KeptRequest]:
    return (KeptRequest(_key(write_line(sample)), "log", sample) for sample in samples)


def _sort_once(kept: Iterable[KeptRequest]) -> list[KeptRequest]:
    """Newest first, without duplicates: a request may be both captured and sampled."""
    once = {kept_request.key: kept_request for kept_request in kept}
    return sorted(once.values(), key=lambda kept_request: kept_request.sample.time, reverse=True)


def read_capture(path: Path | None) -> Iterator[KeptRequest]:
    """The requests at the end of a capture. Damaged lines and other lines are skipped."""
    if path is None or not _is_readable(path):
        return
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL_BYTES))
        tail = file.read(TAIL_BYTES)
    lines = tail.split(b"\n")
    for line in lines[size > TAIL_BYTES :]:
        with suppress(ValueError):
            yield KeptRequest(_key(line), "capture", parse_sample(orjson.loads(line)))


def describe_sources(subject: Subject, logs: str = "") -> dict[str, Any]:
    """The sources of requests: the capture, the stages that are sampled, and which logs were read."""
    stages = subject.project().manifest.stages
    sampled = [
        stage.name
        for stage in stages
        if subject.target.is_local and stage.canary is not None and stage.canary.judgement.agreement is not None
    ]
    capture = subject.capture
    return {
        "capture": "" if capture is None else capture.name,
        "is_readable": capture is not None and _is_readable(capture),
        "sampled": sampled,
        "logs": logs,
    }


def describe_kept(kept: KeptRequest) -> dict[str, Any]:
    """A request without its body."""
    sample = kept.sample
    return {
        "key": kept.key,
        "source": kept.source,
        "time": sample.time,
        "stage": sample.stage,
        "model": sample.model,
        "version": sample.version,
        "share": "canary" if sample.canary else "baseline",
        "caller": sample.caller,
        "status": sample.status,
        "duration_ms": sample.duration_ms,
        "resource": sample.resource,
        "content_type": sample.content_type,
        "size_bytes": len(sample.body),
    }


def describe_body(subject: Subject, kept: KeptRequest) -> dict[str, Any]:
    """A request with its body as text and the names of its redacted inputs."""
    sample = kept.sample
    is_binary = sample.header_length is not None
    shown = sample.body[: sample.header_length] if is_binary else sample.body
    text = shown[:MOST_SHOWN_BYTES].decode(errors="replace")
    return {
        **describe_kept(kept),
        "body": text,
        "is_cut": len(shown) > MOST_SHOWN_BYTES,
        "binary_bytes": len(sample.body) - len(shown),
        "redacted": redacted_inputs(subject, kept),
    }


def redacted_inputs(subject: Subject, kept: KeptRequest) -> list[str]:
    """The inputs whose values were removed when the request was kept. Samples for a canary are whole."""
    if kept.source == "sample":
        return []
    name = (kept.sample.model, kept.sample.version)
    for version in subject.project().manifest.versions:
        if (version.model, version.name) == name and version.capture is not None:
            return sorted(version.capture.redact)
    return []


def _sampled(subject: Subject) -> Iterator[KeptRequest]:
    for stage in subject.project().manifest.stages:
        for sample in subject.samples(stage.name, MOST_SAMPLES):
            yield KeptRequest(_key(write_line(sample)), "sample", sample)


def _is_readable(path: Path) -> bool:
    """Whether a capture is a regular file: reading a pipe would consume its lines."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _key(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()[:16]

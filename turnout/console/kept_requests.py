"""Requests that can be sent again: lines of `turnout serve --capture`, and what the server samples for canaries.

Nothing is remembered between two looks: any worker may be asked next, so a request is named by the digest of its line.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from turnout.client.captured_lines import parse_sample
from turnout.console.subject import Subject
from turnout.protocol.codecs.samples import Sample, write_line

TAIL_BYTES = 8 * 1024 * 1024
"""Read from the end of a capture: what came lately, in a fraction of a second."""

MOST_SAMPLES = 500
"""Asked for of one stage."""

MOST_ROWS = 200
"""Requests on one page."""

MOST_SHOWN_BYTES = 100_000
"""Of a body that is shown."""

STATUSES: Mapping[str, range] = {"answered": range(200, 400), "refused": range(400, 500), "failed": range(500, 600)}


@dataclass(frozen=True, slots=True)
class KeptRequest:
    """One request.

    Args:
        key: the digest of its line, first 16.
        source: `capture` or `sample`.
        sample: the request.
    """

    key: str
    source: str
    sample: Sample


@dataclass(frozen=True, slots=True)
class Filter:
    """Which requests are wanted; an empty text wants all.

    Args:
        stage: the stage's name.
        model: the model's name.
        version: that answered.
        share: `canary` or `baseline`.
        status: a key of `STATUSES`, or a number such as `422`.
    """

    stage: str = ""
    model: str = ""
    version: str = ""
    share: str = ""
    status: str = ""

    def wants(self, sample: Sample) -> bool:
        """Whether a request is one of them."""
        return (
            self.stage in ("", sample.stage)
            and self.model in ("", sample.model)
            and self.version in ("", sample.version)
            and self.share in ("", "canary" if sample.canary else "baseline")
            and (not self.status or sample.status in STATUSES.get(self.status, ()) or self.status == str(sample.status))
        )


def read_kept(subject: Subject) -> list[KeptRequest]:
    """The requests that the server kept, the newest first, each once.

    Raises:
        UnreachableError: the server does not answer.
    """
    kept = {kept_request.key: kept_request for kept_request in (*_sampled(subject), *read_capture(subject.capture))}
    return sorted(kept.values(), key=lambda kept_request: kept_request.sample.time, reverse=True)


def find_kept(subject: Subject, key: str) -> KeptRequest | None:
    """The request with that key; None where it is gone."""
    return next((kept_request for kept_request in read_kept(subject) if kept_request.key == key), None)


def read_capture(path: Path | None) -> Iterator[KeptRequest]:
    """The requests at the end of a capture; lines that are damaged or of something else are passed over."""
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


def describe_sources(subject: Subject) -> dict[str, Any]:
    """The sources of requests: the capture, and the stages that are sampled."""
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
        "status": sample.status,
        "duration_ms": sample.duration_ms,
        "resource": sample.resource,
        "content_type": sample.content_type,
        "size_bytes": len(sample.body),
    }


def describe_body(subject: Subject, kept: KeptRequest) -> dict[str, Any]:
    """A request with its body as text, and the inputs whose values were redacted when it was kept."""
    sample = kept.sample
    is_binary = sample.header_length is not None
    shown = sample.body[: sample.header_length] if is_binary else sample.body
    text = shown[:MOST_SHOWN_BYTES].decode(errors="replace")
    redacted: tuple[str, ...] = ()
    for model in subject.project().manifest.models:
        for version in model.versions:
            if (model.name, version.name) == (sample.model, sample.version) and version.capture is not None:
                redacted = tuple(version.capture.redact)
    return {
        **describe_kept(kept),
        "body": text,
        "is_cut": len(shown) > MOST_SHOWN_BYTES,
        "binary_bytes": len(sample.body) - len(shown),
        "redacted": sorted(redacted),
    }


def _sampled(subject: Subject) -> Iterator[KeptRequest]:
    if not subject.target.is_local:
        return
    for stage in subject.project().manifest.stages:
        for sample in subject.samples(stage.name, MOST_SAMPLES):
            yield KeptRequest(_key(write_line(sample)), "sample", sample)


def _is_readable(path: Path) -> bool:
    """Whether a capture is a file: a pipe's reader takes what it reads."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _key(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()[:16]

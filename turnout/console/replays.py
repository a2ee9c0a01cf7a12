"""Sends kept requests again: one to a version, or many to two versions, with the report of `turnout replay`."""

from __future__ import annotations

import hashlib
import math
import shlex
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from turnout.client.outputs import UnreadableAnswerError, read_outputs
from turnout.console.kept_requests import KeptRequest
from turnout.console.subject import Subject
from turnout.manifest.judgement import OutputRule
from turnout.protocol.codecs.samples import write_line
from turnout.protocol.tensors.datatypes import Array
from turnout.protocol.tensors.interface import datatype_of
from turnout.replay.comparison import OutputComparison
from turnout.replay.origin import ReplayOrigin, public_url
from turnout.replay.replay import Pair, Replay, SampleReply
from turnout.replay.report import render_report
from turnout.replay.summary import Side, Summary

MOST_SENT = 1000
"""Most requests of one replay in the page; `turnout replay` sends a whole capture."""

MOST_SHOWN_PAIRS = 20
"""Most requests that are shown with both answers because the versions disagree."""

MOST_SHOWN_BYTES = 2000
"""Bytes of the body of such a request that are shown."""

MOST_SHOWN_VALUES = 64
"""Most values of one output of such an answer. Those that differ come first."""


@dataclass(frozen=True, slots=True)
class Comparing:
    """Two versions of a model, to be compared on a stage's paths.

    Args:
        stage: the stage's name.
        model: the model's name.
        canary: the version to judge.
        baseline: the version to compare with; empty for the version that answered the kept request.
    """

    stage: str
    model: str
    canary: str
    baseline: str = ""


def send_again(subject: Subject, kept: KeptRequest, stage: str, version: str) -> dict[str, Any]:
    """Send a request to a version, or without one to the version that the stage serves, and return the answer.

    The request is marked as a replay, so it is neither counted nor captured.

    Raises:
        UnreachableError: there is no answer.
        CannotSendError: the stage requires a key or a token that the console does not have.
    """
    sample = kept.sample
    sending = subject.sending(stage)
    with closing(
        Replay(sending.url, sample.model, version, stage=stage, headers=sending.headers, sign=sending.sign)
    ) as replay:
        answer = replay.ask(version, sample)
    try:
        outputs = read_outputs(answer.headers, answer.body) if answer.status == 200 else {}
    except UnreadableAnswerError:
        outputs = {}
    return {
        "status": answer.status,
        "ms": answer.elapsed_ms,
        "version": answer.headers.get("x-turnout-version", version),
        "headers": list(answer.headers.items()),
        "text": answer.body.decode(errors="replace"),
        "outputs": [describe_output(name, values) for name, values in outputs.items()],
    }


def compare(
    subject: Subject, rows: Sequence[KeptRequest], comparing: Comparing, most: int = MOST_SENT, notes: str = ""
) -> Generator[dict[str, Any]]:
    """Send requests to both versions. Yield the progress after each request, and the report at the end.

    Args:
        subject: the server.
        rows: the model's requests, newest first.
        comparing: the two versions.
        most: the number of requests to send, beginning with the newest.
        notes: which requests these are and which were left out, as sentences.
    """
    model, canary, baseline = comparing.model, comparing.canary, comparing.baseline
    chosen = [kept for kept in rows if kept.sample.model == model][:most][::-1]
    summary = Summary(Side(f"{model}/{baseline}" if baseline else "captured version"), Side(f"{model}/{canary}"))
    rules = rules_of(subject, comparing.stage)
    keys: list[dict[str, Any]] = []
    shown: list[dict[str, Any]] = []
    problem = ""
    sending = subject.sending(comparing.stage)
    with closing(
        Replay(
            sending.url,
            model,
            canary,
            baseline,
            stage=comparing.stage,
            headers=sending.headers,
            rules=rules,
            sign=sending.sign,
        )
    ) as replay:
        for pair in replay.run((number, kept.sample) for number, kept in enumerate(chosen, 1)):
            kept = chosen[pair.number - 1]
            summary.add(pair)
            keys.append({"key": kept.key, "agrees": pair.agrees})
            if pair.agrees is None and pair.canary.outputs is None:
                problem = problem or describe_refusal(pair.canary)
            if pair.agrees is False and len(shown) < MOST_SHOWN_PAIRS:
                body = "" if kept.sample.header_length else kept.sample.body[:MOST_SHOWN_BYTES].decode(errors="replace")
                shown.append({"key": kept.key, "time": kept.sample.time, "body": body, **describe_pair(pair)})
            yield {"done": pair.number, "of": len(chosen)}
    digest = hashlib.sha256(b"".join(write_line(kept.sample) + b"\n" for kept in chosen)).hexdigest()
    place = "samples" if subject.target.is_local else f"logs of {subject.target}"
    source = f"{subject.capture.name if subject.capture else place}, the latest {len(chosen)} requests"
    origin = ReplayOrigin(datetime.now(UTC), public_url(sending.url), comparing.stage, source, digest)
    yield {
        **origin.to_json(),
        **summary.to_json(),
        "requests": keys,
        "shown": shown,
        "html": render_report(summary, origin, floor=None),
        "command": command_of(subject, comparing, sending.url),
        "notes": notes,
        "problem": "" if summary.compared else problem,
    }


def rules_of(subject: Subject, stage: str) -> Mapping[str, OutputRule]:
    """The rules of a stage's canary, or else those of `defaults.canary`."""
    manifest = subject.project().manifest
    canary = next((candidate.canary for candidate in manifest.stages if candidate.name == stage), None)
    agreement = (canary.judgement if canary else manifest.judgement).agreement
    return agreement.rules if agreement else {}


def describe_refusal(reply: SampleReply) -> str:
    """The reason why a version's reply cannot be compared: its status, what it says, and the remedy if there is one."""
    words = f"HTTP {reply.status}: {reply.error[:MOST_SHOWN_BYTES]}" if reply.status else reply.error
    return " ".join(filter(None, (words, reply.hint)))


def command_of(subject: Subject, comparing: Comparing, url: str) -> str:
    """The command line that compares the whole capture; empty without a capture."""
    if subject.capture is None:
        return ""
    words = ["turnout", "replay", str(subject.capture), "--against", f"{comparing.model}/{comparing.canary}"]
    if comparing.baseline:
        words += ["--against", f"{comparing.model}/{comparing.baseline}"]
    return shlex.join([*words, "--stage", comparing.stage, "--url", url])


def describe_pair(pair: Pair) -> dict[str, Any]:
    """Both answers to a request, output by output, with their differences."""
    assert pair.baseline is not None  # the shapes disagree
    left, right = pair.baseline.outputs or {}, pair.canary.outputs or {}
    compared = pair.comparison.outputs if pair.comparison else {}
    return {
        "versions": list(pair.versions),
        "replies": [_describe_reply(pair.baseline), _describe_reply(pair.canary)],
        "outputs": [
            _describe_both(name, comparison, left.get(name), right.get(name)) for name, comparison in compared.items()
        ],
    }


def describe_output(name: str, values: Array) -> dict[str, Any]:
    """An output in the format of the Open Inference Protocol."""
    data = [plain(value) for value in values.reshape(-1)]
    return {"name": name, "datatype": datatype_of(values, None), "shape": list(values.shape), "data": data}


def plain(value: Any) -> Any:
    """An element as a JSON value: floats with the fewest digits, NaN and infinities as text."""
    if isinstance(value, np.floating | float):
        number = float(str(value))
        return number if math.isfinite(number) else str(number)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value.item() if isinstance(value, np.generic) else value


def _describe_reply(reply: SampleReply) -> dict[str, Any]:
    return {"status": reply.status, "ms": reply.duration_ms, "error": reply.error}


def _describe_both(name: str, comparison: OutputComparison, left: Array | None, right: Array | None) -> dict[str, Any]:
    """An output of both answers, with its elements in order. Elements that differ are preferred."""
    described: dict[str, Any] = {
        "name": name,
        "measure": comparison.measure,
        "agrees": comparison.agrees,
        "problem": comparison.problem,
        "max_absolute": comparison.max_absolute if math.isfinite(comparison.max_absolute) else None,
        "shapes": [None if values is None else list(values.shape) for values in (left, right)],
    }
    if left is None or right is None or left.shape != right.shape:
        sides: list[Any] = [
            () if values is None else values.reshape(-1)[:MOST_SHOWN_VALUES] for values in (left, right)
        ]
        length = max(map(len, sides))
        padded = [[plain(side[at]) if at < len(side) else None for at in range(length)] for side in sides]
        rows = [
            {"at": [at], "values": list(values), "differs": values[0] != values[1]}
            for at, values in enumerate(zip(*padded, strict=True))
        ]
        return {**described, "size": length, "differing": sum(row["differs"] for row in rows), "rows": rows}
    flat = left.reshape(-1), right.reshape(-1)
    differs = flat[0] != flat[1]
    if flat[0].dtype.kind == "f" and flat[1].dtype.kind == "f":
        differs &= ~(np.isnan(flat[0]) & np.isnan(flat[1]))
    # If there are too many elements, show only the first that differ.
    places = np.flatnonzero(differs) if flat[0].size > MOST_SHOWN_VALUES else np.arange(flat[0].size)
    rows = [
        {
            "at": [int(index) for index in np.unravel_index(place, left.shape)],
            "values": [plain(side[place]) for side in flat],
            "differs": bool(differs[place]),
        }
        for place in places[:MOST_SHOWN_VALUES]
    ]
    return {**described, "size": int(flat[0].size), "differing": int(differs.sum()), "rows": rows}

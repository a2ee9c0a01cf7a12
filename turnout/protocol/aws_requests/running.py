"""Runs a stored request in the function that answers it: reads the body from S3, and stores the answer there.

The worker that calls the function reads neither. If the worker ends before the function, the answer is there for the
next worker, and the request does not run again.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from turnout.protocol.aws.events import LambdaHandler, make_answer, read_event
from turnout.protocol.aws_requests.bucket import RequestBucket
from turnout.protocol.aws_requests.record import AnswerObject, Record
from turnout.protocol.naming import ALIAS_VARIABLE, is_pool
from turnout.protocol.requests.refusals import Refusal
from turnout.protocol.requests.runs import KEY, AsyncRun, spell_run
from turnout.protocol.routing.pooled import aim_at

STORED = "stored"
"""Key of the run's objects in an event, and of the stored answer in a proxy answer."""

IN_EVENT_BYTES = 4 * 1024 * 1024
"""The largest body inside an event; a larger one is passed as a file."""

LARGEST_METADATA_BYTES = 2000
"""The largest metadata of an object. Source: Amazon S3 User Guide, "Working with object metadata"."""

NOT_KEPT = frozenset({"content-type", "content-length", "access-control-allow-origin", "vary"})
"""Headers that are not stored in an answer's metadata."""


@dataclass(frozen=True, slots=True)
class RunObjects:
    """The objects of a run.

    Args:
        body: key of the body, or empty.
        bytes: size of the body.
        sha256: the caller's announced digest, or empty.
        answer: key of the answer.
    """

    body: str
    bytes: int
    sha256: str
    answer: str


def make_run_event(record: Record, alias: str) -> dict[str, Any]:
    """Return the event of a started run.

    Args:
        record: the request.
        alias: alias by which it is called; a router calls the versions by the same one.
    """
    said = spell_run(AsyncRun(max_answer_bytes=record.max_answer_bytes), record.event["turnout"]["draw"])
    objects = RunObjects(record.body.key, record.body.size, record.body.sha256, record.answer_key)
    variables = {**(record.event.get("stageVariables") or {}), ALIAS_VARIABLE: alias}
    event = {**record.event, "stageVariables": variables, "turnout": {KEY: {**said[KEY], STORED: asdict(objects)}}}
    return aim_at(event, record.model, record.version) if is_pool(record.function) else event


def running_stored(handle: LambdaHandler, bucket: RequestBucket) -> LambdaHandler:
    """Return a handler that also runs stored requests.

    Args:
        handle: handler of events.
        bucket: bucket of the requests.
    """

    def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        said = (event.get("turnout") or {}).get(KEY) or {}
        if STORED not in said:
            return handle(event, context)
        with tempfile.TemporaryDirectory(prefix="turnout-run-") as folder:
            return _run(handle, event, context, bucket, Path(folder))

    return handler


def _run(
    handle: LambdaHandler, event: Mapping[str, Any], context: Any, bucket: RequestBucket, folder: Path
) -> dict[str, Any]:
    said = dict(event["turnout"][KEY])
    objects = RunObjects(**said.pop(STORED))
    try:
        body = _fetch(bucket, objects, folder / "body")
    except Refusal as refusal:
        return make_answer(refusal.status, {"Content-Type": "application/json"}, json.dumps(refusal.body()).encode())
    answer_file = folder / "answer"
    said |= {**body.pop("file", {}), "answer_file": str(answer_file)}
    answer = handle({**event, **body, "turnout": {**event["turnout"], KEY: said}}, context)
    if not 200 <= int(answer["statusCode"]) < 400:
        return answer
    return _keep(bucket, objects.answer, answer, answer_file)


def _fetch(bucket: RequestBucket, objects: RunObjects, path: Path) -> dict[str, Any]:
    """Return the event's keys for the body.

    Raises:
        Refusal: UNKNOWN_REQUEST, BODY_TOO_LARGE or DIGEST_MISMATCH.
    """
    if not objects.body:
        return {"body": None, "isBase64Encoded": False}
    gone = Refusal("UNKNOWN_REQUEST", "the request's body has been deleted")
    if objects.bytes <= IN_EVENT_BYTES:
        entry = bucket.read(objects.body)
        if entry is None:
            raise gone
        _check_digest(objects.sha256, hashlib.sha256(entry[0]).hexdigest())
        return {"body": base64.b64encode(entry[0]).decode(), "isBase64Encoded": True}
    if bucket.head(objects.body) is None:
        raise gone
    free = shutil.disk_usage(path.parent).free
    if objects.bytes > free:
        message = (
            f"the body has {objects.bytes} bytes, /tmp of the version's function {free}: raise `ephemeral_storage_mb`"
        )
        raise Refusal("BODY_TOO_LARGE", message, expected=free, got=objects.bytes)
    bucket.fetch(objects.body, path)
    if objects.sha256:
        with path.open("rb") as file:
            _check_digest(objects.sha256, hashlib.file_digest(file, "sha256").hexdigest())
    return {"body": None, "isBase64Encoded": False, "file": {"body_file": str(path)}}


def _check_digest(announced: str, got: str) -> None:
    if announced and announced != got:
        message = f"the upload's SHA-256: expected {announced}, got {got}"
        raise Refusal("DIGEST_MISMATCH", message, expected=announced, got=got)


def _keep(bucket: RequestBucket, key: str, answer: Mapping[str, Any], answer_file: Path) -> dict[str, Any]:
    """Store an answer, and return a proxy answer with its place."""
    headers = {name: str(value) for name, value in (answer.get("headers") or {}).items()}
    if answer_file.exists():
        with answer_file.open("rb") as file:
            digest, size = hashlib.file_digest(file, "sha256").hexdigest(), os.fstat(file.fileno()).st_size
    else:
        _, body = read_event({"headers": {}, "body": answer.get("body"), "isBase64Encoded": answer["isBase64Encoded"]})
        digest, size = hashlib.sha256(body).hexdigest(), len(body)
    stored = AnswerObject(key, int(answer["statusCode"]), headers, size, digest)
    if answer_file.exists():
        bucket.put_file(key, answer_file, stored.content_type, metadata_of(stored))
    else:
        bucket.put(key, body, stored.content_type, metadata_of(stored))
    return {
        "statusCode": stored.status,
        "headers": headers,
        "body": "",
        "isBase64Encoded": False,
        "turnout": {STORED: {"key": key, "bytes": size, "sha256": digest}},
    }


def metadata_of(answer: AnswerObject) -> dict[str, str]:
    """Return the metadata of an answer's object: its headers, which its signed address returns, status and digest."""
    kept = {name.lower(): value for name, value in answer.headers.items() if name.lower() not in NOT_KEPT}
    kept = {name: value for name, value in kept.items() if (name + value).isascii() and value.isprintable()}
    described = {"turnout-status": str(answer.status), "turnout-sha256": answer.sha256}
    size = sum(len(name) + len(value) for name, value in described.items())
    for name, value in kept.items():
        size += len(name) + len(value)
        if size <= LARGEST_METADATA_BYTES:
            described[name] = value
    return described


def read_answer(bucket: RequestBucket, key: str) -> AnswerObject | None:
    """Return the answer that a run has stored; None if it has stored none."""
    entry = bucket.head(key)
    if entry is None:
        return None
    described = dict(entry.get("Metadata") or {})
    status, digest = int(described.pop("turnout-status", "200")), described.pop("turnout-sha256", "")
    headers = {**described, "content-type": entry.get("ContentType", "")}
    return AnswerObject(key, status, headers, int(entry["ContentLength"]), digest)

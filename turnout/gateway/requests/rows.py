"""Rows of the queue's table as values."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from turnout.protocol.requests.description import Description
from turnout.protocol.requests.states import Progress, RequestState

ROW_BYTES = 2048
"""What a request takes beside its event, its body and its answer."""


@dataclass(frozen=True, slots=True)
class Content:
    """A body or an answer: in the database, or in a file of the queue's folder.

    Args:
        data: the bytes, where `file` is empty.
        file: the file's name.
        size: in bytes.
    """

    data: bytes = b""
    file: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRequest:
    """What is accepted.

    Args:
        id: its identifier.
        stage: that accepts it.
        key_id: of the caller's API key; empty for none.
        fingerprint: equal for equal requests.
        progress: where it starts.
        function: to call.
        alias: of the function.
        is_canary: the share that was drawn.
        model: that it calls, where the path tells.
        version: the same.
        path: of the call, without the stage.
        event: the proxy event without its body, as JSON.
        body: the body.
        max_answer_bytes: the largest answer.
        callback: address of the webhook, or empty.
        callback_private: whether that may be a private one.
    """

    id: str
    stage: str
    key_id: str
    fingerprint: str
    progress: Progress
    function: str
    alias: str
    is_canary: bool
    model: str
    version: str
    path: str
    event: bytes
    body: Content
    max_answer_bytes: int
    callback: str = ""
    callback_private: bool = False

    @property
    def size(self) -> int:
        """What it counts for."""
        return ROW_BYTES + len(self.event) + self.body.size


@dataclass(frozen=True, slots=True)
class Claim:
    """A request that this process is to run, and may finish as long as nobody has taken it over."""

    seq: int
    owner: int
    attempt: int
    id: str
    stage: str
    function: str
    alias: str
    is_canary: bool
    event: bytes
    body: Content
    max_answer_bytes: int


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What a run came to.

    Args:
        status: HTTP status; 0 where the function gave no answer.
        headers: of the answer.
        content: the answer's body.
        sha256: its digest.
        version: that answered, where the answer tells.
        failure: the error in the API's shape, of a run that failed.
    """

    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    content: Content = Content()
    sha256: str = ""
    version: str = ""
    failure: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored request, its body and event aside.

    Args:
        seq: its place in the queue.
        progress: how far it has come.
        key_id: of the caller's API key.
        fingerprint: of the request.
        description: what its caller may know, but for the answer's address.
        answer: of an ended one.
        function: that it calls.
        body_bytes: size of its body.
    """

    seq: int
    progress: Progress
    key_id: str
    fingerprint: str
    description: Description
    answer: StoredAnswer
    function: str
    body_bytes: int


PROGRESS = (
    "state",
    "accepted",
    "expires",
    "time_to_live_s",
    "max_attempts",
    "attempts",
    "not_before",
    "begun",
    "ended",
)
"""The columns of a `Progress`."""


def read_progress(row: sqlite3.Row) -> Progress:
    """The progress of a row."""
    values = {name: row[name] for name in PROGRESS}
    return Progress(**{**values, "state": RequestState(values["state"])})


def progress_values(progress: Progress) -> dict[str, Any]:
    """Columns and values of a progress."""
    return {name: str(progress.state) if name == "state" else getattr(progress, name) for name in PROGRESS}


def read_stored(row: sqlite3.Row) -> Stored:
    """The request of a row."""
    headers = tuple((str(name), str(value)) for name, value in json.loads(row["headers"]))
    content_type = next((value for name, value in headers if name.lower() == "content-type"), "")
    failure = json.loads(row["failure"])
    content = Content(row["answer"] or b"", row["answer_file"], row["answer_bytes"])
    return Stored(
        row["seq"],
        read_progress(row),
        row["key_id"],
        row["fingerprint"],
        Description(
            id=row["id"],
            stage=row["stage"],
            is_canary=bool(row["is_canary"]),
            model=row["model"],
            version=row["version"],
            path=row["path"],
            status=row["status"],
            content_type=content_type,
            answer_bytes=row["answer_bytes"],
            answer_sha256=row["answer_sha256"],
            failure=failure,
            callback=row["callback_state"],
        ),
        StoredAnswer(row["status"], headers, content, row["answer_sha256"], row["version"], failure),
        row["function"],
        row["body_bytes"],
    )

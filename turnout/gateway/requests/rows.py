"""Rows of the queue's table as values."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from turnout.gateway.requests.files import Content
from turnout.protocol.requests.description import Description
from turnout.protocol.requests.states import Progress, RequestState

ROW_BYTES = 2048
"""Size of a request without its event, its body and its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRequest:
    """A request to store.

    Args:
        id: its identifier.
        stage: the stage that accepts it.
        key_id: the identifier of the caller's API key, or empty.
        fingerprint: equal for equal requests.
        progress: its initial progress.
        function: the function to call.
        alias: the function's alias.
        is_canary: whether it was drawn for the canary.
        model: the model that it calls, if the path names it.
        version: the version that it calls, if the path names it.
        path: the path of the call, without the stage.
        event: the proxy event without its body, as JSON.
        body: the body.
        max_answer_bytes: the largest answer.
        callback: the webhook's address, or empty.
        callback_private: whether the webhook may have a private address.
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
        """The bytes that it counts toward the stage's limit."""
        return ROW_BYTES + len(self.event) + self.body.size


@dataclass(frozen=True, slots=True)
class Claim:
    """A request that this process runs, and may finish unless another process has taken it over."""

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
    """The result of a run.

    Args:
        status: the HTTP status; 0 if the function returned no answer.
        headers: the answer's headers.
        content: the answer's body.
        sha256: the body's digest.
        version: the version that answered, if the answer names it.
        failure: for a run that failed, the error in the format of the API's errors.
    """

    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    content: Content = field(default_factory=Content)
    sha256: str = ""
    version: str = ""
    failure: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored request without its body and event.

    Args:
        seq: its place in the queue.
        progress: its progress.
        key_id: the identifier of the caller's API key.
        fingerprint: equal for equal requests.
        description: everything that its caller may see, except for the answer's address.
        answer: the answer, if it has ended.
        function: the function that it calls.
        body_bytes: the size of its body.
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
    """Read the progress from a row."""
    values = {name: row[name] for name in PROGRESS}
    return Progress(**{**values, "state": RequestState(values["state"])})


def progress_values(progress: Progress) -> dict[str, Any]:
    """Columns and values of a progress."""
    return {name: str(progress.state) if name == "state" else getattr(progress, name) for name in PROGRESS}


def read_stored(row: sqlite3.Row) -> Stored:
    """Read the request from a row."""
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

"""A stored request: one JSON object in S3; each step replaces it only if it has not changed meanwhile."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from turnout.protocol.aws_requests.settings import ANSWERS, BODIES, STATES
from turnout.protocol.requests.description import Description, describe
from turnout.protocol.requests.states import Progress, RequestState


@dataclass(frozen=True, slots=True)
class BodyObject:
    """A request's body. `key` is empty if there is none; `sha256` is the caller's announced digest, or empty."""

    key: str = ""
    size: int = 0
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class AnswerObject:
    """An answer: its object, status, headers and digest."""

    key: str = ""
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    size: int = 0
    sha256: str = ""

    @property
    def content_type(self) -> str:
        """Its `Content-Type`."""
        return next((value for name, value in self.headers.items() if name.lower() == "content-type"), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A request.

    Args:
        id: its identifier.
        stage: its stage.
        caller: its owner; empty if anyone may call the stage.
        fingerprint: see `turnout.protocol.requests.fingerprints`.
        function: the function that runs it, chosen at acceptance.
        alias: alias of the function.
        is_canary: whether it belongs to the canary's share.
        model: its model.
        version: its version, or the one that answered; empty until a router has chosen.
        path: path of the call, without the stage.
        event: event for the function, without a body.
        progress: its state.
        body: its body.
        max_answer_bytes: size of the largest allowed answer.
        answer: the answer when it is done; for a failed request, only the status.
        failure: the reason of the last failure, in the format of the API's errors.
        callback: address of the webhook, or empty.
        callback_private: whether the webhook may have a private address.
        callback_state: `waiting`, `delivered`, `failed`, or empty.
    """

    id: str
    stage: str
    caller: str
    fingerprint: str
    function: str
    alias: str
    is_canary: bool
    model: str
    version: str
    path: str
    event: Mapping[str, Any]
    progress: Progress
    body: BodyObject = BodyObject()
    max_answer_bytes: int = 0
    answer: AnswerObject = AnswerObject()
    failure: Mapping[str, Any] = field(default_factory=dict)
    callback: str = ""
    callback_private: bool = False
    callback_state: str = ""

    @property
    def key(self) -> str:
        """Return the key of its object."""
        return state_key(self.stage, self.id)

    @property
    def answer_key(self) -> str:
        """Return the key of the current run's answer."""
        return f"{ANSWERS}{self.stage}/{self.id}/{self.progress.attempts}-{int(self.progress.begun or 0)}"

    def to_json(self) -> bytes:
        """Return a JSON object for `from_json`."""
        return json.dumps(asdict(self), separators=(",", ":")).encode(errors="surrogatepass")

    @classmethod
    def from_json(cls, text: bytes) -> Record:
        """Return the record that `to_json` wrote. Fields added by a newer release are ignored."""
        value = json.loads(text)
        known = {entry.name for entry in fields(cls)}
        progress = {**value["progress"], "state": RequestState(value["progress"]["state"])}
        return cls(
            **{
                **{name: part for name, part in value.items() if name in known},
                "progress": Progress(**progress),
                "body": BodyObject(**value["body"]),
                "answer": AnswerObject(**value["answer"]),
            }
        )

    def describe(self, answer_address: str) -> dict[str, Any]:
        """Return the JSON object for `GET /requests/{id}`."""
        known = Description(
            id=self.id,
            stage=self.stage,
            is_canary=self.is_canary,
            model=self.model,
            version=self.version,
            path=self.path,
            status=self.answer.status,
            content_type=self.answer.content_type,
            answer_bytes=self.answer.size,
            answer_sha256=self.answer.sha256,
            answer_address=answer_address,
            failure=self.failure,
            callback=self.callback_state,
        )
        return describe(self.progress, known)


def state_key(stage: str, identifier: str) -> str:
    """Return the key of a request's object."""
    return f"{STATES}{stage}/{identifier}.json"


def body_key(stage: str, name: str) -> str:
    """Return the key of a body."""
    return f"{BODIES}{stage}/{name}"

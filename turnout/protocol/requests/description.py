"""Describes an asynchronous request to its caller, for `GET /requests/{id}`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from turnout.protocol.requests.states import Progress, RequestState


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A request's description, which does not change with its progress.

    Args:
        id: its identifier.
        stage: its stage.
        is_canary: whether it belongs to the canary's share.
        model: its model; empty if the path does not contain it.
        version: its version, or the one that answered; empty until a router has chosen.
        path: path of the call, without the stage.
        status: status of the answer; 0 without an answer.
        content_type: content type of the answer.
        answer_bytes: size of the answer.
        answer_sha256: digest of the answer.
        answer_address: address of the answer.
        failure: the error of a failed request, in the format of the API's errors.
        callback: state of the webhook; empty if there is none.
    """

    id: str
    stage: str
    is_canary: bool = False
    model: str = ""
    version: str = ""
    path: str = ""
    status: int = 0
    content_type: str = ""
    answer_bytes: int = 0
    answer_sha256: str = ""
    answer_address: str = ""
    failure: Mapping[str, Any] = field(default_factory=dict)
    callback: str = ""


def api_answer_path(prefix: str, identifier: str) -> str:
    """Return the path of a request's answer in the API.

    Args:
        prefix: the path before `/requests`: the stage's, or a domain's base path.
        identifier: the request's.
    """
    return f"{prefix}/requests/{identifier}/answer"


def describe(progress: Progress, known: Description) -> dict[str, Any]:
    """Return the JSON object that describes a request."""
    described: dict[str, Any] = {
        "id": known.id,
        "state": str(progress.state),
        "stage": known.stage,
        "share": "canary" if known.is_canary else "baseline",
        "model": known.model,
        "version": known.version,
        "path": known.path,
        "attempts": progress.attempts,
        "accepted": spell_time(progress.accepted),
        "begun": spell_time(progress.begun),
        "ended": spell_time(progress.ended),
        "expires": spell_time(progress.expires),
    }
    if progress.state is RequestState.DONE:
        described["answer"] = {
            "address": known.answer_address,
            "status": known.status,
            "content_type": known.content_type,
            "bytes": known.answer_bytes,
            "sha256": known.answer_sha256,
        }
    if known.failure and progress.state is not RequestState.DONE:
        described["error"] = {**known.failure, "status": known.status} if known.status else dict(known.failure)
    if known.callback:
        described["callback"] = known.callback
    return described


def spell_time(seconds: float | None) -> str | None:
    """Return `2026-11-30T12:00:00.000Z`; None for None."""
    if seconds is None:
        return None
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{int(seconds * 1000) % 1000:03d}Z"

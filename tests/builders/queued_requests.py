"""Requests for the queue of asynchronous inference."""

from __future__ import annotations

from typing import Any

from turnout.gateway.requests.files import Content
from turnout.gateway.requests.rows import NewRequest
from turnout.protocol.requests import states


def new_request(identifier: str, **changes: Any) -> NewRequest:
    """A request to stage `dev` that was accepted at time 0 and may be tried three times; `changes` replace
    its fields.
    """
    fields: dict[str, Any] = {
        "stage": "dev",
        "key_id": "",
        "fingerprint": "a:b:",
        "progress": states.accept(0.0, 1e9, 3),
        "function": "f",
        "alias": "live",
        "is_canary": False,
        "model": "m",
        "version": "v1",
        "path": "/models/m/inference",
        "event": b"{}",
        "body": Content(),
        "max_answer_bytes": 1,
    }
    return NewRequest(id=identifier, **{**fields, **changes})

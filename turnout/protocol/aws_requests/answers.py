"""Describes requests to their callers, as proxy answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from turnout.protocol.aws.cors import cors_headers
from turnout.protocol.aws.events import make_answer
from turnout.protocol.aws_requests.callers import find_prefix
from turnout.protocol.aws_requests.record import Record
from turnout.protocol.aws_requests.store import RequestStore
from turnout.protocol.requests.description import api_answer_path
from turnout.protocol.requests.refusals import Refusal
from turnout.protocol.requests.states import ENDED

RETRY_AFTER_S = 1

LARGEST_DIRECT_BYTES = 4 * 1024 * 1024
"""The largest answer that `/requests/{id}/answer` returns directly: it fits into a function's answer in base64."""

ADDRESS_S = 3600.0
"""How long an answer's signed address is valid."""


def answer_json(
    event: Mapping[str, Any], value: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return a proxy answer with a JSON value."""
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
    return make_answer(status, {"Content-Type": "application/json", **(headers or {}), **cors_headers(event)}, body)


def refuse(event: Mapping[str, Any], refusal: Refusal) -> dict[str, Any]:
    """Return the proxy answer to a refused request."""
    headers = {}
    if refusal.code == "NOT_DONE" and refusal.details["state"] not in ENDED:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    return answer_json(event, refusal.body(), refusal.status, headers)


def show(
    event: Mapping[str, Any],
    store: RequestStore,
    record: Record,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the proxy answer that describes a request."""
    retry = {} if record.progress.has_ended else {"Retry-After": str(RETRY_AFTER_S)}
    address = find_answer_address(event, store, record)
    return answer_json(event, record.describe(address), status, {**retry, **(headers or {})})


def accepted(event: Mapping[str, Any], store: RequestStore, record: Record, *, is_new: bool) -> dict[str, Any]:
    """Return the proxy answer to a request that is accepted now or was before."""
    headers = {"Location": f"{find_prefix(event)}/requests/{record.id}"}
    if event["httpMethod"] == "POST":
        headers["Preference-Applied"] = "respond-async"
    return show(event, store, record, 202 if is_new else 200, headers)


def find_answer_address(event: Mapping[str, Any], store: RequestStore, record: Record) -> str:
    """Return the address of the answer: at the API, or a signed address of S3 if it is large."""
    if record.answer.size <= LARGEST_DIRECT_BYTES:
        return api_answer_path(find_prefix(event), record.id)
    return store.bucket.sign_get(record.answer.key, min(ADDRESS_S, record.progress.expires - store.clock()))

"""Reads a function's response, a proxy response or a failure, and makes the router's answer for the caller.

If a function fails and has no fallback, the caller gets what API Gateway returns when it calls the function itself: the
same status and body.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from turnout.protocol.aws.cors import cors_headers
from turnout.protocol.aws.events import make_answer
from turnout.protocol.errors import RequestError
from turnout.protocol.routing.invocation import Answered

_KEYS = frozenset({"statusCode", "headers", "multiValueHeaders", "body", "isBase64Encoded", "turnout"})
"""The last key names the file with the body of an asynchronous run."""


@dataclass(frozen=True, slots=True)
class GatewayError:
    """API Gateway's error: status, `x-amzn-ErrorType` and message."""

    status: int
    kind: str
    message: str


FAILURES: Mapping[str, GatewayError] = {
    "failed": GatewayError(502, "InternalServerErrorException", "Internal server error"),
    "timed_out": GatewayError(504, "InternalServerErrorException", "Endpoint request timed out"),
    "throttled": GatewayError(429, "TooManyRequestsException", "Too Many Requests"),
    "too_large": GatewayError(502, "InternalServerErrorException", "Internal server error"),
    "request_too_large": GatewayError(413, "BadRequestException", "Request Too Long"),
    "unknown_function": GatewayError(500, "InternalServerErrorException", "Internal server error"),
    "unknown_route": GatewayError(403, "MissingAuthenticationTokenException", "Missing Authentication Token"),
}
"""Errors by `Answered.error`; `unknown_route` is for a path that API Gateway would not have."""


def check_answered(answered: Answered) -> Answered:
    """Return the answer, or a failure if API Gateway would not accept the function's response."""
    if answered.error:
        return answered
    wrong = _find_wrong(answered.answer)
    return Answered(None, "failed", f"malformed answer: {wrong}") if wrong else answered


def _find_wrong(answer: Any) -> str:
    """Return what is wrong with a function's response; empty if nothing is."""
    if not isinstance(answer, Mapping):
        return f"must be an object, got {type(answer).__name__}"
    unknown = next((key for key in answer if key not in _KEYS), None)
    if unknown is not None:
        return f"unknown key {unknown!r}"
    if not 200 <= status_of(answer) <= 599:
        return f"statusCode must be 200-599, got {answer.get('statusCode')!r}"
    for key, kinds in (("headers", Mapping), ("multiValueHeaders", Mapping), ("body", str), ("isBase64Encoded", bool)):
        value = answer.get(key)
        if value is not None and not isinstance(value, kinds):
            return f"{key} cannot be {type(value).__name__}"
    return ""


def status_of(answer: Mapping[str, Any]) -> int:
    """Return a proxy response's status: 200 if it has none, as in API Gateway; 0 if it cannot be read."""
    status = answer.get("statusCode", 200)
    if isinstance(status, str) and status.isdecimal() and len(status) < 5:
        return int(status)
    return status if type(status) is int else 200 if status is None else 0


def with_headers(answer: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
    """Return a function's response with additional headers."""
    return {**answer, "headers": {**(answer.get("headers") or {}), **headers}}


def with_cors(answer: dict[str, Any], event: Mapping[str, Any]) -> dict[str, Any]:
    """Return a response with CORS headers; a function that failed sends none."""
    headers = cors_headers(event)
    return with_headers(answer, headers) if headers else answer


def answer_failure(error: str) -> dict[str, Any]:
    """Return the proxy response to a failed call: what API Gateway would return."""
    failure = FAILURES.get(error, FAILURES["failed"])
    headers = {"Content-Type": "application/json", "x-amzn-ErrorType": failure.kind, **_retry_after(failure.status)}
    # As API Gateway writes it: without a space if the request has no route.
    body = json.dumps({"message": failure.message}, separators=(",", ":") if failure.status == 403 else None)
    return make_answer(failure.status, headers, body.encode())


def answer_error(error: RequestError) -> dict[str, Any]:
    """Return the proxy response to a request that the router itself rejects."""
    body = json.dumps(error.body(), ensure_ascii=False, separators=(",", ":"), default=str).encode(errors="replace")
    return make_answer(error.status, {"Content-Type": "application/json", **_retry_after(error.status)}, body)


def _retry_after(status: int) -> dict[str, str]:
    """Return a `Retry-After` header for errors that a retry may solve."""
    return {"Retry-After": "1"} if status in {429, 503} else {}

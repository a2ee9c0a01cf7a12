"""A function's answer as a router sees it: a proxy answer, or why there is none; and what the caller then gets.

Where a function fails and nothing takes its place, the caller reads what API Gateway says when it calls that function
itself: the same status, the same body.
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
"""The last names the file that holds the body, of an asynchronous run."""


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
"""By `Answered.error`; `unknown_route` is for a path that API Gateway would not have."""


def check_answered(answered: Answered) -> Answered:
    """The same, or a failure where the function's answer is none that API Gateway would take."""
    if answered.error:
        return answered
    wrong = _find_wrong(answered.answer)
    return Answered(None, "failed", f"malformed answer: {wrong}") if wrong else answered


def _find_wrong(answer: Any) -> str:
    """The fault of a function's answer; empty where there is none."""
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
    """A proxy answer's status, 200 where it has none as for API Gateway; 0 where it cannot be read."""
    status = answer.get("statusCode", 200)
    if isinstance(status, str) and status.isdecimal() and len(status) < 5:
        return int(status)
    return status if type(status) is int else 200 if status is None else 0


def with_headers(answer: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
    """A function's response with more headers."""
    return {**answer, "headers": {**(answer.get("headers") or {}), **headers}}


def with_cors(answer: dict[str, Any], event: Mapping[str, Any]) -> dict[str, Any]:
    """A response with what it says to browsers; it may have come from a function that failed and says nothing."""
    headers = cors_headers(event)
    return with_headers(answer, headers) if headers else answer


def answer_failure(error: str) -> dict[str, Any]:
    """The proxy answer to a call that failed: what API Gateway would say."""
    failure = FAILURES.get(error, FAILURES["failed"])
    headers = {"Content-Type": "application/json", "x-amzn-ErrorType": failure.kind, **_retry_after(failure.status)}
    # As API Gateway writes it: without a space if the request has no route.
    body = json.dumps({"message": failure.message}, separators=(",", ":") if failure.status == 403 else None)
    return make_answer(failure.status, headers, body.encode())


def answer_error(error: RequestError) -> dict[str, Any]:
    """The proxy answer to a request that the router itself refuses."""
    body = json.dumps(error.body(), ensure_ascii=False, separators=(",", ":"), default=str).encode(errors="replace")
    return make_answer(error.status, {"Content-Type": "application/json", **_retry_after(error.status)}, body)


def _retry_after(status: int) -> dict[str, str]:
    """`Retry-After` where trying again is the remedy."""
    return {"Retry-After": "1"} if status in {429, 503} else {}

"""Reads API Gateway's proxy events (version 1), and makes proxy answers.

Events contain the body as text or, since the API declares the binary media type `*/*`, in base64 whatever its content:
only `isBase64Encoded` shows which. Answers contain text as text and binary bodies in base64.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Mapping
from typing import Any

from turnout.protocol.errors import RequestError
from turnout.protocol.requests.runs import map_file, read_run

try:
    import pybase64 as base64
except ImportError:  # pragma: no cover - a layer without it is slower by 1 ms per 600 KB
    import base64  # type: ignore[no-redef]

LambdaHandler = Callable[[Mapping[str, Any], Any], dict[str, Any]]
"""Takes a proxy event and a context, as Lambda passes them, and returns a proxy response."""

LENGTH_HEADER = "inference-header-content-length"
"""The length of the JSON in a body with binary tensors."""

PING: Mapping[str, Any] = {"turnout": {"ping": True}}
"""The event that checks whether a model function runs. API Gateway's events have no key `turnout`, so no client can
send it.
"""


def is_ping(event: Mapping[str, Any]) -> bool:
    """Whether the event is only such a check."""
    said = event.get("turnout")
    return said is not None and "ping" in said


def is_canary(event: Mapping[str, Any]) -> bool:
    """Whether the request belongs to the canary's share of its stage.

    `isCanaryRequest` is the gateway's random choice. If the event does not have it, the stage variable `canary` counts,
    which a canary started by Turnout overrides with `true`. If the overrides are copied to the stage's variables, it
    stays `true` there for every request.
    """
    drawn = (event.get("requestContext") or {}).get("isCanaryRequest")
    if drawn is not None:
        return drawn is True or drawn == "true"
    return (event.get("stageVariables") or {}).get("canary") == "true"


def read_event(event: Mapping[str, Any]) -> tuple[dict[str, str], bytes]:
    """Return the request's headers, with names in lower case, and its body; both are empty if null in the event.

    The body of an asynchronous run may be a mapped file instead of bytes.

    Raises:
        RequestError: INVALID_REQUEST if the body is not valid base64 although the event says so.
    """
    headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    body = event.get("body")
    if body is None:
        run = read_run(event)
        return headers, map_file(run.body_file) if run is not None and run.body_file else b""
    if type(body) is not str:
        message = "the event's body: expected text, got a value of another type"
        raise RequestError("INVALID_REQUEST", message, expected="text", got=type(body).__name__)
    if not event.get("isBase64Encoded"):
        return headers, body.encode(errors="surrogatepass")  # lone surrogates are kept for the JSON reader to reject
    try:
        return headers, base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        message = "the event's body: expected base64, as isBase64Encoded says, got other text"
        raise RequestError("INVALID_REQUEST", message, expected="base64", got="other text") from None


def make_answer(status: int, headers: dict[str, str], body: bytes, *, binary: bool = False) -> dict[str, Any]:
    """Return a proxy answer. `body` is UTF-8 text unless it is `binary`."""
    return {
        "statusCode": status,
        "headers": headers,
        "body": base64.b64encode(body).decode() if binary else body.decode(),
        "isBase64Encoded": binary,
    }

"""API Gateway's proxy events (version 1), read, and its proxy answers, made.

Events carry the body as text or, since the API declares the binary media type `*/*`, in base64 whatever it holds:
only `isBase64Encoded` says which. Text goes back as text, binary bodies in base64.
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
"""The event that asks a model function whether it is there. API Gateway makes no key `turnout`: no client sends it."""


def is_ping(event: Mapping[str, Any]) -> bool:
    """Whether nothing but a sign of life is asked for."""
    said = event.get("turnout")
    return said is not None and "ping" in said


def is_canary(event: Mapping[str, Any]) -> bool:
    """Whether the request belongs to the canary's share of its stage.

    `isCanaryRequest` is the result of the gateway's draw. Where the event does not have it, the stage variable `canary`
    counts, which a canary that Turnout started overrides with `true`. A copy of the overrides onto the stage's
    variables leaves it `true` there, for every request.
    """
    drawn = (event.get("requestContext") or {}).get("isCanaryRequest")
    if drawn is not None:
        return drawn is True or drawn == "true"
    return (event.get("stageVariables") or {}).get("canary") == "true"


def read_event(event: Mapping[str, Any]) -> tuple[dict[str, str], bytes]:
    """The request's headers, names in lower case, and its body; no header and no body where the event has null.

    The body of an asynchronous run may be a mapped file instead of bytes.

    Raises:
        RequestError: INVALID_REQUEST where the body is not the base64 that the event says it is.
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
    """A proxy answer. `body` is UTF-8 text unless it is `binary`."""
    return {
        "statusCode": status,
        "headers": headers,
        "body": base64.b64encode(body).decode() if binary else body.decode(),
        "isBase64Encoded": binary,
    }

"""Responses of the general router itself: JSON, and the rejection of methods that a path does not have.

This uses the standard library's json, because routers have no layer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from turnout.protocol.aws.events import make_answer
from turnout.protocol.aws.limits import LARGEST_BODY_BYTES, escaped_bytes
from turnout.protocol.codecs.content_encoding import accepts_gzip
from turnout.protocol.errors import RequestError


def answer_json(value: Any, status: int = 200, *, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the proxy response with a value as JSON; see `answer_text`."""
    return answer_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")), status, event=event)


def answer_text(text: str, status: int = 200, *, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the proxy response with a JSON text, compressed if Lambda would reject it otherwise.

    Args:
        text: the JSON.
        status: the response's status.
        event: the request, for a response that may be large: it says whether the client accepts gzip.

    Raises:
        RequestError: ANSWER_TOO_LARGE, if Lambda would reject the response.
    """
    body = text.encode(errors="replace")
    headers = {"Content-Type": "application/json"}
    size = escaped_bytes(body)
    if size <= LARGEST_BODY_BYTES:
        return make_answer(status, headers, body)
    message = f"the response: expected at most {LARGEST_BODY_BYTES} bytes, escaped as Lambda passes it on, got {size}"
    if event is not None and not accepts_gzip(_accepted_by(event)):
        message += "; with `Accept-Encoding: gzip` it is compressed"
    elif event is not None:
        import gzip  # hardly any response needs it

        compressed = gzip.compress(body, mtime=0)
        if len(compressed) * 4 // 3 + 4 <= LARGEST_BODY_BYTES:
            headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
            return make_answer(status, headers, compressed, binary=True)
    raise RequestError("ANSWER_TOO_LARGE", message, expected=LARGEST_BODY_BYTES, got=size)


def _accepted_by(event: Mapping[str, Any]) -> str:
    headers = event.get("headers") or {}
    return next((value for name, value in headers.items() if name.lower() == "accept-encoding"), "")


def check_method(event: Mapping[str, Any], allowed: str) -> None:
    """Raise METHOD_NOT_ALLOWED for every method but one."""
    got = event["httpMethod"]
    if got != allowed and (got, allowed) != ("HEAD", "GET"):
        message = f"{event['path'][:120]}: expected {allowed}, got {got[:20]}"
        raise RequestError("METHOD_NOT_ALLOWED", message, expected=allowed, got=got[:20])

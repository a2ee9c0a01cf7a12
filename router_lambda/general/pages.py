"""Responses of the general router itself: JSON, and the rejection of methods that a path does not have.

This uses the standard library's json, because routers have no layer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from turnout.protocol.aws.events import make_answer
from turnout.protocol.aws.limits import LARGEST_BODY_BYTES, escaped_bytes
from turnout.protocol.errors import RequestError


def answer_json(value: Any, status: int = 200) -> dict[str, Any]:
    """Return the proxy response with a value as JSON; see `answer_text`."""
    return answer_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")), status)


def answer_text(text: str, status: int = 200) -> dict[str, Any]:
    """Return the proxy response with a JSON text.

    Raises:
        RequestError: ANSWER_TOO_LARGE, if Lambda would reject the response.
    """
    body = text.encode(errors="replace")
    size = escaped_bytes(body)
    if size > LARGEST_BODY_BYTES:
        message = (
            f"the response: expected at most {LARGEST_BODY_BYTES} bytes, escaped as Lambda passes it on, got {size}"
        )
        raise RequestError("ANSWER_TOO_LARGE", message, expected=LARGEST_BODY_BYTES, got=size)
    return make_answer(status, {"Content-Type": "application/json"}, body)


def check_method(event: Mapping[str, Any], allowed: str) -> None:
    """Raise METHOD_NOT_ALLOWED for every method but one."""
    got = event["httpMethod"]
    if got != allowed and (got, allowed) != ("HEAD", "GET"):
        message = f"{event['path'][:120]}: expected {allowed}, got {got[:20]}"
        raise RequestError("METHOD_NOT_ALLOWED", message, expected=allowed, got=got[:20])

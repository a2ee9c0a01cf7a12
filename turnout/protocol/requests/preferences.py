"""Reads a caller's preferences for an asynchronous request: `Prefer`, and the caller's own identifier."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from turnout.protocol.requests.refusals import Refusal

_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
IDENTIFIER_RULE = "1-128 letters, digits, dots, hyphens and underscores, beginning with a letter or digit"


def asks_for_async(prefer: str) -> bool:
    """Whether a `Prefer` header contains `respond-async` (RFC 7240)."""
    names = (part.partition(";")[0].partition("=")[0].strip().lower() for part in prefer.split(","))
    return "respond-async" in names


def wants_later(event: Mapping[str, Any]) -> bool:
    """Whether an event is an asynchronous inference. Events forwarded by a router are not."""
    if "turnout" in event or event.get("httpMethod") != "POST" or "requestContext" not in event:
        return False
    headers = event.get("headers") or {}
    return any(name.lower() == "prefer" and asks_for_async(value) for name, value in headers.items())


def is_identifier(text: str) -> bool:
    """Whether this is a valid identifier of a request."""
    return _IDENTIFIER.fullmatch(text) is not None


def check_identifier(identifier: str) -> None:
    """Reject an invalid identifier.

    Raises:
        Refusal: INVALID_IDENTIFIER.
    """
    if not is_identifier(identifier):
        raise Refusal("INVALID_IDENTIFIER", f"the identifier: expected {IDENTIFIER_RULE}, got {identifier[:50]!r}")

"""A caller's preferences for an asynchronous request: `Prefer`, and an identifier of its own."""

from __future__ import annotations

import re

from turnout.protocol.requests.refusals import Refusal

_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
IDENTIFIER_RULE = "1-128 letters, digits, dots, hyphens and underscores, beginning with a letter or digit"


def asks_for_async(prefer: str) -> bool:
    """Whether a `Prefer` header holds `respond-async` (RFC 7240)."""
    names = (part.partition(";")[0].partition("=")[0].strip().lower() for part in prefer.split(","))
    return "respond-async" in names


def is_identifier(text: str) -> bool:
    """Whether a request can be called this."""
    return _IDENTIFIER.fullmatch(text) is not None


def check_identifier(identifier: str) -> None:
    """Reject an invalid identifier.

    Raises:
        Refusal: INVALID_IDENTIFIER.
    """
    if not is_identifier(identifier):
        raise Refusal("INVALID_IDENTIFIER", f"the identifier: expected {IDENTIFIER_RULE}, got {identifier[:50]!r}")

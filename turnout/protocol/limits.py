"""What Lambda hands on. Called by whoever writes an answer or calls a function; without numpy, so that routers can."""

from __future__ import annotations

LARGEST_ANSWER_BYTES = 6_291_556
"""An answer, as JSON (6 MB and a little; the number stands in Lambda's own error message)."""

LARGEST_BODY_BYTES = LARGEST_ANSWER_BYTES - 1024
"""What of it the body may take, as a JSON string; the rest is for the status and the headers."""

LARGEST_COPY_BYTES = 1024 * 1024
"""An event that nobody waits for the answer of."""


def escaped_bytes(text: bytes) -> int:
    """What a body of JSON text takes as a JSON string."""
    return len(text) + text.count(b'"') + text.count(b"\\")

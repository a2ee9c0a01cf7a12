"""Payload limits of API Gateway and Lambda, in bytes. Every other module imports them from here.

The module is in every zip and imports nothing, so routers start without numpy. Source: API Gateway and Lambda quotas.
The two numbers near 6 MB are from Lambda's own messages: "Request must be smaller than 6291456 bytes for the
InvokeFunction operation", "Response payload size exceeded maximum allowed payload size (6291556 bytes)".
"""

from __future__ import annotations

LARGEST_REQUEST_BYTES = 10 * 1024 * 1024
"""Largest request body that API Gateway accepts, both compressed and decompressed."""

LARGEST_HEADERS_BYTES = 10_240
"""Largest total of a request's header lines."""

LARGEST_EVENT_BYTES = 6_291_456
"""Largest payload of a synchronous invocation."""

LARGEST_ASYNC_EVENT_BYTES = 1024 * 1024
"""Largest payload of an asynchronous invocation."""

LARGEST_ANSWER_BYTES = 6_291_556
"""Largest response of a function, as JSON."""

LARGEST_BODY_BYTES = LARGEST_ANSWER_BYTES - 1024
"""Largest body in a function's response, as a JSON string. The rest is for the status and the headers."""

LARGEST_LOG_LINE_BYTES = 255 * 1024
"""Longest line that a function logs. Lambda splits longer ones at 256 KB."""


def escaped_bytes(text: bytes) -> int:
    """Return the size of a JSON text as a JSON string."""
    return len(text) + text.count(b'"') + text.count(b"\\")

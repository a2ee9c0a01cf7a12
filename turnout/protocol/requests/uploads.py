"""Announcements of large bodies: the caller's request, and the response."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from turnout.protocol.requests.refusals import Refusal

MB = 1024 * 1024

PART_BYTES = 64 * MB
"""Size of every part of an upload except the last. S3 allows 10,000 parts of 5 MB or more."""

UPLOAD_S = 3600.0
"""How long an upload may take, including the wait for the request that uses it."""


def read_wish(body: bytes, max_bytes: int) -> tuple[int, str]:
    """Return the size and digest, or an empty text, of the announced body.

    Raises:
        Refusal: INVALID_UPLOAD or BODY_TOO_LARGE.
    """
    try:
        wish = json.loads(body)
    except ValueError:
        wish = None
    if not isinstance(wish, dict):
        raise Refusal("INVALID_UPLOAD", 'the body: expected an object like {"bytes": 20000000, "sha256": "..."}')
    unknown = sorted(wish.keys() - {"bytes", "sha256"})
    if unknown:
        raise Refusal("INVALID_UPLOAD", f"unknown field `{unknown[0][:50]}`: expected `bytes` and `sha256`")
    size, digest = wish.get("bytes"), wish.get("sha256", "")
    if type(size) is not int or size < 1:
        raise Refusal("INVALID_UPLOAD", "`bytes`: expected the body's size, a whole number of 1 or more")
    is_digest = isinstance(digest, str) and (not digest or (len(digest) == 64 and _is_hexadecimal(digest)))
    if not is_digest:
        raise Refusal("INVALID_UPLOAD", "`sha256`: expected 64 hexadecimal digits")
    if size > max_bytes:
        message = f"the body: expected at most {max_bytes} bytes, got {size}"
        raise Refusal("BODY_TOO_LARGE", message, expected=max_bytes, got=size)
    return size, digest.lower()


def _is_hexadecimal(text: str) -> bool:
    return all(character in "0123456789abcdefABCDEF" for character in text)


def part_sizes(size: int, part_bytes: int = PART_BYTES) -> list[int]:
    """Return the size of each part of a body."""
    whole, rest = divmod(size, part_bytes)
    return [part_bytes] * whole + ([rest] if rest else [])


def describe_upload(
    identifier: str, size: int, addresses: Sequence[str], expires: str | None, part_bytes: int = PART_BYTES
) -> dict[str, Any]:
    """Return the JSON object for the caller."""
    return {
        "id": identifier,
        "bytes": size,
        "expires": expires,
        "parts": [
            {"address": address, "first_byte": number * part_bytes, "bytes": part}
            for number, (address, part) in enumerate(zip(addresses, part_sizes(size, part_bytes), strict=True))
        ],
    }

"""Large bodies: announced, sent in parts to signed addresses, and taken as the body of a request."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any

import orjson

from turnout.gateway.requests.files import Content, Files
from turnout.gateway.requests.policies import MB
from turnout.gateway.requests.store import check_room
from turnout.protocol.requests.refusals import Refusal

PART_BYTES = 64 * MB
"""Of every part of an upload but the last. S3 allows 10,000 parts of 5 MB or more."""

UPLOAD_S = 3600.0
"""How long an upload may take, and wait for the request whose body it is."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An announced body."""

    id: str
    stage: str
    key_id: str
    size: int
    sha256: str
    part_bytes: int
    expires: float

    @property
    def part_sizes(self) -> list[int]:
        """Size of each part."""
        whole, rest = divmod(self.size, self.part_bytes)
        return [self.part_bytes] * whole + ([rest] if rest else [])


def read_wish(body: bytes, max_bytes: int) -> tuple[int, str]:
    """Return size and digest, or an empty text, of the body that a caller announces.

    Raises:
        Refusal: INVALID_UPLOAD or BODY_TOO_LARGE.
    """
    try:
        wish = orjson.loads(body)
    except orjson.JSONDecodeError:
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


def announce(connection: sqlite3.Connection, upload: Upload, max_stored_bytes: int) -> None:
    """Reserve room for an upload.

    Raises:
        Refusal: STORAGE_FULL.
    """
    check_room(connection, upload.stage, upload.size, max_stored_bytes)
    connection.execute(
        "INSERT INTO uploads (id, stage, key_id, size, sha256, part_bytes, expires) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (upload.id, upload.stage, upload.key_id, upload.size, upload.sha256, upload.part_bytes, upload.expires),
    )


def find_upload(connection: sqlite3.Connection, identifier: str) -> Upload | None:
    """Return the upload of an identifier; None where there is none."""
    row = connection.execute(
        "SELECT id, stage, key_id, size, sha256, part_bytes, expires FROM uploads WHERE id = ?", (identifier,)
    ).fetchone()
    return None if row is None else Upload(*row)


def take_content(files: Files, upload: Upload) -> tuple[Content, str]:
    """Return the content of a complete upload, and its SHA-256. Reads and writes all of it.

    Raises:
        Refusal: UPLOAD_INCOMPLETE or DIGEST_MISMATCH.
    """
    joined = files.join(upload.id, upload.part_sizes)
    if isinstance(joined, int):
        parts = len(upload.part_sizes)
        message = f"part {joined} of 0-{parts - 1} of the upload has not arrived: PUT it to its address first"
        raise Refusal("UPLOAD_INCOMPLETE", message, part=joined)
    content, digest = joined
    if upload.sha256 and digest != upload.sha256:
        files.delete(content.file)
        message = f"the upload's SHA-256: expected {upload.sha256}, got {digest}"
        raise Refusal("DIGEST_MISMATCH", message, expected=upload.sha256, got=digest)
    return content, digest


def describe_upload(upload: Upload, addresses: list[str], expires: str | None) -> dict[str, Any]:
    """Return the JSON object that the caller gets."""
    return {
        "id": upload.id,
        "bytes": upload.size,
        "expires": expires,
        "parts": [
            {"address": address, "first_byte": number * upload.part_bytes, "bytes": size}
            for number, (address, size) in enumerate(zip(addresses, upload.part_sizes, strict=True))
        ],
    }

"""Large bodies: announced, sent in parts to signed addresses, and used as the body of a request."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from turnout.gateway.requests.files import Content, Files
from turnout.gateway.requests.store import check_room
from turnout.protocol.requests.refusals import Refusal
from turnout.protocol.requests.uploads import part_sizes


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
        """The size of each part."""
        return part_sizes(self.size, self.part_bytes)


def announce(connection: sqlite3.Connection, upload: Upload, max_stored_bytes: int) -> None:
    """Reserve space for an upload.

    Raises:
        Refusal: STORAGE_FULL.
    """
    check_room(connection, upload.stage, upload.size, max_stored_bytes)
    connection.execute(
        "INSERT INTO uploads (id, stage, key_id, size, sha256, part_bytes, expires) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (upload.id, upload.stage, upload.key_id, upload.size, upload.sha256, upload.part_bytes, upload.expires),
    )


def find_upload(connection: sqlite3.Connection, identifier: str) -> Upload | None:
    """Return the upload with an identifier; None if there is none."""
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

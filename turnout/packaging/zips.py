"""Reproducible zip files: equal contents give equal bytes on any machine.

Source: PKWARE APPNOTE 4.4.6 (the earliest time a zip can hold is 1980-01-01).
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from turnout.system.files import file_digest
from turnout.system.processes import check_ending

EARLIEST = (1980, 1, 1, 0, 0, 0)

Content = bytes | Path
"""A file's bytes, or its path (large files are not read into memory)."""


def write_zip(target: Path, files: Mapping[str, Content]) -> None:
    """Write `files` (archive name -> content) to `target` completely or not at all.

    Deflate has the fixed level 6, so bytes are equal; Lambda's limit of 50 MB counts compressed bytes.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, unfinished = tempfile.mkstemp(dir=target.parent, suffix=".part")
    try:
        with (
            os.fdopen(handle, "wb") as stream,
            zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive,
        ):
            for name in sorted(files):
                _write_entry(archive, name, files[name])
        Path(unfinished).chmod(0o644)
        Path(unfinished).replace(target)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise


def _write_entry(archive: zipfile.ZipFile, name: str, content: Content) -> None:
    entry = zipfile.ZipInfo(name, EARLIEST)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3  # Unix on every machine: only then are the modes below read
    executable = name.endswith(".so") or ".so." in name
    entry.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
    if isinstance(content, bytes):
        archive.writestr(entry, content)
        return
    entry.file_size = content.stat().st_size
    with content.open("rb") as source, archive.open(entry, "w") as stream:
        while chunk := source.read(1 << 20):
            check_ending()
            stream.write(chunk)


def content_digest(content: Content) -> str:
    """Return the SHA-256 of one file's bytes, 64 hex digits."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    return file_digest(content)


def unzipped_bytes(path: Path) -> int:
    """Return the size that counts for Lambda's limit of 250 MB: the sum of the entries' sizes."""
    with zipfile.ZipFile(path) as archive:
        return sum(entry.file_size for entry in archive.infolist())

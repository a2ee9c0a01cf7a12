"""Files on this machine: written whole or not at all, their room, their digests."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

PRIVATE = 0o600
"""The mode of a file that only its owner may read."""


def write_whole(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace a file: readers see the old one or the new one, also when the disk fills up meanwhile.

    Args:
        path: of the file; its folder exists.
        data: its content.
        mode: of the file; `PRIVATE` keeps it from everybody else.

    Raises:
        OSError: it cannot be written; the old file is untouched, and nothing is left beside it.
    """
    path = Path(os.path.realpath(path))  # a symlink stays and then points to the new file
    if path.exists() and not path.is_file():  # a pipe or a terminal has no content to replace
        path.write_bytes(data)
        return
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        if mode != PRIVATE:
            Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def file_digest(path: Path) -> str:
    """Return a file's SHA-256, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_room(folder: Path, size_bytes: int) -> None:
    """Raise OSError where a file of that size cannot be written into a folder: a full disk, a quota, a limit."""
    with tempfile.TemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, max(1, size_bytes))

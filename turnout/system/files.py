"""Files on this machine: atomic writes, free space, digests."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

PRIVATE = 0o600
"""The mode of a file that only its owner may read."""


def write_whole(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace a file atomically: readers see the old one or the new one, even if the disk becomes full meanwhile.

    Args:
        path: path of the file; its folder exists.
        data: content of the file.
        mode: mode of the file; with `PRIVATE`, only its owner can read it.

    Raises:
        OSError: it cannot be written; the old file is unchanged, and no other file remains.
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
    """Raise OSError if a file of that size cannot be written into a folder.

    The reason is a full disk, a quota or a limit.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, max(1, size_bytes))

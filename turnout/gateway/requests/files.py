"""Stores bodies and answers that are too large for the database, as files that are written atomically."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

INLINE_BYTES = 16_384
"""Content up to this size is stored in the database, where it costs less than a file."""

COPIED_BYTES = 1024 * 1024
"""Size of the pieces in which a file is read."""

ABANDONED_S = 3600.0
"""Age at which an unreferenced file is deleted. A body is stored before its request."""

_NAME = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Content:
    """A body or an answer: in the database, or in a file of the queue's folder.

    Args:
        data: the bytes, if `file` is empty.
        file: the file's name.
        size: in bytes.
    """

    data: bytes = b""
    file: str = ""
    size: int = 0


class Files:
    """The folder of all files. Several threads and processes may use it at once.

    Args:
        folder: the queue's folder. Subfolders are created when needed.
    """

    def __init__(self, folder: Path) -> None:
        self._contents = folder / "contents"
        self._parts = folder / "parts"
        self._temporary = folder / "temporary"

    @staticmethod
    def new_name() -> str:
        """Return an unused name."""
        return secrets.token_hex(16)

    def path(self, name: str) -> Path:
        """Return the path of a content."""
        return self._contents / name

    def part_path(self, upload: str, number: int) -> Path:
        """Return the path of a part of an upload."""
        return self._parts / upload / str(number)

    def temporary_path(self) -> Path:
        """Return a path for a file that is being written."""
        self._temporary.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._temporary / self.new_name()

    def keep(self, data: bytes) -> Content:
        """Store data in a file. Small data is only kept in the returned value."""
        if len(data) <= INLINE_BYTES:
            return Content(data, "", len(data))
        path = self.temporary_path()
        try:
            with path.open("xb") as file:
                file.write(data)
                sync(file.fileno())
            return self.adopt(path, len(data))
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def adopt(self, path: Path, size: int) -> Content:
        """Turn a synchronized file in this folder into a content."""
        name = self.new_name()
        self._contents.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.replace(self._contents / name)
        sync_folder(self._contents)
        return Content(b"", name, size)

    def adopt_part(self, path: Path, upload: str, number: int) -> None:
        """Turn a synchronized file into a part of an upload. It replaces an existing part, which has the same bytes."""
        place = self.part_path(upload, number)
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.replace(place)
        sync_folder(place.parent)

    def read(self, content: Content) -> bytes:
        """Return the bytes of a content."""
        return self.path(content.file).read_bytes() if content.file else content.data

    def join(self, upload: str, sizes: Iterable[int]) -> tuple[Content, str] | int:
        """Join the parts of an upload. Return the content and its SHA-256, or the number of a missing part.

        The parts remain until the upload is deleted.
        """
        places = [(self.part_path(upload, number), size) for number, size in enumerate(sizes)]
        for number, (place, size) in enumerate(places):
            if not place.is_file() or place.stat().st_size != size:
                return number
        digest = hashlib.sha256()
        path = self.temporary_path()
        try:
            with path.open("xb") as file:
                for place, _ in places:
                    with place.open("rb") as part:
                        while piece := part.read(COPIED_BYTES):
                            digest.update(piece)
                            file.write(piece)
                sync(file.fileno())
            return self.adopt(path, sum(size for _, size in places)), digest.hexdigest()
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def delete(self, name: str) -> None:
        """Delete the content, and the parts of the upload, with this name."""
        self.path(name).unlink(missing_ok=True)
        shutil.rmtree(self._parts / name, ignore_errors=True)

    def delete_abandoned(self, in_use: Callable[[], Collection[str]], clock: Callable[[], float] = time.time) -> int:
        """Delete old files that nothing refers to, and return their number.

        Args:
            in_use: returns the names that are referred to; called after the files are listed.
            clock: seconds since 1970.
        """
        oldest = clock() - ABANDONED_S
        paths = [path for folder in (self._contents, self._parts, self._temporary) for path in _old(folder, oldest)]
        if not paths:
            return 0
        kept = in_use()
        deleted = 0
        for path in paths:
            if path.name in kept or not _NAME.fullmatch(path.name):
                continue
            if path.parent == self._parts:
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
            deleted += 1
        return deleted


def _old(folder: Path, oldest: float) -> list[Path]:
    paths = []
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if entry.stat(follow_symlinks=False).st_mtime < oldest:
                    paths.append(Path(entry.path))
    return paths


def sync(file: int) -> None:
    """Wait until a file's data is on the disk."""
    os.fdatasync(file)


def sync_folder(folder: Path) -> None:
    """Wait until a folder's entries are on the disk."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)

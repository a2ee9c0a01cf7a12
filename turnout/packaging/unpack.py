"""Unpacks each zip once, atomically, even if several processes try."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def unpack_zip(package: Path, parent: Path) -> Path:
    """Return the folder in `parent` with the zip's content; it has the zip's name, which contains its digest.

    A folder with missing or cut files, as a full disk or a loss of power leaves them, is written again.
    """
    folder = parent / package.stem
    if folder.is_dir() and not _has_content(folder, package):
        with tempfile.TemporaryDirectory(dir=parent, prefix=".", suffix=".part", ignore_cleanup_errors=True) as away:
            folder.rename(Path(away) / "damaged")

    def write(folder: Path) -> None:
        with zipfile.ZipFile(package) as archive:
            archive.extractall(folder)

    return make_folder(folder, write)


def _has_content(folder: Path, package: Path) -> bool:
    """Whether the folder has all files of the zip in their sizes; reading them all would delay each start."""
    with zipfile.ZipFile(package) as archive:
        sizes = {file.filename: file.file_size for file in archive.infolist() if not file.is_dir()}
    try:
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except OSError:
        return False


def make_folder(folder: Path, write: Callable[[Path], None]) -> Path:
    """Return the folder, written to a temporary place and then moved; an existing one is not written again.

    Args:
        folder: named after the digest of its content, so an existing one need not be checked.
        write: fills an empty folder.
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".", suffix=".part"))
    try:
        write(unfinished)
        unfinished.chmod(0o755)
        try:
            unfinished.rename(folder)
        except OSError:
            # Another process was faster; its folder has the same content.
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let in one process at a time; the kernel releases the lock of a killed process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)

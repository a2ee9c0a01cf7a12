"""Unpacks each zip once, atomically, also when several processes try."""

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
    """The folder in `parent` that holds what the zip holds, under the zip's own name, which says its digest."""

    def write(folder: Path) -> None:
        with zipfile.ZipFile(package) as archive:
            archive.extractall(folder)

    return make_folder(parent / package.stem, write)


def make_folder(folder: Path, write: Callable[[Path], None]) -> Path:
    """The folder, written beside its place and moved there; nothing where it is there already.

    Args:
        folder: named by what it holds, so that one that is there need not be looked into.
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
    """One process at a time; the kernel lets go of the lock of one that was killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)

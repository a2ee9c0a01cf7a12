"""models.yaml as a file that commands change: one of them at a time, and at once.

Comes in: paths and texts. Goes out: the file, replaced. Called by `turnout add` and `turnout canary`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

DEFAULT_NAME = "models.yaml"


def manifest_path(path: Path) -> Path:
    """The file that `--manifest` means: a folder stands for its models.yaml."""
    return path / DEFAULT_NAME if path.is_dir() else path


@contextmanager
def editing(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """While this lasts no other process is in here for the same manifest; one that is, is waited for.

    The lock is on the folder, so that none is left behind, whatever ends the process.

    Args:
        path: the manifest, or its folder. Where there is none there is nothing to wait for.
        waiting: called once before a wait.
    """
    try:
        folder = os.open(manifest_path(path).resolve().parent, os.O_RDONLY | os.O_DIRECTORY)
    except (OSError, RuntimeError):  # what is wrong is told by who reads the manifest
        yield
        return
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def replace_text(path: Path, text: str) -> None:
    """Put a new text in the place of a file's, at once: a reader sees the old one or the new one.

    Called within `editing`: what a killed process left half-written is deleted first.
    """
    prefix = f".{path.name}.turnout-"
    for left in path.parent.iterdir():
        if left.name.startswith(prefix):
            left.unlink(missing_ok=True)
    handle, name = tempfile.mkstemp(prefix=prefix, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(path, name)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

"""models.yaml as a file that commands change: one of them at a time, and at once."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from turnout.problems import TurnoutError

DEFAULT_NAME = "models.yaml"


class ManifestChangedError(TurnoutError):
    """Somebody saved the file after a command read it."""

    def __init__(self, path: Path) -> None:
        message = f"{path.name} was changed while this command ran. The other change is kept"
        super().__init__(message, "Run the command again.")


def manifest_path(path: Path) -> Path:
    """The file that `--manifest` means: a folder means its models.yaml."""
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
    except (OSError, RuntimeError):  # reading the manifest reports the problem
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


def check_unchanged(path: Path, before: bytes) -> None:
    """Check that a file still has the content that a command read.

    Raises:
        ManifestChangedError: it was saved or deleted since; that change is not overwritten.
    """
    try:
        is_same = path.read_bytes() == before
    except FileNotFoundError:
        is_same = False
    if not is_same:
        raise ManifestChangedError(path)


def replace_text(path: Path, text: str, before: bytes | None = None) -> None:
    """Replace a file's content atomically: a reader sees the old text or the new one.

    Called within `editing`: what a killed process left half-written is deleted first.

    Args:
        path: the file.
        text: its new content.
        before: the content that `text` was made from, compared right before the file is replaced; None overwrites any.

    Raises:
        ManifestChangedError: the file's content is not `before`.
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
        if before is not None:
            check_unchanged(path, before)
        shutil.copymode(path, name)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

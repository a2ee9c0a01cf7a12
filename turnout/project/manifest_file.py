"""models.yaml as a file that commands change: one command at a time, and atomically."""

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
    """The file was saved after a command read it."""

    def __init__(self, path: Path) -> None:
        message = f"{path.name} was changed while this command ran. The other change is kept"
        super().__init__(message, "Run the command again.")


def manifest_path(path: Path) -> Path:
    """Return the file for `--manifest`; for a folder, its models.yaml."""
    return path / DEFAULT_NAME if path.is_dir() else path


@contextmanager
def editing(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Keep other processes from editing the same manifest meanwhile; wait for one that is editing it.

    The lock is on the folder, so no lock file remains, however the process ends.

    Args:
        path: the manifest or its folder. If it does not exist, there is no wait.
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
        ManifestChangedError: it was saved or deleted meanwhile; that change is not overwritten.
    """
    try:
        is_same = path.read_bytes() == before
    except FileNotFoundError:
        is_same = False
    if not is_same:
        raise ManifestChangedError(path)


def replace_text(path: Path, text: str, before: bytes | None = None) -> None:
    """Replace a file's content atomically: a reader sees the old text or the new one.

    Call it within `editing`: incomplete files of a killed process are deleted first.

    Args:
        path: the file.
        text: its new content.
        before: the content that `text` was made from, compared right before the replacement; None replaces any content.

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

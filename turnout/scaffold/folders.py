"""Temporary creation of folders, which are deleted again if they stay empty."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def folders_for(*folders: Path) -> Iterator[None]:
    """Create the folders and their parents for the duration of the block; delete those that are still empty afterwards.

    Raises:
        OSError: a folder cannot be created.
    """
    made: list[Path] = []
    try:
        for folder in folders:
            made[:0] = missing_parents(folder)
            folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for folder in made:  # deepest first; a folder that is not empty stays
            with suppress(OSError):
                folder.rmdir()


def missing_parents(folder: Path) -> list[Path]:
    """Return the folder and its parents that do not exist, the deepest first."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    return missing

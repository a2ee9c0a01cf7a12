"""Folders that are made for something, and go again when nothing came of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def folders_for(*folders: Path) -> Iterator[None]:
    """The folders and those above them are there meanwhile; of those made here the empty ones are deleted afterwards.

    Raises:
        OSError: one cannot be made.
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
    """The folder and those above it that are not there, the deepest first."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    return missing

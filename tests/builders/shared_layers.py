"""Layers that are built once for all tests of a run: a package's name contains the digest of its inputs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


@contextmanager
def shared_layers(out: Path, factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder to build packages into, with the layers that other tests have built; new ones are kept for
    later tests.
    """
    base = factory.getbasetemp()
    shared = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "shared-layers"
    for folder in (shared, out):
        folder.mkdir(parents=True, exist_ok=True)
    _link(shared, out)
    yield out
    _link(out, shared)


def _link(source: Path, target: Path) -> None:
    """Link the zips, then the file that marks them as complete."""
    for pattern in ("layer_*.zip", "layer_*.json"):
        for file in source.glob(pattern):
            with suppress(FileExistsError):
                (target / file.name).hardlink_to(file)

"""The options that several commands share, and how the project they point at is loaded."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turnout.cli.output import passing_remark
from turnout.wording import size_text

if TYPE_CHECKING:
    from turnout.project.project import Project

ManifestOption = Annotated[
    Path, typer.Option("--manifest", "-m", metavar="PATH", help="The manifest, or the folder that holds models.yaml.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
DEFAULT_MANIFEST = Path("models.yaml")


SLOW_BYTES = 200 * 1024 * 1024
"""From this size on reading an artifact is worth a remark: its digest takes a second for each gigabyte or two."""


def load(path: Path) -> Project:
    """The project behind `--manifest`: checked, its artifacts read; a ProblemsError where something is wrong."""
    from turnout.artifacts.artifact import load_artifact
    from turnout.project.project import load_project

    return load_project(path, load=partial(load_artifact, reading=remark_large))


def remark_large(name: str, size_bytes: int) -> AbstractContextManager[None]:
    """The remark that passes while a large artifact's digest is taken."""
    if size_bytes < SLOW_BYTES:
        return nullcontext()
    return passing_remark(f"reading {name}, {size_text(size_bytes)} ...")

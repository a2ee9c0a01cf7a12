"""The options that several commands share, and how the project they point at is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from turnout.project import Project

ManifestOption = Annotated[
    Path, typer.Option("--manifest", "-m", metavar="PATH", help="The manifest, or the folder that holds models.yaml.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
DEFAULT_MANIFEST = Path("models.yaml")


def load(path: Path) -> Project:
    """The project behind `--manifest`: checked, its artifacts read; a ProblemsError where something is wrong."""
    from turnout.project import load_project

    return load_project(path)

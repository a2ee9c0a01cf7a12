"""`turnout init`: a project of one's own, ready to be served."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from turnout.cli.output import CommandError, counted, notify, say

FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The project's folder. Created if missing.")]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Also write into a folder that is not empty. Existing files are kept.")
]


def init(folder: FolderArgument, *, force: ForceOption = False) -> None:
    """Create a project with a sample model, ready to serve.

    It holds models.yaml, two versions of the iris model, Pulumi's program for AWS, a .gitignore and a README. No file
    is ever overwritten.
    """
    from turnout.scaffold.new_project import OccupiedError, create_project

    try:
        created = create_project(folder, beside_others=force)
    except OccupiedError as error:
        hint = "" if force else "Name another folder, or add the missing files with --force: no file is overwritten."
        raise CommandError(str(error), hint) from error
    for name in created.kept:
        notify(f"kept {folder / name}")
    say(f"Created {counted(len(created.written), 'file')} in {folder}. Next:\n")
    say(f"    cd {quote(str(folder))}\n    turnout serve")

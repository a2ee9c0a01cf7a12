"""`turnout init`: makes a new project that is ready to be served."""

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


CiOption = Annotated[
    str,
    typer.Option(
        "--ci",
        metavar="SERVICE",
        help="Also write workflows for pull requests, deployments and canaries: github. In a project that exists, add "
        "--force.",
        show_default=False,
    ),
]


def init(folder: FolderArgument, *, force: ForceOption = False, ci: CiOption = "") -> None:
    """Create a project with a sample model, ready to serve.

    It holds models.yaml, two versions of the iris model, Pulumi's program for AWS, a .gitignore and a README. No file
    is ever overwritten.
    """
    from turnout.scaffold.new_project import WORKFLOWS, OccupiedError, create_project

    if ci and ci not in WORKFLOWS:
        raise CommandError(f"--ci: unknown service {ci!r}.", f"Known services: {', '.join(WORKFLOWS)}.")
    try:
        created = create_project(folder, beside_others=force, ci=ci)
    except OccupiedError as error:
        hint = "" if force else "Name another folder, or add the missing files with --force: no file is overwritten."
        raise CommandError(str(error), hint) from error
    for name in created.kept:
        notify(f"kept {folder / name}")
    is_here = folder.resolve() == Path.cwd()
    place = "the current folder" if is_here else str(folder)
    say(f"Created {counted(len(created.written), 'file')} in {place}. Next:\n")
    say("    turnout serve" if is_here else f"    cd {quote(str(folder))}\n    turnout serve")

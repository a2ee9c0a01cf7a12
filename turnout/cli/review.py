"""`turnout plan --against REF`: describes the effect of a change before it is merged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from turnout.cli.output import CommandError, say, say_json
from turnout.problems import ProblemsError

if TYPE_CHECKING:
    from turnout.project.project import Project
    from turnout.review.changes import Reviewed


def review(project: Project, manifest: Path, ref: str, *, markdown: bool, as_json: bool, fail_on: str) -> None:
    """Print the changes between a revision and the working tree. Exit with 1 if `fail_on` names the kind of one."""
    from dataclasses import asdict

    from turnout.problems import TurnoutError
    from turnout.project.manifest_file import manifest_path
    from turnout.review.changes import KINDS, find_changes
    from turnout.review.report import render_markdown, render_text
    from turnout.review.revision import read_revision

    wanted = [kind.strip() for kind in fail_on.split(",") if kind.strip()]
    for kind in wanted:
        if kind not in KINDS:
            raise CommandError(f"--fail-on: unknown kind {kind!r}.", f"There are: {', '.join(KINDS)}.")
    try:
        with read_revision(manifest_path(manifest), ref) as former:
            changes = find_changes(reviewed(former), reviewed(project))
    except TurnoutError as error:
        raise CommandError(f"--against: {error.message}.", error.hint) from error
    except ProblemsError as error:
        listed = "\n    ".join(str(problem) for problem in error.problems)
        raise CommandError(f"--against: the project at {ref} has problems:\n    {listed}") from error
    if as_json:
        say_json({"against": ref, "changes": [asdict(change) for change in changes]})
    else:
        say((render_markdown if markdown else render_text)(changes, ref))
    if any(change.kind in wanted for change in changes):
        raise typer.Exit(1)


def reviewed(project: Project) -> Reviewed:
    """One side of a comparison."""
    from turnout.plan.costs import estimate_costs
    from turnout.plan.planner import make_plan
    from turnout.review.changes import Reviewed

    plan = make_plan(project.manifest, project.artifacts, enforce=False)
    return Reviewed(project.manifest, plan, estimate_costs(plan, project.manifest))

"""`turnout validate`: checks models.yaml and its artifacts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from turnout.cli.options import DEFAULT_MANIFEST, JsonOption, ManifestOption, load, try_all
from turnout.cli.output import counted, notify, say, say_json
from turnout.problems import ProblemsError

if TYPE_CHECKING:
    from turnout.manifest.parser import Manifest
    from turnout.problems import Problem


def validate(*, manifest: ManifestOption = DEFAULT_MANIFEST, as_json: JsonOption = False) -> None:
    """Check models.yaml and the files it names.

    Reports all problems at once, each with file, line and column. Opens every model with onnxruntime in a separate
    process and tries requests that are known to crash processes; results are cached by digest. Transforms are imported
    with the packages that their versions get. Rejects a project whose estimated cost exceeds `budget`. `turnout plan`
    also checks the quotas of AWS.
    """
    from turnout.packaging.transform_imports import require_imports
    from turnout.plan.budget import require_budget
    from turnout.plan.planner import make_plan
    from turnout.trials.checks import find_notes

    try:
        project = load(manifest)
        plan = make_plan(project.manifest, project.artifacts, enforce=False)
        require_budget(plan, project.manifest)
        tried_notes = tuple(find_notes(try_all(project)))
        transforms = require_imports(project)
    except ProblemsError as error:
        if not as_json:
            raise
        say_json({"ok": False, "problems": [problem_to_json(problem) for problem in error.problems], "notes": []})
        raise typer.Exit(2) from None
    counts = counts_of(project.manifest)
    if as_json:
        notes = [{"path": note.path, "message": note.message} for note in (*plan.notes, *tried_notes)]
        notes += [{"path": "", "message": note} for note in transforms.notes]
        say_json({"ok": True, "problems": [], "notes": notes, **counts})
    else:
        for note in (*plan.notes, *tried_notes):
            notify(f"note: {note.path}: {note.message}")
        for text in transforms.notes:
            notify(f"note: {text}")
        words = ", ".join(counted(number, noun.removesuffix("s")) for noun, number in counts.items())
        say(f"{project.manifest.source}: ok: {words}.")


def counts_of(manifest: Manifest) -> dict[str, int]:
    """Return the counts of models, versions and stages."""
    versions = sum(len(model.versions) for model in manifest.models)
    return {"models": len(manifest.models), "versions": versions, "stages": len(manifest.stages)}


def problem_to_json(problem: Problem) -> dict[str, Any]:
    """Return one problem for programs; line and column are 0 if unknown."""
    return {
        "source": problem.source,
        "line": problem.line,
        "column": problem.column,
        "path": list(problem.path),
        "message": problem.message,
        "hint": problem.hint,
    }

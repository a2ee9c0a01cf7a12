"""`turnout add`: a new version of a model, copied into the project and listed in models.yaml."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from turnout.cli.options import DEFAULT_MANIFEST, ManifestOption, load
from turnout.cli.output import CommandError, counted, notify, progress, say
from turnout.problems import ProblemsError, TurnoutError
from turnout.wording import size_text

if TYPE_CHECKING:
    from turnout.project.project import Project
    from turnout.scaffold.new_version import PreparedVersion

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="The model's name. A new model is added.")]
VersionArgument = Annotated[str, typer.Argument(metavar="VERSION", help="The new version's name.")]
PathArgument = Annotated[
    Path,
    typer.Argument(
        metavar="PATH",
        help="The ONNX file, whose external data is copied, too; or a Python file, whose whole folder is copied.",
    ),
]
ExamplesOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Requests with expected outputs, copied next to the model.")
]
TransformOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Python file with preprocess and postprocess, copied next to the model."),
]
SignatureOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Inputs and outputs of a Python file, as models.yaml has them.")
]
RequirementOption = Annotated[
    list[str] | None,
    typer.Option("--requirement", metavar="PACKAGE", help="A package that the Python code imports. Can be repeated."),
]
BreakingOption = Annotated[
    bool,
    typer.Option("--breaking", help="Accept a version that changes the inputs or outputs of the version it replaces."),
]


def add(
    model: ModelArgument,
    version: VersionArgument,
    path: PathArgument,
    *,
    examples: ExamplesOption = None,
    transform: TransformOption = None,
    signature: SignatureOption = None,
    requirement: RequirementOption = None,
    breaking: BreakingOption = False,
    manifest: ManifestOption = DEFAULT_MANIFEST,
) -> None:
    """Add a version of a model.

    Copies the model file into the project, pins its digest and adds the version to models.yaml. Everything is checked
    first, including that the model can be opened, so a failure changes nothing. Versions are immutable: an existing
    version is never overwritten.

    A file that ends with .py is added with `runtime: python`: its whole folder is copied, and --signature names a YAML
    or JSON file with its inputs and outputs.

    A stage with `"*": newest` moves to the new version. If the inputs or outputs of that version are incompatible with
    the current one, it is rejected; --breaking adds it with `breaking: true`.
    """
    from turnout.project.manifest_file import ManifestChangedError, editing
    from turnout.scaffold.new_version import prepare_version, write_version

    with editing(manifest, lambda: notify("Waiting for another `turnout add`.")):
        project = load(manifest)
        try:
            prepared = prepare_version(
                project,
                model,
                version,
                path,
                examples=examples,
                transform=transform,
                signature=signature,
                requirements=requirement or (),
                breaking=breaking,
            )
            open_own_code(project, prepared, examples)
            with progress(f"copying {path.name}", prepared.artifact.size_bytes) as advance:
                write_version(prepared, advance)
        except TurnoutError as error:
            code = 1 if isinstance(error, ManifestChangedError) else 2
            raise CommandError(f"{error.message.rstrip('.')}.", error.hint, code=code) from error
        except ProblemsError:
            notify(f"{project.manifest.source} would be invalid with {model} {version}. Nothing was written:")
            raise
    files = f"{counted(len(prepared.files), 'file')}, {size_text(prepared.artifact.size_bytes)} of model"
    place = prepared.folder.relative_to(prepared.root)
    say(f"{place} already contains its {files}." if prepared.in_place else f"Copied {files} to {place}.")
    say(f"Added {model} {version} to {project.manifest.source}, sha256 {prepared.artifact.sha256[:12]}.")
    for change in prepared.changes:
        say(f"Now {change}.")
    for note in prepared.notes:
        notify(f"note: {note}")
    there = "" if manifest == DEFAULT_MANIFEST else f" -m {quote(str(manifest))}"
    say(f"Next:\n\n    turnout serve{there}\n    turnout invoke {model} {version}{there}")


def open_own_code(project: Project, prepared: PreparedVersion, examples: Path | None) -> None:
    """Open a version that runs its owner's Python, with its packages; a CommandError where that fails."""
    from turnout.artifacts.examples import read_examples
    from turnout.packaging.layer import LayerError
    from turnout.packaging.transform_imports import imports_folder, try_own_model
    from turnout.runtimes.registry import RUNTIMES

    if not RUNTIMES[prepared.version.runtime].runs_own_code:
        return
    first = next((dict(example.request) for example in read_examples(examples)), None) if examples else None
    try:
        faults = list(try_own_model(prepared.version, prepared.artifact, imports_folder(project), first))
    except LayerError as error:
        notify(f"note: {prepared.artifact.path.name} was not opened: its packages cannot be installed: {error}")
        return
    for fault in faults:
        hint = f"Add --requirement {fault.package}." if fault.package else fault.hint
        raise CommandError(f"{fault.message}.", hint)

"""`turnout add`: a new version of a model, copied into the project and listed in models.yaml."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from turnout.cli.options import DEFAULT_MANIFEST, ManifestOption, load
from turnout.cli.output import CommandError, counted, progress, say, tell
from turnout.problems import ProblemsError
from turnout.wording import size_text

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="The model's name; a new one is made.")]
VersionArgument = Annotated[str, typer.Argument(metavar="VERSION", help="The new version's name.")]
PathArgument = Annotated[Path, typer.Argument(metavar="PATH", help="The ONNX file; its external data comes along.")]
ExamplesOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Requests with expected outputs, copied beside the model.")
]
TransformOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Python with preprocess and postprocess, copied beside the model.")
]

BreakingOption = Annotated[
    bool,
    typer.Option("--breaking", help="Let it take traffic of a version whose inputs or outputs it changes."),
]


def add(
    model: ModelArgument,
    version: VersionArgument,
    path: PathArgument,
    *,
    examples: ExamplesOption = None,
    transform: TransformOption = None,
    breaking: BreakingOption = False,
    manifest: ManifestOption = DEFAULT_MANIFEST,
) -> None:
    """Add a version of a model.

    The model file is copied into the project, its digest pinned, and the version listed in models.yaml.
    Everything is checked before anything is written, also that onnxruntime can open the model, and a failure leaves
    all as it was. A version is immutable: one that exists is never overwritten.

    A stage with `"*": newest` moves to the new version. If that version cannot stand in for the one before it, because
    its inputs or outputs differ, it is refused; --breaking writes `breaking: true` and adds it.
    """
    from turnout.artifacts.artifact import ArtifactError
    from turnout.project.manifest_file import ManifestChangedError, editing
    from turnout.scaffold.new_version import NewVersionError, prepare_version, write_version
    from turnout.yaml_text.editor import EditError

    with editing(manifest, lambda: tell("Another `turnout add` is at work: waiting for it.")):
        project = load(manifest)
        try:
            prepared = prepare_version(
                project, model, version, path, examples=examples, transform=transform, breaking=breaking
            )
            with progress(f"copying {path.name}", prepared.artifact.size_bytes) as advance:
                write_version(prepared, advance)
        except (ArtifactError, EditError, NewVersionError) as error:
            raise CommandError(f"{str(error.message).rstrip('.')}.", error.hint) from error
        except ManifestChangedError as error:
            raise CommandError(f"{error.message}.", error.hint, code=1) from error
        except ProblemsError:
            tell(f"{project.manifest.source} would not be right with {model} {version}; nothing was written:")
            raise
    files = f"{counted(len(prepared.files), 'file')}, {size_text(prepared.artifact.size_bytes)} of model"
    place = prepared.folder.relative_to(prepared.root)
    say(f"{place} holds its {files}, already." if prepared.in_place else f"Copied {files}, to {place}.")
    say(f"Listed {model} {version} in {project.manifest.source}, sha256 {prepared.artifact.sha256[:12]}.")
    for change in prepared.changes:
        say(f"Now {change}.")
    for note in prepared.notes:
        tell(f"note: {note}")
    there = "" if manifest == DEFAULT_MANIFEST else f" -m {quote(str(manifest))}"
    say(f"Next:\n\n    turnout serve{there}\n    turnout invoke {model} {version}{there}")

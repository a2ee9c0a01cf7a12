"""`turnout add`: a new version of a model, copied into the project and listed in models.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from turnout.cli.options import DEFAULT_MANIFEST, ManifestOption, load
from turnout.cli.output import CommandError, counted, progress, say, size_text

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="The model's name; a new one is made.")]
VersionArgument = Annotated[str, typer.Argument(metavar="VERSION", help="The new version's name.")]
PathArgument = Annotated[Path, typer.Argument(metavar="PATH", help="The ONNX file; its external data comes along.")]
ExamplesOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Requests with expected outputs, copied beside the model.")
]
TransformOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Python with preprocess and postprocess, copied beside the model.")
]


def add(
    model: ModelArgument,
    version: VersionArgument,
    path: PathArgument,
    *,
    examples: ExamplesOption = None,
    transform: TransformOption = None,
    manifest: ManifestOption = DEFAULT_MANIFEST,
) -> None:
    """Add a version of a model.

    The model file is copied into the project, its digest pinned, and the version listed in models.yaml.
    Everything is checked before anything is written, and a failure leaves all as it was. A version is immutable: one
    that exists is never overwritten.
    """
    from turnout.artifacts import ArtifactError
    from turnout.new_version import RefusedError, add_version_files, prepare_version

    project = load(manifest)
    try:
        prepared = prepare_version(project, model, version, path, examples=examples, transform=transform)
        with progress(f"copying {path.name}", prepared.artifact.size_bytes) as advance:
            add_version_files(prepared, advance)
    except ArtifactError as error:
        raise CommandError(f"{error.message}.", error.hint) from error
    except RefusedError as error:
        raise CommandError(str(error), error.hint) from error
    root = project.manifest.path.parent
    copied = f"{counted(len(prepared.files), 'file')}, {size_text(prepared.artifact.size_bytes)} of model"
    say(f"Copied to {prepared.folder.relative_to(root)} ({copied}), sha256 {prepared.artifact.sha256[:12]}.")
    say(f"{project.manifest.source}: {model} has version {version}. Next:\n")
    say(f"    turnout serve\n    turnout invoke {model} {version}")

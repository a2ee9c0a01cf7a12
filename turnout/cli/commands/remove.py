"""`turnout remove`: removes a version from models.yaml, with or without its files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turnout.cli.canary.target import editing_alone, log_of
from turnout.cli.options import DEFAULT_MANIFEST, ManifestOption, load
from turnout.cli.output import CommandError, counted, notify, say
from turnout.problems import ProblemsError
from turnout.system.signals import ignore_endings
from turnout.wording import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from turnout.project.project import Project
    from turnout.scaffold.removed_version import PreparedRemoval

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="The model's name.")]
VersionArgument = Annotated[str, typer.Argument(metavar="VERSION", help="The version to remove.")]
FilesOption = Annotated[bool, typer.Option("--delete-files/--keep-files", help="Also delete the version's files.")]


def remove(
    model: ModelArgument,
    version: VersionArgument,
    *,
    delete_files: FilesOption = False,
    manifest: ManifestOption = DEFAULT_MANIFEST,
) -> None:
    """Remove a version of a model.

    Removes the version from models.yaml and keeps comments. Rejects a version that a stage serves (also by `"*":
    newest`) or that a canary, a weight, a graph, a shadow or a fallback names.

    Keeps its files unless --delete-files is passed. Files that another version names are never deleted.
    """
    from turnout.canary.rollout.rollout import check_finished
    from turnout.scaffold.removed_version import prepare_removal, remove_version

    with editing_alone(manifest):
        check_finished(log_of(manifest))
        project = load(manifest)
        check_names(project, model, version)
        try:
            prepared = prepare_removal(project, model, version)
        except ProblemsError:
            notify(f"{project.manifest.source} would be invalid without {model} {version}. Nothing was removed:")
            raise
        lost = list(lost_ways_back(project, manifest, model, version))
        ignore_endings()
        try:
            deleted = remove_version(prepared, delete_files=delete_files)
        except OSError as error:
            if prepared.manifest.read_bytes() == prepared.data:
                raise
            message = f"removed {model} {version} from {project.manifest.source}, but cannot delete {error.filename}"
            raise CommandError(f"{message}: {error.strerror}.", "Delete it by hand.", code=1) from error
    say(f"Removed {model} {version} from {project.manifest.source}.")
    say_files(prepared, deleted, delete_files=delete_files)
    say(f"`pulumi up` deletes its function: calls to /models/{model}/{version}/inference then fail.")
    for stage in lost:
        notify(f"note: `turnout canary rollback {stage} --to-previous` can no longer return to {model} {version}.")


def check_names(project: Project, model: str, version: str) -> None:
    """Raise a CommandError unless the version exists."""
    from turnout.replay.sample_request import UnknownNameError, known

    try:
        named = project.manifest.model(known("model", model, [each.name for each in project.manifest.models]))
        if named.graph is not None:
            raise CommandError(f"{model} is a graph and has no versions.", "Delete it in models.yaml by hand.")
        known(f"version of {model}", version, [each.name for each in named.versions])
    except UnknownNameError as error:
        raise CommandError(str(error), error.hint) from error


def lost_ways_back(project: Project, manifest: Path, model: str, version: str) -> Iterator[str]:
    """Return the stages whose latest promotion was from this version."""
    from turnout.canary.rollout.manifest_edits import versions_in
    from turnout.canary.rollout.way_back import find_promotion

    log = log_of(manifest)
    for stage in project.manifest.stages:
        promotion = find_promotion(log.read(stage.name))
        if promotion is not None and version in versions_in(promotion.before.get(model, "")):
            yield stage.name


def say_files(prepared: PreparedRemoval, deleted: tuple[Path, ...], *, delete_files: bool) -> None:
    """Print the sentence on the version's files."""
    if not delete_files:
        here = [prepared.name_of(path) for path in prepared.files if path.exists()]
        if here:
            say(printable(f"Kept {counted(len(here), 'file')}: {', '.join(here)}. --delete-files would delete them."))
        return
    names = ", ".join(prepared.name_of(path) for path in deleted)
    say(printable(f"Deleted {counted(len(deleted), 'file')}{': ' if names else ''}{names}."))
    for folder in dict.fromkeys(path.parent for path in deleted):
        if folder != prepared.root and folder.is_dir():
            rest = sorted(path.name for path in folder.iterdir())
            say(printable(f"{prepared.name_of(folder)} still contains {', '.join(rest)}."))

"""Removes a version from models.yaml, and its files from the project's folder if requested.

A version that serves, or may serve, requests cannot be removed. Files that another version names stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from turnout.manifest.parser import parse_manifest
from turnout.manifest.values import Manifest, Stage, Version
from turnout.plan.planner import make_plan
from turnout.project.manifest_file import replace_text
from turnout.project.project import Project
from turnout.protocol.routing.graph_nodes import calls_of
from turnout.runtimes.registry import RUNTIMES
from turnout.yaml_text.editor import EditError, remove_entry


@dataclass(frozen=True, slots=True)
class PreparedRemoval:
    """A planned removal; nothing is removed yet.

    Args:
        root: the project's folder, absolute.
        manifest: the manifest's file, links resolved, since the file itself is replaced.
        data: its content as it was read.
        text: its new content.
        files: the version's own files, which no other version names.
    """

    root: Path
    manifest: Path
    data: bytes
    text: str
    files: tuple[Path, ...]

    def name_of(self, path: Path) -> str:
        """Return a file's path as in models.yaml."""
        return path.relative_to(self.root).as_posix()


def prepare_removal(project: Project, model: str, version: str) -> PreparedRemoval:
    """Check that a version may be removed and plan the changes; nothing is written.

    Args:
        project: the current project.
        model: a model of the manifest that has versions.
        version: one of them.

    Raises:
        EditError: the version is in use, or models.yaml cannot be edited.
        ProblemsError: models.yaml would be invalid without it.
    """
    old = project.manifest
    uses = list(find_uses(old, model, version))
    if uses:
        raise EditError(f"{model} {version} is in use, so nothing was removed", "\n    ".join(uses))
    data = old.path.read_bytes()
    text = remove_entry(data.decode(), ("models", model, "versions"), version)
    new = parse_manifest(text.encode(), path=old.path, source=old.source)
    artifacts = {key: artifact for key, artifact in project.artifacts.items() if key != (model, version)}
    make_plan(new, artifacts, enforce=False)
    root = old.path.parent
    removed = old.model(model).version(version)
    others = replace(project, manifest=new)
    remaining = [other for each in new.models for other in each.versions]
    kept = {path for other in remaining for path in (*files_of(others, other), *_beside(others, other))}
    folders = {parent for path in kept for parent in path.parents}
    own = [path for path in files_of(project, removed) if path not in kept and _is_below(path, root)]
    beside = [path for path in _beside(project, removed) if path not in kept and _is_below(path, root)]
    owner = removed.artifact if RUNTIMES[removed.runtime].takes_folder else removed.transform
    if owner and (root / owner).parent in folders | {root}:
        beside = []  # the folder is shared: other files in it may belong to another version
    return PreparedRemoval(root, old.path.resolve(), data, text, tuple(dict.fromkeys((*own, *beside))))


def find_uses(manifest: Manifest, model: str, version: str) -> Iterator[str]:
    """Yield each place in models.yaml by which a version gets or may get requests, and the remedy."""
    for stage in manifest.stages:
        yield from _uses_of_stage(stage, model, version)
    routing = manifest.model(model).routing
    for key, named in (("fallback", routing.fallback), ("shadow", routing.shadow_version)):
        if named == version:
            yield f"models.{model}.routing.{key} names it. Name another version there, or delete it."
    for entry in manifest.models:
        for path, call in calls_of(entry.graph, ("models", entry.name, "graph")) if entry.graph is not None else ():
            if (call.model, call.version) == (model, version):
                yield f"{'.'.join(map(str, path))} calls it. Name another version there."


def _uses_of_stage(stage: Stage, model: str, version: str) -> Iterator[str]:
    place = f"stages.{stage.name}"
    if stage.serve.get(model) == version and model in stage.newest:
        yield f'{place}.serve: `"*": newest` serves it. Name another version: `{model}: VERSION`.'
    elif stage.serve.get(model) == version:
        yield f"{place}.serve.{model} serves it. Name another version there."
    routed = stage.routed.get(model)
    if routed is not None and routed.version == version:
        end = f"End the canary: `turnout canary rollback {stage.name} --model {model}`."
        yield f"{place}.routed_canaries.{model} names it. {end}"
    elif routed is not None and version in routed.baseline:
        key = "weights" if routed.is_weighted else "serve"
        yield f"{place}.{key}.{model} names it. Name another version there."
    elif version in stage.weights.get(model, {}):
        yield f"{place}.weights.{model} names it ({stage.weights[model][version]:g}%). Delete it there."
    if stage.canary is not None and stage.canary.serve.get(model) == version:
        yield f"{place}.canary.serve.{model} names it. End the canary: `turnout canary rollback {stage.name}`."


def files_of(project: Project, version: Version) -> Iterator[Path]:
    """Return the files that a version names, and those that belong to its artifact."""
    root = project.manifest.path.parent
    if version.artifact and not version.is_remote:
        yield root / version.artifact
    artifact = project.artifacts.get((version.model, version.name))
    if artifact is not None and not version.is_remote and not RUNTIMES[version.runtime].takes_folder:
        folder = (root / version.artifact).parent
        yield from (folder / path.relative_to(artifact.path.parent) for path in artifact.external_files)
    yield from (root / name for name in (version.transform, version.examples) if name)


def _beside(project: Project, version: Version) -> Iterator[Path]:
    """Return the files that belong to a version because they are beside its transform or its artifact."""
    yield from project.transforms.get((version.model, version.name), {}).values()
    artifact = project.artifacts.get((version.model, version.name))
    if artifact is not None and RUNTIMES[version.runtime].takes_folder:
        yield from artifact.external_files


def _is_below(path: Path, root: Path) -> bool:
    """Whether a file is in the project's folder itself, not in a linked folder; the file may be a link."""
    return path.parent.resolve().is_relative_to(root.resolve()) and path.is_relative_to(root)


def remove_version(prepared: PreparedRemoval, *, delete_files: bool) -> tuple[Path, ...]:
    """Edit models.yaml, then delete the files and the folders that become empty.

    Args:
        prepared: what to remove.
        delete_files: whether to delete the files, too.

    Returns:
        The files that were deleted.

    Raises:
        ManifestChangedError: models.yaml was saved since it was read; nothing was done.
        OSError: models.yaml is edited, and a file could not be deleted.
    """
    replace_text(prepared.manifest, prepared.text, prepared.data)
    if not delete_files:
        return ()
    deleted = []
    for path in prepared.files:
        if path.is_file() or path.is_symlink():
            path.unlink()
            deleted.append(path)
    for folder in sorted({parent for path in deleted for parent in path.parents}, reverse=True):
        if folder.is_relative_to(prepared.root) and folder != prepared.root and _is_empty(folder):
            folder.rmdir()
    return tuple(deleted)


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir())

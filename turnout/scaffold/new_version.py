"""Adds a new version of a model: copies its files into the project, pins its digest, and edits models.yaml.

A failure at any point leaves the project unchanged. A kill or a power cut, after which no program can clean up, at
worst leaves copied files that models.yaml does not name. The next `turnout add` uses them.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turnout.artifacts.artifact import Artifact, unremarked
from turnout.manifest.parser import Manifest, Version, build_signature, parse_manifest
from turnout.manifest.references import REST
from turnout.manifest.schema import check_signature
from turnout.plan.planner import make_plan
from turnout.problems import ProblemsError, TurnoutError
from turnout.project.manifest_file import replace_text
from turnout.project.project import CACHE_DIR, Project, check_examples_file, declare_tensors, make_signature
from turnout.project.transform_checks import check_transform, hooks_of
from turnout.project.transform_files import NamedFiles, TransformFilesError, find_imported_files, find_transform_files
from turnout.protocol.tensors.datatypes import Signature
from turnout.runtimes.registry import DEFAULT_RUNTIME, RUNTIMES, find_runtime
from turnout.runtimes.runtime import Runtime, VersionFiles
from turnout.scaffold.folders import folders_for
from turnout.trials.checks import explain, note_of
from turnout.trials.trials import SOUND, Trial, Trials
from turnout.yaml_text.editor import EditError, insert_entry
from turnout.yaml_text.reader import read_yaml

CHUNK_BYTES = 8 * 1024 * 1024
EXAMPLES_FILE = "examples.json"
TRANSFORM_FILE = "transform.py"

SIGNATURE_FILE = "{inputs: {x: {datatype: FP32, shape: [-1, 4]}}, outputs: {y: {datatype: FP32, shape: [-1]}}}"

SHOWN_PROBLEMS = 5
"""Most problems shown of an examples file, whose examples often have the same error."""


class NewVersionError(TurnoutError):
    """The version cannot be added."""


@dataclass(frozen=True, slots=True)
class PreparedVersion:
    """A planned version; nothing is written yet.

    Args:
        root: the project's folder, absolute.
        manifest: the manifest's file, with links resolved, since the file itself is replaced.
        before: its content when it was read.
        text: its new content.
        folder: the version's folder, absolute.
        in_place: whether `folder` contains the same files already; else it does not exist yet.
        files: name within `folder` -> the file to copy.
        artifact: the model file's artifact, at its current place.
        version: the version for models.yaml.
        changes: changes in what stages will serve, a phrase each.
        notes: the plan's notes about the version, and the requests that it rejects.
    """

    root: Path
    manifest: Path
    before: bytes
    text: str
    folder: Path
    in_place: bool
    files: Mapping[str, Path]
    artifact: Artifact
    version: Version
    changes: tuple[str, ...]
    notes: tuple[str, ...] = ()


def prepare_version(
    project: Project,
    model: str,
    version: str,
    path: Path,
    *,
    examples: Path | None = None,
    transform: Path | None = None,
    signature: Path | None = None,
    requirements: Sequence[str] = (),
    breaking: bool = False,
    tensors: Mapping[str, Any] | None = None,
    source: Mapping[str, Any] | None = None,
    reports: Mapping[str, Path] | None = None,
) -> PreparedVersion:
    """Check a new version and prepare its files and edits, without writing anything.

    Args:
        project: the project to change.
        model: the model's name, which may be new.
        version: the version's name.
        path: the model file; its suffix determines the runtime.
        examples: its examples, or `None`.
        transform: its transform, or `None`.
        signature: a file with the inputs and outputs as in models.yaml, if the runtime requires a declaration.
        requirements: the packages that its own Python imports.
        breaking: whether it may replace versions with incompatible signatures.
        tensors: `inputs` and `outputs` that its transform makes, as in models.yaml.
        source: the value of `source` in models.yaml, without the report's path.
        reports: name in the version's folder -> file of a conversion; `source` names the first one.

    Raises:
        NewVersionError: its folder exists, or a file is invalid.
        EditError: the version exists, or models.yaml cannot be edited.
        ArtifactError: the model file cannot be served.
        ProblemsError: models.yaml would be invalid with it.
    """
    old = project.manifest
    before = old.path.read_bytes()
    text = before.decode()
    # the names are known to be valid from here
    add_version(text, model, version, {"artifact": "model"}, source=old.source)
    root = old.path.parent
    folder = root / "models" / model / version
    runtime = find_runtime(path)
    declared = read_signature(runtime, path, signature)
    beside = find_beside(path, {examples, signature}) if runtime.takes_folder else ()
    artifact = runtime.inspect(
        VersionFiles(path.absolute(), beside, declared_tensors(declared)), None, reading=unremarked
    )
    public = artifact
    if tensors:
        declares = build_signature(tensors)
        public = declare_tensors(
            artifact, Version(model, version, "", inputs=declares.inputs, outputs=declares.outputs)
        )
    files = collect_files(runtime, public, examples, transform)
    files |= {name: report for name, report in (reports or {}).items() if name not in files}
    in_place = folder.exists() or folder.is_symlink()
    if in_place and not holds_files(folder, files):
        raise NewVersionError(
            f"{folder.relative_to(root)} already exists, and {old.source} does not name it.",
            "Move it away, or give the version another name: nothing is overwritten.",
        )
    trial = try_version(artifact, f"{model} {version}", root) if runtime.is_tried else SOUND
    names = {source: f"{folder.relative_to(root)}/{name}" for name, source in files.items()}
    fields: dict[str, Any] = {} if runtime.name == DEFAULT_RUNTIME else {"runtime": runtime.name}
    fields |= {"artifact": names[artifact.path], "sha256": artifact.sha256}
    fields |= {"signature": declared} if declared else {}
    fields |= {"requirements": list(requirements)} if requirements else {}
    fields |= {"transform": names[transform]} if transform else {}
    fields |= tensors or {}
    fields |= {"examples": names[examples]} if examples else {}
    fields |= {"breaking": True} if breaking else {}
    report = {"report": names[next(iter(reports.values()))]} if reports else {}
    fields |= {"source": {**source, **report}} if source else {}
    text = add_version(text, model, version, fields, source=old.source)
    new = parse_manifest(text.encode(), path=old.path, source=old.source)
    plan = make_plan(new, {**project.artifacts, (model, version): public}, enforce=False)
    place = f"models.{model}.versions.{version}"
    notes = tuple(note.message for note in plan.notes if f"{note.path}.".startswith(f"{place}."))
    notes += tuple(map(note_of, trial.fatal))
    changes = serving_changes(old, new)
    return PreparedVersion(
        root,
        old.path.resolve(),
        before,
        text,
        folder,
        in_place,
        files,
        artifact,
        new.model(model).version(version),
        changes,
        notes,
    )


def collect_files(
    runtime: Runtime, artifact: Artifact, examples: Path | None, transform: Path | None
) -> dict[str, Path]:
    """Return name within the version's folder -> file: data files keep their names, which are part of the model."""
    external = {file.relative_to(artifact.path.parent).as_posix(): file for file in artifact.external_files}
    own = {runtime.model_file or artifact.path.name: artifact.path}
    if examples:
        hooks = hooks_of(transform) if transform and artifact.graph is None else ()  # else their tensors are declared
        if problems := check_examples_file(examples, artifact, hooks):
            shown = "\n    ".join((*problems[1:SHOWN_PROBLEMS], *(["..."] if len(problems) > SHOWN_PROBLEMS else [])))
            raise NewVersionError(problems[0], shown)
        own[EXAMPLES_FILE] = examples
    if transform:
        if problem := check_transform(transform):
            raise NewVersionError(f"{problem}.")
        try:
            beside = find_imported_files(transform)
        except TransformFilesError as error:
            raise NewVersionError(f"{error.message}.", error.hint) from error
        del beside[transform.name]
        if clash := sorted(beside.keys() & {*own, TRANSFORM_FILE}):
            message = f"{transform.name} uses a file called {clash[0]}, a name that is reserved in a version's folder."
            raise NewVersionError(message, "Rename that file.")
        own |= {TRANSFORM_FILE: transform, **beside}
    if taken := sorted(own.keys() & external.keys()):
        raise NewVersionError(
            f"{artifact.path.name} needs a file called {taken[0]} beside it, a name that is taken here.",
            "Call that file something else, also where it is read."
            if runtime.takes_folder
            else "Save it again with another name: onnx.save(model, path, save_as_external_data=True, location=NAME).",
        )
    return own | external


def read_signature(runtime: Runtime, path: Path, file: Path | None) -> dict[str, Any]:
    """Return the value of `signature` in models.yaml, read from a file; nothing if the model file contains it.

    Raises:
        NewVersionError: the file is missing although the runtime needs it, or is not needed, or is invalid.
    """
    if not runtime.declares_signature:
        if file is not None:
            message = f"{path.name} is {runtime.artifact}, which holds its own signature."
            raise NewVersionError(message, "Leave --signature out.")
        return {}
    if file is None:
        raise NewVersionError(
            f"{path.name} is {runtime.artifact}, which does not describe its inputs and outputs.",
            f"Write them into a file and name it with --signature, for example:\n    {SIGNATURE_FILE}",
        )
    try:
        read = read_yaml(file.read_bytes(), source=str(file))
        problems, tree = read.problems, read.tree
    except OSError as error:
        raise NewVersionError(f"{file} cannot be read: {error.strerror}.") from error
    except ProblemsError as error:
        problems, tree = error.problems, {}
    if problems:
        place = f"{file}:{problems[0].line}:{problems[0].column}"
        raise NewVersionError(f"{place}: {problems[0].message}.", f"For example:\n    {SIGNATURE_FILE}")
    if not isinstance(tree, dict) or set(tree) != {"inputs", "outputs"}:
        message = f"{file} must hold `inputs` and `outputs`, each a mapping of names to datatype and shape."
        raise NewVersionError(message, f"For example:\n    {SIGNATURE_FILE}")
    for finding in check_signature(tree):
        place = ".".join(map(str, finding.path))
        raise NewVersionError(f"{file}: {place}: {finding.message}.", finding.hint)
    return tree


def declared_tensors(declared: Mapping[str, Any]) -> Signature | None:
    """Return the signature in the result of `read_signature`."""
    if not declared:
        return None
    return make_signature(build_signature(declared))


def find_beside(path: Path, named: Collection[Path | None]) -> tuple[Path, ...]:
    """Return the files beside a model file that belong to it: all except those with another purpose."""
    if not path.is_file():
        return ()
    others = frozenset(file.absolute() for file in named if file is not None)
    path = path.absolute()
    root = path.parent if (path.parent / "models.yaml").exists() else Path(path.anchor)
    try:
        return tuple(find_transform_files(path, NamedFiles(root, others, frozenset()), is_limited=False).values())
    except TransformFilesError as error:
        raise NewVersionError(f"{error.message}.", error.hint) from error


def holds_files(folder: Path, files: Mapping[str, Path]) -> bool:
    """Whether the folder contains every file unchanged: from the user, or from an interrupted `turnout add`."""
    try:
        return all(filecmp.cmp(source, folder / name, shallow=False) for name, source in files.items())
    except OSError:
        return False


def try_version(artifact: Artifact, name: str, root: Path) -> Trial:
    """Try the model; raise a NewVersionError if onnxruntime cannot open it, because of an operator or a locale."""
    trials = Trials(root / CACHE_DIR / "trials")
    try:
        trial = trials.of(artifact, name)
    finally:
        trials.close()
    if trial.reason:
        raise NewVersionError(*explain(trial.reason))
    return trial


def write_version(
    prepared: PreparedVersion,
    advance: Callable[[int], None] = lambda _: None,
    before_edit: Callable[[], None] = lambda: None,
) -> None:
    """Copy the files, then replace models.yaml; either both or neither.

    Args:
        prepared: what to write.
        advance: called with the number of bytes just copied.
        before_edit: called right before models.yaml is replaced.

    Raises:
        NewVersionError: a file changed since it was read.
        ManifestChangedError: models.yaml was saved since it was read.
        OSError: the disk is full, or a file may not be written.
    """
    with folders_for(prepared.folder.parent, prepared.root / CACHE_DIR):
        if not prepared.in_place:
            put_files(prepared, advance)
        try:
            before_edit()
            replace_text(prepared.manifest, prepared.text, prepared.before)
        except BaseException:  # also on Ctrl-C
            if not prepared.in_place:
                shutil.rmtree(prepared.folder)
            raise


def put_files(prepared: PreparedVersion, advance: Callable[[int], None]) -> None:
    """Copy the version's files to a temporary folder, then rename it."""
    beside, prefix = prepared.root / CACHE_DIR, "adding-"
    if beside.stat().st_dev != prepared.folder.parent.stat().st_dev:  # models/ may be a link to a larger disk
        beside, prefix = prepared.folder.parent, ".adding-"
    for left in beside.iterdir():
        if left.name.startswith(prefix):  # left by a killed process: no other process adds a version right now
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=beside) as staging:
        copied = Path(staging, "version")
        copy_files(prepared, copied, advance)
        copied.rename(prepared.folder)


def copy_files(prepared: PreparedVersion, target: Path, advance: Callable[[int], None]) -> None:
    """Copy the version's files into a new folder and compare their digest with the pinned one."""
    for name, source in prepared.files.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as reading, (target / name).open("xb") as writing:
            while chunk := reading.read(CHUNK_BYTES):
                writing.write(chunk)
                advance(len(chunk))
            writing.flush()
            os.fsync(writing.fileno())
    base = prepared.artifact.path.parent
    external = [target / file.relative_to(base) for file in prepared.artifact.external_files]
    copied = next(target / name for name, source in prepared.files.items() if source == prepared.artifact.path)
    if RUNTIMES[prepared.version.runtime].digest_of(copied, external) != prepared.artifact.sha256:
        raise NewVersionError(f"{prepared.artifact.path.name} changed while it was copied.", "Add it again.")


def add_version(text: str, model: str, version: str, fields: Mapping[str, Any], *, source: str = "models.yaml") -> str:
    """Return the manifest with one more version, the newest of its model.

    A missing model is added, and every stage without `"*": newest` then serves it: a stage must serve every model.
    `serving_changes` describes the effect.

    Args:
        text: the manifest.
        model: the model's name.
        version: the version's name.
        fields: the version's keys, `artifact`, `sha256` and so on, in this order.
        source: the file's name, for messages.

    Raises:
        EditError: the version exists already, or the layout of the file cannot be edited automatically.
        ProblemsError: the manifest is invalid, or would be with this version.
    """
    manifest = parse_manifest(text.encode(), path=Path(source), source=source)
    versions = {entry.name: [v.name for v in entry.versions] for entry in manifest.models}
    if any(entry.name == model and entry.graph is not None for entry in manifest.models):
        raise EditError(f"{model} is a graph and has no versions", "Give the new model another name.")
    if version in versions.get(model, ()):
        raise EditError(f"{model} already has a version {version}", "Versions are immutable: choose a new name.")
    if model in versions:
        text = insert_entry(text, ("models", model, "versions"), version, dict(fields))
    else:
        text = insert_entry(text, ("models",), model, {"versions": {version: dict(fields)}})
        for stage, body in read_yaml(text.encode(), source=source).tree["stages"].items():
            if "serve" not in body:
                text = insert_entry(text, ("stages", stage), "serve", {model: version})
            elif REST not in body["serve"]:
                text = insert_entry(text, ("stages", stage, "serve"), model, version)
    parse_manifest(text.encode(), path=Path(source), source=source)
    return text


def serving_changes(before: Manifest, after: Manifest) -> tuple[str, ...]:
    """Return the changes in what stages serve, a phrase each: `dev serves iris v3 instead of v2`."""
    changes = []
    for stage in after.stages:
        old = next((candidate.serve for candidate in before.stages if candidate.name == stage.name), {})
        for model, version in stage.serve.items():
            if old.get(model) != version:
                was = f" instead of {old[model]}" if model in old else ""
                changes.append(f"{stage.name} serves {model} {version}{was}")
    return tuple(changes)

"""A user's project: the manifest and its model files, checked together.

Files are relative to the manifest's folder and below it (links may point elsewhere). Artifacts on S3 are not fetched:
they have a pinned digest, and no entry in `artifacts`.
"""

from __future__ import annotations

import difflib
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from turnout.artifacts.artifact import Artifact, ArtifactError, Reading, unremarked
from turnout.artifacts.examples import Example, ExamplesError, read_examples
from turnout.manifest.parser import Manifest, Version, build_manifest, check_manifest, named_files
from turnout.manifest.values import DeclaredSignature, DeclaredTensor
from turnout.problems import Problem, ProblemsError
from turnout.project.manifest_file import manifest_path
from turnout.project.transform_checks import check_transform, hooks_of
from turnout.project.transform_files import TransformFilesError, find_named_files, find_transform_files
from turnout.protocol.tensors.datatypes import Signature, TensorSpec
from turnout.protocol.tensors.image_input import ImageInputError, fit_image
from turnout.runtimes.registry import RUNTIMES
from turnout.runtimes.runtime import Runtime, VersionFiles
from turnout.wording import shorten
from turnout.yaml_text.reader import MAX_BYTES, YamlSource, read_yaml

CACHE_DIR = ".turnout"
"""The folder beside the manifest for the data of artifacts and other files that can be recreated."""


@dataclass(frozen=True, slots=True)
class Project:
    """The manifest, and the data of its artifacts.

    Args:
        manifest: checked.
        artifacts: (model, version) -> artifact, for every version whose artifact is on this machine.
        transforms: (model, version) -> the transform and its files, by names relative to its folder.
        examples: (model, version) -> its examples, for versions that have some.
    """

    manifest: Manifest
    artifacts: Mapping[tuple[str, str], Artifact]
    transforms: Mapping[tuple[str, str], Mapping[str, Path]] = field(default_factory=dict)
    examples: Mapping[tuple[str, str], tuple[Example, ...]] = field(default_factory=dict)

    def examples_of(self, version: Version) -> tuple[Example, ...]:
        """Return a version's examples; none if the manifest has no examples file for it."""
        return self.examples.get((version.model, version.name), ())

    @property
    def first_requests(self) -> dict[tuple[str, str], Mapping[str, Any]]:
        """Return the first request of each version that has examples; an API's document shows it."""
        return {key: examples[0].request for key, examples in self.examples.items() if examples}


@dataclass(frozen=True, slots=True)
class FoundManifest:
    """The readable parts of models.yaml, valid or not.

    Args:
        path: path of the file as given.
        read: its keys and their positions.
        problems: problems of the file itself.
        versions: every version, as far as its files are readable.
    """

    path: Path
    read: YamlSource
    problems: tuple[Problem, ...]
    versions: tuple[Version, ...]


def find_manifest(path: Path) -> FoundManifest:
    """Read models.yaml, or the one in a folder.

    Raises:
        ProblemsError: the file cannot be read at all.
    """
    path = manifest_path(path)
    source = str(path)
    read = read_yaml(_read(path, source), source=source)
    problems = check_manifest(read)
    return FoundManifest(path, read, problems, named_files(read, problems))


def load_project(
    path: Path, *, cache: bool = True, reading: Reading = unremarked, runtimes: Mapping[str, Runtime] = RUNTIMES
) -> Project:
    """Read the manifest and every file that it names.

    Args:
        path: the manifest, or the folder with a `models.yaml`.
        cache: whether to cache the results in `.turnout/` beside the manifest.
        reading: context manager that is active while an artifact's digest is computed.
        runtimes: they read the versions' files.

    Raises:
        ProblemsError: all problems. Files are checked even if the rest of the manifest is invalid.
    """
    return complete_project(find_manifest(path), cache=cache, reading=reading, runtimes=runtimes)


def complete_project(
    manifest_files: FoundManifest,
    *,
    cache: bool = True,
    reading: Reading = unremarked,
    runtimes: Mapping[str, Runtime] = RUNTIMES,
) -> Project:
    """Read every file that a manifest names; see `load_project`.

    Raises:
        ProblemsError: all problems, including those of the manifest.
    """
    read, problems = manifest_files.read, list(manifest_files.problems)
    files = _Files(manifest_files.path.absolute().parent, runtimes, reading, cache=cache)
    for version in manifest_files.versions:
        problems += (_problem(read, version, *problem) for problem in files.check_artifact(version))
    for version in manifest_files.versions:  # all manifest files must be read before this check
        problems += (
            _problem(read, version, *problem) for problem in files.check_folder(version, manifest_files.versions)
        )
    for version in manifest_files.versions:
        problems += (_problem(read, version, *problem) for problem in files.check(version))
    problems += (_problem(read, *problem) for problem in files.check_beside(manifest_files.versions))
    if problems:
        raise ProblemsError(tuple(problems))
    return Project(build_manifest(read, path=manifest_files.path), files.artifacts, files.transforms, files.examples)


def _read(path: Path, source: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        hint = "Create a project with `turnout init my-models`, or name another manifest with `--manifest`."
        raise ProblemsError((Problem("there is no such file", source=source, hint=hint),)) from None
    except OSError as error:
        raise ProblemsError((Problem(f"cannot be read: {error.strerror}", source=source),)) from None


def _problem(read: YamlSource, version: Version, key: str, message: str, hint: str) -> Problem:
    return read.problem(("models", version.model, "versions", version.name, key), message, hint)


FileProblem = tuple[str, str, str]
"""A version's key, the problem of its file, and the remedy."""


class _Files:
    """The files of a project's versions; collects the artifacts while it checks them."""

    def __init__(self, folder: Path, runtimes: Mapping[str, Runtime], reading: Reading, *, cache: bool) -> None:
        self.folder = folder
        self.artifacts: dict[tuple[str, str], Artifact] = {}
        self.transforms: dict[tuple[str, str], Mapping[str, Path]] = {}
        self.examples: dict[tuple[str, str], tuple[Example, ...]] = {}
        self._runtimes = runtimes
        self._reading = reading
        self._cache_dir = folder / CACHE_DIR if cache else None

    def check_artifact(self, version: Version) -> Iterator[FileProblem]:
        """Check the artifact of a version whose runtime knows all its files."""
        if version.artifact and not version.is_remote and not self._runtimes[version.runtime].takes_folder:
            yield from self._artifact(version)

    def check_folder(self, version: Version, versions: Iterable[Version]) -> Iterator[FileProblem]:
        """Check the artifact of a version that includes its whole folder."""
        if not (version.artifact and self._runtimes[version.runtime].takes_folder) or version.is_remote:
            return
        path = self.folder / version.artifact
        beside: Mapping[str, Path] = {}
        if path.is_file():
            try:
                named = find_named_files(self.folder, versions, self.artifacts)
                beside = find_transform_files(path, named, is_limited=False)
            except TransformFilesError as error:
                yield "artifact", error.message, error.hint
                return
        yield from self._artifact(version, tuple(beside.values()))

    def check(self, version: Version) -> Iterator[FileProblem]:
        """Check a version's transform and examples."""
        yield from self._file("transform", version.transform, lambda path: filter(None, (check_transform(path),)))
        yield from self._file("examples", version.examples, lambda path: self._check_examples(path, version))

    def check_beside(self, versions: Iterable[Version]) -> Iterator[tuple[Version, str, str, str]]:
        """Check the files beside transforms; call it after every artifact is read."""
        versions = tuple(versions)
        if not any(version.transform for version in versions):
            return
        named = find_named_files(self.folder, versions, self.artifacts)
        for version in versions:
            transform = self.folder / version.transform
            if version.transform and transform.is_file():
                try:
                    self.transforms[version.model, version.name] = find_transform_files(transform, named)
                except TransformFilesError as error:
                    yield version, "transform", error.message, error.hint

    def _artifact(self, version: Version, files: tuple[Path, ...] = ()) -> Iterator[FileProblem]:
        runtime = self._runtimes[version.runtime]
        if missing := self._missing(version.artifact, runtime.suffix):
            yield ("artifact", *missing)
            return
        source = VersionFiles(self.folder / version.artifact, files, declared_signature(version))
        try:
            artifact = runtime.inspect(source, self._cache_dir, reading=self._reading)
        except ArtifactError as error:
            yield "artifact", error.message, error.hint
            return
        self.artifacts[version.model, version.name] = declare_tensors(artifact, version)
        yield from self._declared(version)
        if version.image:
            try:
                fit_image(version.image, artifact.signature)
            except ImageInputError as error:
                yield "input", str(error), error.hint
        if version.sha256 and version.sha256 != artifact.sha256:
            message = f"{version.artifact} has changed: its sha256 is {artifact.sha256}"
            yield (
                "sha256",
                message,
                f"{version.name} is immutable: add a new version with `turnout add {version.model}`.",
            )

    def _declared(self, version: Version) -> Iterator[FileProblem]:
        """Yield tensors that are declared although no hook changes them."""
        transform = self.folder / version.transform
        hooks = hooks_of(transform) if version.transform else frozenset()
        for key, hook, declared in (
            ("inputs", "preprocess", version.inputs),
            ("outputs", "postprocess", version.outputs),
        ):
            if key == "inputs" and version.image:
                if hook in hooks:
                    message = f"{transform.name} has `{hook}`, but `input` already makes the model's input"
                    yield "transform", message, f"Delete `{hook}`, or `input`."
            elif declared and version.transform and hook not in hooks:
                message = f"{transform.name} has no `{hook}`, so the {key} are those of the ONNX file"
                yield key, message, f"Delete `{key}`, or define `{hook}`."

    def _check_examples(self, path: Path, version: Version) -> Iterable[str]:
        artifact = self.artifacts.get((version.model, version.name))
        hooks = hooks_of(self.folder / version.transform) if version.transform else frozenset()
        try:
            examples = read_examples(path)
        except ExamplesError as error:
            return (str(error),)
        self.examples[version.model, version.name] = examples
        return check_all_examples(examples, path.name, artifact, free_hooks(version, hooks))

    def _file(self, key: str, name: str, check: Callable[[Path], Iterable[str]]) -> Iterator[FileProblem]:
        """Check the transform or the examples; return nothing if the version has none."""
        if not name:
            return
        if missing := self._missing(name):
            yield (key, *missing)
            return
        for message in check(self.folder / name):
            yield key, message, ""

    def _missing(self, name: str, suffix: str = "") -> tuple[str, str] | None:
        """Return why no file can be read there, and a suggestion; `suffix` is the usual ending of such files."""
        path = self.folder / name
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            return f"no such file: {shorten(name)}", self._nearest(name, suffix)
        except (OSError, ValueError) as error:
            return f"{shorten(name)} cannot be read: {getattr(error, 'strerror', error)}", ""
        if stat.S_ISREG(mode):
            return None
        kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        return f"{shorten(name)} is {kind}", self._nearest(f"{name}/x", suffix) if stat.S_ISDIR(mode) else ""

    def _nearest(self, name: str, suffix: str) -> str:
        """Return a question with the most similar file in the same folder, preferably of the same kind."""
        if (self.folder / name.replace("\\", "/")).is_file():
            return f"Use forward slashes: {name.replace(chr(92), '/')}."
        wanted = PurePosixPath(name)
        try:
            names = sorted(file.name for file in (self.folder / wanted.parent).iterdir() if file.is_file())
        except OSError:
            return "Paths are relative to the manifest's folder."
        same_kind = [file for file in names if file.endswith(wanted.suffix or suffix)]
        close = difflib.get_close_matches(wanted.name, same_kind, n=1, cutoff=0.3) or same_kind[:1]
        return f"Did you mean {wanted.parent / close[0]}?" if close else ""


def declared_signature(version: Version) -> Signature | None:
    """The signature in models.yaml, for versions whose files do not contain it."""
    return None if version.signature is None else make_signature(version.signature)


def make_signature(declared: DeclaredSignature) -> Signature:
    """Return the declared signature."""
    return Signature(_specs(declared.inputs), _specs(declared.outputs))


def _specs(tensors: Iterable[DeclaredTensor]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(entry.name, entry.datatype, entry.shape, content=entry.content) for entry in tensors)


def declare_tensors(artifact: Artifact, version: Version) -> Artifact:
    """Return the artifact with the version's declared inputs and outputs instead of the graph's."""
    if not version.inputs and not version.outputs:
        return artifact
    graph = artifact.graph_signature
    inputs, outputs = _specs(version.inputs), _specs(version.outputs)
    if version.image and len(graph.inputs) == 1 and graph.inputs[0].shape:
        inputs = tuple(replace(tensor, shape=graph.inputs[0].shape[:1]) for tensor in inputs)  # the batch may be fixed
    return replace(artifact, signature=Signature(inputs or graph.inputs, outputs or graph.outputs), graph=graph)


def free_hooks(version: Version, hooks: Collection[str]) -> frozenset[str]:
    """Return the hooks of a version's transform whose tensors are not declared."""
    declared = {"preprocess": version.inputs, "postprocess": version.outputs}
    return frozenset(hook for hook in hooks if not declared[hook])


def check_examples_file(path: Path, artifact: Artifact | None, hooks: Collection[str] = ()) -> tuple[str, ...]:
    """Check an examples file, and its examples against their version.

    Args:
        path: path of the file.
        artifact: the version's artifact; None if it was not read, and only the file's format is checked.
        hooks: hooks of its transform whose tensors are not declared.
    """
    try:
        examples = read_examples(path)
    except ExamplesError as error:
        return (str(error),)
    return check_all_examples(examples, path.name, artifact, hooks)


def check_all_examples(
    examples: Sequence[Example], source: str, artifact: Artifact | None, hooks: Collection[str] = ()
) -> tuple[str, ...]:
    """Check examples that were read; do nothing if the version's artifact was not."""
    if artifact is None or not artifact.signature.outputs or not examples:
        return ()
    from turnout.artifacts.example_checks import (
        check_examples,  # imports numpy, which a project without examples does not need
    )

    return check_examples(examples, artifact.signature, hooks, source=source)

"""Finds the files beside a version's transform that it may import or read, and that are packaged with it.

These are the files in the transform's folder, except those of others: files that models.yaml names for a version,
folders with such a file, hidden files, and virtual environments. Another version's transform in the same folder is
included only if this one imports it, so editing one version does not change another. The folder of models.yaml contains
the whole project: there only files that the transform's code imports or names are included.
"""

from __future__ import annotations

import ast
import os
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import decode_source
from pathlib import Path, PurePosixPath

from turnout.artifacts.artifact import Artifact
from turnout.manifest.values import Version
from turnout.problems import TurnoutError
from turnout.runtimes.registry import RUNTIMES
from turnout.wording import size_text

MOST_FILES = 2_000
MOST_BYTES = 100 * 1024 * 1024
"""A folder with more bytes was not made for a transform. Lambda's limit is 250 MB, including the layer."""

SKIPPED = (".*", "__pycache__", "*.pyc", "*~", "*.swp", "#*#", "node_modules", "*.egg-info")
"""Names that are never part of a transform."""


class TransformFilesError(TurnoutError):
    """The files beside a transform cannot be packaged."""


@dataclass(frozen=True, slots=True)
class NamedFiles:
    """The files of a project that models.yaml names, which do not belong to a transform.

    Args:
        root: the manifest's folder.
        paths: artifacts with their external data, examples, transforms, reports of conversions.
        folders: every folder below `root` with such a file, at any depth.
    """

    root: Path
    paths: frozenset[Path]
    folders: frozenset[Path]


def find_named_files(
    root: Path, versions: Iterable[Version], artifacts: Mapping[tuple[str, str], Artifact]
) -> NamedFiles:
    """Return the files that versions name, and those that belong to their artifacts."""
    paths = set()
    for version in versions:
        names = [version.transform, version.examples, "" if version.is_remote else version.artifact]
        if version.source is not None and version.source.report:
            names += [version.source.report, str(PurePosixPath(version.source.report).with_suffix(".md"))]
        paths |= {root / name for name in names if name}
        artifact = artifacts.get((version.model, version.name))
        if artifact is not None and not RUNTIMES[version.runtime].takes_folder:
            paths |= {artifact.path, *artifact.external_files}
    folders: set[Path] = set()
    for path in paths:
        for folder in path.parents:
            if folder in folders:
                break  # and so are all of its parents
            folders.add(folder)
    return NamedFiles(root, frozenset(paths), frozenset(folders))


def find_transform_files(transform: Path, named: NamedFiles, *, is_limited: bool = True) -> dict[str, Path]:
    """Return name relative to the transform's folder -> file, including the transform, sorted by name.

    Args:
        transform: the file, below `named.root`; or the artifact of a runtime that includes its folder.
        named: files of the whole project.
        is_limited: whether all files together are limited to `MOST_BYTES`.

    Raises:
        TransformFilesError: the files are too large.
    """
    folder = transform.parent
    files = {transform.name: transform}
    if folder == named.root:
        files |= _referenced(transform, named)
    else:
        files |= dict(_files_below(folder, folder, named, set()))
        if any(path.parent == folder and path.suffix == ".py" and path != transform for path in named.paths):
            imported = _referenced(transform, named)
            files |= {name: path for name, path in imported.items() if path.suffix == ".py"}
    _check_size(transform, files, is_limited=is_limited)
    return dict(sorted(files.items()))


def find_imported_files(transform: Path, *, is_limited: bool = True) -> dict[str, Path]:
    """Return the files that a transform outside of a project needs from its folder: imported modules, named files."""
    root = transform.parent
    files = {transform.name: transform, **_referenced(transform, NamedFiles(root, frozenset(), frozenset()))}
    _check_size(transform, files, is_limited=is_limited)
    return dict(sorted(files.items()))


def _check_size(transform: Path, files: Mapping[str, Path], *, is_limited: bool) -> None:
    hint = f"Move {transform.name} into a folder that holds only what it needs."
    size_bytes = sum(path.stat().st_size for path in files.values())
    if len(files) > MOST_FILES:
        raise TransformFilesError(f"{transform.name} comes with {len(files):,} files, {MOST_FILES:,} allowed", hint)
    if is_limited and size_bytes > MOST_BYTES:
        message = f"{transform.name} comes with {size_text(size_bytes)}, {size_text(MOST_BYTES)} allowed"
        raise TransformFilesError(message, hint)


def _is_skipped(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in SKIPPED)


def _files_below(folder: Path, base: Path, named: NamedFiles, seen: set[tuple[int, int]]) -> Iterator[tuple[str, Path]]:
    """Yield every file of a folder that belongs to no other version; links are followed, cycles once."""
    try:
        status = folder.stat()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    for entry in entries:
        path = folder / entry.name
        if _is_skipped(entry.name):
            continue
        if entry.is_dir():
            if path not in named.folders and not (path / "pyvenv.cfg").exists():
                yield from _files_below(path, base, named, seen)
        elif entry.is_file() and path not in named.paths:
            yield path.relative_to(base).as_posix(), path


def _referenced(transform: Path, named: NamedFiles) -> dict[str, Path]:
    """Return the modules beside the transform that it imports, at any depth, and the files that it names."""
    folder = transform.parent
    files: dict[str, Path] = {}
    pending = [transform]
    while pending:
        source = pending.pop()
        for name in sorted(_references(source, folder)):
            for relative, path in _resolve(folder, name, named):
                if relative not in files and path != transform:
                    files[relative] = path
                    if path.suffix == ".py":
                        pending.append(path)
    return files


def _resolve(folder: Path, name: str, named: NamedFiles) -> Iterator[tuple[str, Path]]:
    """Yield the files of a folder that a name in a source may mean: `helper`, `package/module`, `vocab.txt`, `data`."""
    top = PurePosixPath(name).parts[0]
    if _is_skipped(top) or top == "..":
        return
    for suffix in (".py", *EXTENSION_SUFFIXES):
        if (folder / f"{name}{suffix}").is_file():
            yield f"{name}{suffix}", folder / f"{name}{suffix}"
    path = folder / name
    if path.is_dir():
        if path not in named.folders and not (path / "pyvenv.cfg").exists():
            yield from _files_below(path, folder, named, set())
    elif path.is_file() and path not in named.paths:
        yield name, path


def _references(source: Path, folder: Path) -> Collection[str]:
    """Return slashed names of modules that a source imports, and its strings that could be a module or file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(decode_source(source.read_bytes()))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    here = source.parent.relative_to(folder).parts if source.is_relative_to(folder) else ()
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=aliases):
                for alias in aliases:
                    names |= _prefixes(tuple(alias.name.split(".")))
            case ast.ImportFrom(module=module, names=aliases, level=level):
                base = here[: len(here) - level + 1] if level else ()
                parts = (*base, *(module.split(".") if module else ()))
                names |= _prefixes(parts)
                names |= {"/".join((*parts, alias.name)) for alias in aliases if alias.name != "*"}
            case ast.Constant(value=str(text)) if 0 < len(text) <= 200 and text.isprintable():
                path = PurePosixPath(text)
                if path.parts and not path.is_absolute() and ".." not in path.parts:
                    names |= {str(path), text.strip(".").replace(".", "/")} - {".", ""}
    return {name for name in names if name and not name.startswith("/")}


def _prefixes(parts: tuple[str, ...]) -> set[str]:
    """Yield `a`, `a/b`, `a/b/c`: importing a module imports its packages."""
    return {"/".join(parts[:end]) for end in range(1, len(parts) + 1)}

"""Writes a new project that is ready to be served: either all of its files or none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from turnout import __version__
from turnout.layout import sample_dir, schema_path
from turnout.scaffold.folders import folders_for

TEMPLATE = Path(__file__).parent / "template"
CI = Path(__file__).parent / "ci"
WORKFLOWS = {"github": Path(".github", "workflows")}
"""Service -> the folder of its workflows in a project."""

DOTTED = frozenset({"gitignore"})
"""Files of the template whose name starts with a dot in the project; here a `.gitignore` would hide files."""

REQUIREMENTS = Path("requirements.txt")
"""The template's file that gets the version of Turnout that creates the project."""

IGNORED = frozenset({".git", ".venv"})
"""Files in a folder that still counts as empty."""


class OccupiedError(Exception):
    """The folder contains files already, or is not a folder."""


@dataclass(frozen=True, slots=True)
class Created:
    """The project's files, relative to its folder, in order, and what was done with each."""

    written: tuple[Path, ...]
    kept: tuple[Path, ...]


def create_project(folder: Path, *, beside_others: bool = False, ci: str = "") -> Created:
    """Write a project into `folder`, which is created if missing. No file is ever overwritten.

    Args:
        folder: target folder.
        beside_others: whether other files may exist there; existing files with our names are kept as they are.
        ci: whose workflows are also written, a key of `WORKFLOWS`, or empty.

    Returns:
        The written and the kept files.

    Raises:
        OccupiedError: the folder contains files and `beside_others` is false, or `folder` is a file.
        OSError: the disk is full, or a file may not be written; written files are deleted again.
    """
    if folder.exists() and not folder.is_dir():
        raise OccupiedError(f"{folder} is a file.")
    if folder.is_dir() and not beside_others and any(entry.name not in IGNORED for entry in folder.iterdir()):
        raise OccupiedError(f"{folder} is not empty.")
    sources = {name: source for source, name in (*project_files(), *workflow_files(ci))}
    kept = tuple(name for name in sources if (folder / name).exists() or (folder / name).is_symlink())
    written = tuple(name for name in sources if name not in kept)
    with folders_for(*((folder / name).parent for name in written)):
        try:
            for name in written:
                write_file(sources[name], folder / name)
        except BaseException:  # also on Ctrl-C
            for name in written:
                (folder / name).unlink(missing_ok=True)
            raise
    return Created(written, kept)


def write_file(source: Path, target: Path) -> None:
    """Write one file of the project; an error contains that file's path, which the user knows."""
    try:
        if source == TEMPLATE / REQUIREMENTS:
            target.write_text(source.read_text().replace("{version}", __version__))
        else:
            shutil.copyfile(source, target)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target)) from error


def project_files() -> Iterator[tuple[Path, Path]]:
    """Return every file of a new project: its source, and its name in the project."""
    for source in _files_below(TEMPLATE):
        yield source, Path(f".{source.name}") if source.name in DOTTED else source.relative_to(TEMPLATE)
    yield schema_path("models"), Path("schemas", "models.schema.json")
    sample = sample_dir() / "models" / "iris"
    for source in _files_below(sample):
        yield source, Path("models", "iris", source.relative_to(sample))


def workflow_files(ci: str) -> Iterator[tuple[Path, Path]]:
    """Return the workflows of a project: their sources, and their names in the project; none if `ci` is empty."""
    if ci:
        for source in _files_below(CI / ci):
            yield source, WORKFLOWS[ci] / source.name


def _files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)

"""The options that several commands share, and loading the project that they name."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from turnout.cli.output import passing_remark
from turnout.system.collections import without_collections
from turnout.wording import size_text

if TYPE_CHECKING:
    from turnout.manifest.parser import Manifest
    from turnout.project.project import Project
    from turnout.trials.trials import Trial

ManifestOption = Annotated[
    Path,
    typer.Option("--manifest", "-m", metavar="PATH", help="The manifest, or the folder that contains models.yaml."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DEFAULT_MANIFEST = Path("models.yaml")


SLOW_BYTES = 200 * 1024 * 1024
"""From this size on, a message is shown while an artifact is read: its digest takes a second per gigabyte or two."""


def load(path: Path) -> Project:
    """Load the project of `--manifest`, checked and with artifacts read.

    Raise a ProblemsError if something is wrong.
    """
    from turnout.project.project import load_project

    with without_collections():
        return load_project(path, reading=remark_large)


def manifest_argument(path: Path) -> str:
    """Return the argument that names the same manifest in another command; empty for the default."""
    return "" if path == DEFAULT_MANIFEST else f" -m {quote(str(path))}"


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of `--manifest` without the files that it names.

    Raises:
        OSError: it cannot be read.
        ProblemsError: something is wrong with it.
    """
    from turnout.manifest.parser import parse_manifest
    from turnout.project.manifest_file import manifest_path

    path = manifest_path(path)
    return parse_manifest(path.read_bytes(), path=path, source=str(path))


def remark_large(name: str, size_bytes: int) -> AbstractContextManager[None]:
    """Show a temporary message while a large artifact's digest is computed."""
    if size_bytes < SLOW_BYTES:
        return nullcontext()
    return passing_remark(f"reading {name}, {size_text(size_bytes)} ...")


def try_all(project: Project) -> dict[tuple[str, str], Trial]:
    """Try every version in a separate process; raise a ProblemsError if onnxruntime cannot open one."""
    from turnout.trials.checks import check_opens, try_versions

    with ExitStack() as remarks:

        def remark(name: str, done: int, total: int) -> None:
            remarks.close()
            remarks.enter_context(passing_remark(f"opening {name}, {done + 1} of {total} ..."))

        tried = try_versions(project, progress=remark)
    check_opens(project, tried)
    return tried

"""`turnout build`: the zips that AWS gets, one per version and router, and their layer."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from turnout.cli.options import DEFAULT_MANIFEST, JsonOption, ManifestOption, load, try_all
from turnout.cli.output import CommandError, console_of, counted, notify, say, say_json, say_table
from turnout.wording import printable, size_text

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Error numbers of a full disk."""

if TYPE_CHECKING:
    from turnout.packaging.build import BuiltPackage
    from turnout.project.project import Project

OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="DIR", help="Output folder of the zips. Default: .turnout/packages next to the manifest."
    ),
]
OptimizeOption = Annotated[
    bool, typer.Option("--optimize/--as-given", help="Optimize graphs where the outputs stay bit-identical.")
]
HereOption = Annotated[
    bool, typer.Option("--here", help="Build for this machine's Python and platform instead of Lambda's.")
]
JobsOption = Annotated[
    int, typer.Option("--jobs", metavar="N", min=0, help="Number of parallel builds. 0 is one per core.")
]


def build(
    *,
    manifest: ManifestOption = DEFAULT_MANIFEST,
    out: OutOption = None,
    optimize: OptimizeOption = True,
    here: HereOption = False,
    jobs: JobsOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Build the zips and layers that AWS runs.

    Builds are reproducible, and only packages whose inputs changed are built. The layer's wheels are downloaded from
    the package index that uv is configured with.
    """
    from turnout.gateway.interrupt import remembered_interrupt
    from turnout.trials.checks import find_notes

    with remembered_interrupt():
        project = load(manifest)
        tried = try_all(project)
        built, folder = build_all(project, out, optimize=optimize, here=here, jobs=jobs)
    if as_json:
        say_json([package_to_json(package) for package in built])
    else:
        say_built(built, folder)
        for note in find_notes(tried):
            notify(f"note: {note.path}: {note.message}")


def build_all(
    project: Project, out: Path | None, *, optimize: bool, here: bool, jobs: int
) -> tuple[tuple[BuiltPackage, ...], Path]:
    """Build every package of a project; return them and the folder of the zips."""
    import sys

    from turnout.packaging.build import LAMBDA_PYTHON, BuildTarget, build_packages
    from turnout.packaging.layer import LayerError
    from turnout.packaging.routers import find_routers
    from turnout.packaging.transform_imports import require_imports
    from turnout.plan.planner import make_plan

    for note in require_imports(project).notes:
        notify(f"note: {note}")
    routers = tuple(find_routers(project, make_plan(project.manifest, project.artifacts, enforce=False)))
    folder = out or project.manifest.path.parent / ".turnout" / "packages"
    target = BuildTarget("" if here else LAMBDA_PYTHON)
    try:
        with building(len(project.artifacts) + len(routers), sys.stderr.isatty()) as progress:
            built = build_packages(
                project, out=folder, target=target, routers=routers, optimize=optimize, jobs=jobs, progress=progress
            )
    except LayerError as error:
        raise CommandError(f"cannot build the layer: {error}", code=1) from None
    except OSError as error:
        if error.errno not in FULL:
            raise
        message = f"cannot write packages to {folder}: {error.strerror}."
        raise CommandError(message, "Free disk space and build again: finished packages are kept.", code=1) from error
    return built, folder


@contextmanager
def building(functions: int, on_terminal: bool) -> Iterator[Callable[[str, str], None]]:  # noqa: FBT001
    """Show a bar on standard error that moves with each package; only on a terminal."""
    if not on_terminal:
        yield lambda _name, _event: None
        return
    import sys

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console_of(sys.stderr), transient=True) as bar:
        task = bar.add_task("building", total=functions + 1)

        def move(name: str, event: str) -> None:
            bar.update(task, description=printable(name), advance=0 if event == "started" else 1)

        yield move


def say_built(built: tuple[BuiltPackage, ...], folder: Path) -> None:
    """Print the table of sizes and Lambda's limits, then the notes."""
    layers = {package.name: package for package in built if package.kind == "layer"}
    say_table(
        ("package", "", "zip", "of 50 MB", "unzipped", "with layer", "of 250 MB", "digest"),
        [_row(package, layers.get(package.layer)) for package in built],
        right=("zip", "of 50 MB", "unzipped", "with layer", "of 250 MB"),
    )
    new = sum(not package.cached for package in built)
    say(f"\n{counted(len(built), 'package')} in {folder}: {new} built, {len(built) - new} unchanged.")
    notes: dict[str, list[str]] = {}
    for package in built:
        for note in package.notes:
            notes.setdefault(note, []).append(package.name)
    for note, names in notes.items():
        notify(f"note: {names[0] if len(names) == 1 else counted(len(names), 'package')}: {note}")


def _row(package: BuiltPackage, layer: BuiltPackage | None) -> tuple[str, ...]:
    from turnout.plan.checks.quotas import DIRECT_ZIP_BYTES, UNZIPPED_BYTES

    total = package.unzipped_bytes + (layer.unzipped_bytes if layer else 0)
    return (
        package.name,
        "unchanged" if package.cached else "built",
        size_text(package.zip_bytes),
        _share(package.zip_bytes, DIRECT_ZIP_BYTES),
        size_text(package.unzipped_bytes),
        size_text(total) if layer else "",
        _share(total, UNZIPPED_BYTES),
        package.digest[:12],
    )


def _share(used: int, allowed: int) -> str:
    return f"{100 * used / allowed:.0f}%" if used <= allowed else f"{100 * used / allowed:.0f}% OVER"


def package_to_json(package: BuiltPackage) -> dict[str, Any]:
    """Return one package for programs."""
    return {
        "name": package.name,
        "kind": package.kind,
        "path": str(package.path),
        "digest": package.digest,
        "zip_bytes": package.zip_bytes,
        "unzipped_bytes": package.unzipped_bytes,
        "cached": package.cached,
        "layer": package.layer or None,
        "notes": list(package.notes),
    }

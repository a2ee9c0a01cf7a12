"""Reads a project at a git revision into a temporary folder, without touching the working tree."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from turnout.problems import TurnoutError
from turnout.project.project import Project, load_project
from turnout.yaml_text.reader import read_yaml


class RevisionError(TurnoutError):
    """The revision cannot be read."""


@contextmanager
def read_revision(manifest: Path, ref: str) -> Iterator[Project]:
    """Provide the project of `manifest` at a revision, until the end of the block.

    Model files that git does not have are taken from the working tree. Projects often keep large models outside of
    git, and versions are immutable.

    Args:
        manifest: the path of models.yaml.
        ref: a branch, tag or commit.

    Raises:
        RevisionError: the folder is not in a git repository, the revision is unknown, or it has no models.yaml.
        ProblemsError: models.yaml is invalid at that revision.
    """
    folder = manifest.resolve().parent
    commit = _git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if commit is None:
        raise RevisionError(
            f"unknown git revision {ref!r}",
            "Fetch it first: in a workflow, check out with `fetch-depth: 0`.",
        )
    # Below the root of a repository, git archives only the folder in which it runs.
    archive = _git(folder, "archive", "--format=tar", commit.decode().strip())
    if archive is None:
        raise RevisionError(f"the folder {folder.name} does not exist at {ref}")
    with tempfile.TemporaryDirectory(prefix="turnout-revision-") as scratch:
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(scratch, filter="data")
        there = Path(scratch) / manifest.name
        if not there.is_file():
            raise RevisionError(f"{manifest.name} does not exist at {ref}")
        _add_untracked(there, folder)
        yield load_project(there, cache=False)


def _git(folder: Path, *arguments: str) -> bytes | None:
    """Return git's output, or None if git fails."""
    program = shutil.which("git")
    if program is None:
        raise RevisionError("git is not installed")
    done = subprocess.run([program, "-C", str(folder), *arguments], capture_output=True, check=False)
    if done.returncode and b"not a git repository" in done.stderr:
        raise RevisionError(f"{folder} is not in a git repository", "Run this in a clone of the project.")
    return done.stdout if done.returncode == 0 else None


def _add_untracked(manifest: Path, folder: Path) -> None:
    """Add links to the working tree's files for those that models.yaml names and git does not have."""
    tree = read_yaml(manifest.read_bytes(), source=manifest.name).tree
    for named in _named_files(tree):
        there, here = manifest.parent / named, folder / named
        inside = os.path.commonpath([folder, here.resolve()]) == str(folder)
        if not there.exists() and here.exists() and inside:
            there.parent.mkdir(parents=True, exist_ok=True)
            there.symlink_to(here.resolve())


def _named_files(tree: object) -> Iterator[str]:
    models = tree.get("models") if isinstance(tree, dict) else None
    for model in models.values() if isinstance(models, dict) else ():
        versions = model.get("versions") if isinstance(model, dict) else None
        for version in versions.values() if isinstance(versions, dict) else ():
            for key in ("artifact", "transform", "examples"):
                name = version.get(key) if isinstance(version, dict) else None
                if isinstance(name, str) and "://" not in name and not Path(name).is_absolute():
                    yield name

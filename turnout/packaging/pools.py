"""Collects the contents of a pool's zip except bytecode: its versions' descriptions, their transforms, the code.

It contains no models. On AWS the models are in S3, and here in a folder beside the packages, each in a folder with the
name of its digest: a new version changes a few hundred bytes of the zip.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turnout.artifacts.session_size import estimate_session_bytes
from turnout.packaging.contents import TRANSFORM_FOLDER, FunctionInputs, StoredFile, code_files, to_json
from turnout.packaging.zips import Content
from turnout.plan.checks.pools import session_room
from turnout.project.project import Project
from turnout.runtimes.registry import RUNTIMES

POOL_FILE = "pool.json"
"""The file in a pool's zip that replaces `function.json` (model_lambdas/function/entry.py)."""

MODELS_VARIABLE = "TURNOUT_MODELS"
"""The variable with the place of the models of a pool's function (model_lambdas/function/pool_files.py)."""

MB = 1024 * 1024
DISK_SLACK_BYTES = 16 * MB
"""Bytes of /tmp that are reserved for other files."""


@dataclass(frozen=True, slots=True)
class PoolInputs:
    """The parts of a pool's zip.

    Args:
        name: name of the pool.
        versions: parts of the function that each version would have of its own.
        is_here: whether it runs on this machine, whose gateway logs its calls.
    """

    name: str
    versions: tuple[FunctionInputs, ...]
    is_here: bool

    @property
    def requirements(self) -> tuple[str, ...]:
        """Return the requirements of all versions."""
        lines = dict.fromkeys(line for inputs in self.versions for line in inputs.version.requirements)
        return tuple(sorted(lines))

    @property
    def stored(self) -> dict[tuple[str, str], tuple[StoredFile, ...]]:
        """Return model and version -> the files that the function fetches."""
        return {(inputs.version.model, inputs.version.name): inputs.stored_files() for inputs in self.versions}

    def metadata(self) -> dict[str, Any]:
        """Return `pool.json`, which the handler reads at init."""
        version = self.versions[0].version
        runtime = RUNTIMES[version.runtime]
        return {
            "pool": self.name,
            "imports": list(runtime.imports),
            "session_bytes": session_room(version.memory_mb),
            "disk_bytes": version.ephemeral_storage_mb * MB - DISK_SLACK_BYTES,
            "logs": not self.is_here,
            "versions": [self._version(inputs) for inputs in self.versions],
        }

    def _version(self, inputs: FunctionInputs) -> dict[str, Any]:
        """Return a version's `function.json`, and the pool's additional fields."""
        version = inputs.version
        fields = inputs.metadata()
        if version.transform:
            fields["transform"] = f"{_transform_folder(inputs)}/{Path(version.transform).name}"
        is_elsewhere = version.is_remote and not self.is_here
        return {
            **fields,
            "location": version.artifact.rpartition("/")[0] if is_elsewhere else "",
            "session_bytes": estimate_session_bytes(inputs.artifact.size_bytes),
        }

    def sources(self) -> dict[str, Content]:
        """Return archive name -> content of everything except bytecode."""
        files: dict[str, Content] = {**code_files(RUNTIMES[self.versions[0].version.runtime])}
        for inputs in self.versions:
            folder = _transform_folder(inputs)
            files |= {f"{folder}/{name}": path for name, path in inputs.beside.items()}
        return {**files, POOL_FILE: to_json(self.metadata())}


def _transform_folder(inputs: FunctionInputs) -> str:
    return f"{TRANSFORM_FOLDER}/{inputs.version.model}_{inputs.version.name}"


def group_by_pool(inputs: Sequence[FunctionInputs], *, is_here: bool) -> tuple[PoolInputs, ...]:
    """Return the pools of these versions."""
    pools: dict[str, list[FunctionInputs]] = {}
    for part in inputs:
        if part.version.pool:
            pools.setdefault(part.version.pool, []).append(part)
    return tuple(PoolInputs(name, tuple(parts), is_here) for name, parts in pools.items())


def store_models(project: Project, folder: Path) -> None:
    """Put the models of pooled versions into a folder of this machine, by digest as in S3.

    They are links if possible. A pool checks each file's digest whenever it loads it.
    """
    for key, artifact in project.artifacts.items():
        if not project.manifest.model(key[0]).version(key[1]).pool:
            continue
        base = artifact.path.parent
        for file in (artifact.path, *artifact.external_files):
            _store(file, folder / artifact.sha256 / file.relative_to(base))


def _store(file: Path, target: Path) -> None:
    """Make `target` this file unless it is already; if the file was replaced, replace it here, too."""
    with suppress(OSError):
        if target.samefile(file):
            return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)

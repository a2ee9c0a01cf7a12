"""Reads a project's files again, while the gateway serves their previous state."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import pickle
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from turnout.gateway.editions.edition import Edition, FileStamp, make_edition, stamps_of
from turnout.gateway.editions.switch import FunctionsOf, GatewayOf
from turnout.manifest.values import Version
from turnout.problems import Problem, ProblemsError
from turnout.project.project import FoundManifest, complete_project, find_manifest
from turnout.project.transform_files import TransformFilesError, find_named_files, find_transform_files
from turnout.runtimes.registry import RUNTIMES
from turnout.system.collections import without_collections

SHORTAGES = (
    "can't start new thread",
    "pthread_create",
    "MemoryError",
    "bad_alloc",
    *map(os.strerror, (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC)),
)
"""Parts of error messages about a shortage of the system, which say nothing about the files."""

TRIES = 20
RETRY_S = 0.1
CLOCK_STEP_NS = 20_000_000
"""File systems use a clock with steps of at most 10 ms."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The result of reading the files.

    Args:
        edition: None if something is wrong.
        problems: as `turnout validate` reports them; empty if there are none.
        files: stamps of everything that the outcome depends on, from when it was read or earlier.
    """

    edition: Edition | None
    problems: str
    files: Mapping[Path, FileStamp]


@without_collections()
def rebuild(path: Path, before: Edition, *, functions_of: FunctionsOf, gateway_of: GatewayOf) -> Rebuilt:
    """Read everything, and test what is new: its document and routes, its sessions and transforms.

    Must be called in a separate process, because it silences the log.

    Args:
        path: the manifest.
        before: the served edition; functions that are unchanged in it are not tested again.
        functions_of: makes functions.
        gateway_of: makes a gateway.
    """
    logging.disable()  # errors here are reported as problems of the files
    manifest_stamp = stamps_of([path.absolute()])
    manifest = find_what_is_there(path)
    versions = manifest.versions if manifest else ()
    files = {**find_files(path, before, versions), **dict(manifest_stamp)}
    edition: Edition | None = None
    problems = ""
    try:
        edition = _read(path, manifest)
        functions = functions_of(edition, None)
        gateway_of(edition, functions)
        names = [
            name
            for name, fingerprint in edition.fingerprints.items()
            if not _is_known(name, fingerprint.digest, before)
        ]
        reasons = asyncio.run(functions.try_out(names))
        problems = "\n".join(str(_problem(edition, name, reason)) for name, reason in reasons.items())
    except ProblemsError as error:
        problems = str(error)
    except Exception as error:
        problems = f"{path}: {type(error).__name__}: {error}"
    files = {**find_files(path, edition, versions), **files}
    return Rebuilt(None if problems or edition is None else without_texts(edition), problems, files)


def without_texts(edition: Edition) -> Edition:
    """Return an edition for workers: without models.yaml's text and positions, and without AWS's quotas.

    They are half of an edition's bytes, which every worker reads.
    """
    manifest = replace(edition.project.manifest, read=None, positions={})
    plan = replace(edition.plan, quotas=(), packages=())
    return replace(edition, project=replace(edition.project, manifest=manifest), plan=plan)


def is_shortage(problems: str) -> bool:
    """Whether reading the same files again may succeed: processes, memory or descriptors ran short."""
    return any(text in problems for text in SHORTAGES)


def _read(path: Path, manifest: FoundManifest | None) -> Edition:
    """Return an edition of which no file changed while it was made, or the last of many attempts.

    Args:
        path: the manifest.
        manifest: its contents when the files were listed; None if nothing could be read.
    """
    for _ in range(TRIES):
        started = time.time_ns() - CLOCK_STEP_NS
        edition = make_edition(complete_project(find_manifest(path) if manifest is None else manifest))
        manifest = None  # another attempt reads everything again
        stamps = [stamp for fingerprint in edition.fingerprints.values() for _, stamp in fingerprint.stamps]
        if all(changed < started for _, changed, _ in stamps):
            break
        time.sleep(RETRY_S)
    return edition


def _is_known(name: str, digest: str, before: Edition) -> bool:
    known = before.fingerprints.get(name)
    return known is not None and known.digest == digest


def _problem(edition: Edition, name: str, reason: str) -> Problem:
    function = next(candidate for candidate in edition.plan.unpooled_functions if candidate.name == name)
    manifest = edition.project.manifest
    path = ("models", function.model, "versions", function.version)
    return manifest.problem(path, reason)


def find_what_is_there(path: Path) -> FoundManifest | None:
    """Return the manifest's contents, valid or not; None if it cannot be read."""
    try:
        return find_manifest(path)
    except ProblemsError:
        return None


def find_files(path: Path, edition: Edition | None = None, versions: Sequence[Version] = ()) -> dict[Path, FileStamp]:
    """Return the current stamps of the manifest, of the files that it names, and of folders that may lack a file.

    Args:
        path: the manifest.
        edition: contains the artifacts' data files, too, and the stamps of all its files when they were read.
        versions: those that the manifest names; empty if none could be read.
    """
    files = [path.absolute()]
    for version in versions:
        names = [version.transform, version.examples]
        if version.artifact and not version.is_remote:
            names.append(version.artifact)
        for name in filter(None, names):
            file = path.absolute().parent / name
            files += (file, file.parent)
    files += _beside_transforms(path.absolute().parent, versions)
    stamps = dict(stamps_of(files))
    if edition is not None:
        stamps |= {file: stamp for fingerprint in edition.fingerprints.values() for file, stamp in fingerprint.stamps}
    return stamps


def _beside_transforms(root: Path, versions: Sequence[Version]) -> Iterator[Path]:
    """Yield every file next to a transform, or in the folder that an artifact includes, and their folders."""
    owners = [
        owner
        for version in versions
        for owner in (version.transform, version.artifact if RUNTIMES[version.runtime].takes_folder else "")
        if owner
    ]
    if owners:
        named = find_named_files(root, versions, {})
        for owner in owners:
            with contextlib.suppress(TransformFilesError, OSError):
                beside = find_transform_files(root / owner, named, is_limited=False).values()
                yield from {*beside, *(file.parent for file in beside)}


def write_rebuilt(rebuilt: Rebuilt, file: int) -> None:
    """Write the result for other processes."""
    with os.fdopen(os.dup(file), "wb") as stream:
        pickle.dump(rebuilt, stream, pickle.HIGHEST_PROTOCOL)


@without_collections()
def read_rebuilt(file: int) -> Rebuilt:
    """Read another process's result; the file stays open, with its shared position unchanged."""
    rebuilt = pickle.loads(os.pread(file, os.fstat(file).st_size, 0))  # noqa: S301 - from a process forked with this one
    assert isinstance(rebuilt, Rebuilt)
    return rebuilt


def take_edition(file: int) -> Edition:
    """Return the edition that another process wrote; close the file."""
    try:
        edition = read_rebuilt(file).edition
    finally:
        os.close(file)
    assert edition is not None
    return edition

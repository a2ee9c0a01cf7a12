"""Reads a model's bytes once, checks them, and keeps them safe from other processes while its session lives.

onnxruntime maps external data into memory: overwriting the file would change the answers of a model that is being
served, and truncating it would kill the process. Therefore a session is opened on copies that are deleted once it is
open. The digest is computed from the same bytes in the same pass, so no other content can be served under it.

Measured with 100 MB of external data (onnxruntime 1.32, two busy cores): the file itself 0.2 s and 164 MB resident; an
unlinked copy 0.6 s and 164 MB; `add_external_initializers_from_files_in_memory` 0.8 s, 281 MB and 379 MB at its peak.
Hence the copy. A model without external data is read by onnxruntime and not mapped; up to `LARGEST_IN_MEMORY_BYTES` it
is handed over in memory.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from turnout.protocol.artifact_digest import combine_digests, sort_external

LARGEST_IN_MEMORY_BYTES = 16 * 1024 * 1024
CHUNK_BYTES = 1024 * 1024

_PREFIX = "opening-"
_LOCK = "lock"


class OtherContentError(Exception):
    """The files do not have the expected digest; the message does not name the model."""


@contextmanager
def private_files(
    artifact: Path, external_files: Sequence[Path], sha256: str, folder: Path | None
) -> Iterator[Path | bytes]:
    """Return the input for onnxruntime: the model's bytes, or the path of a copy that is deleted afterwards.

    Args:
        artifact: the ONNX file.
        external_files: its external data files, below the artifact's folder.
        sha256: the artifact's digest.
        folder: where copies are made; if it is not writable, they are made in the folder for temporary files.

    Raises:
        OtherContentError: the files have another digest.
        OSError: a file cannot be read, or there is no space for a copy.
    """
    if not external_files and artifact.stat().st_size <= LARGEST_IN_MEMORY_BYTES:
        content = artifact.read_bytes()
        _check(artifact, hashlib.sha256(content).hexdigest(), sha256)
        yield content
        return
    with _private_folder(folder) as private:
        digests = []
        for file in (artifact, *sort_external(artifact, external_files)):
            target = private / file.relative_to(artifact.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            digests.append(_copy(file, target))
        _check(artifact, combine_digests(digests), sha256)
        yield private / artifact.name


def _check(artifact: Path, digest: str, expected: str) -> None:
    if digest != expected:
        message = f"{artifact.name} has changed since models.yaml was read: its sha256 is {digest}, not {expected}"
        raise OtherContentError(f"{message}: reload with SIGHUP, a restart or --watch")


def _copy(source: Path, target: Path) -> str:
    """Copy a file and return the digest of the copied bytes."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(CHUNK_BYTES))
    with source.open("rb", buffering=0) as reading, target.open("xb", buffering=0) as writing:
        while size := reading.readinto(buffer):
            digest.update(buffer[:size])
            writing.write(buffer[:size])
    return digest.hexdigest()


@contextmanager
def _private_folder(folder: Path | None) -> Iterator[Path]:
    """Make a folder for this process only. It is deleted afterwards, or by the next process if this one is killed."""
    made = _make_folder(folder)
    lock = os.open(made / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield made / "model"
    finally:
        shutil.rmtree(made, ignore_errors=True)
        os.close(lock)


def _make_folder(folder: Path | None) -> Path:
    if folder is not None:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            _sweep(folder)
            return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder))
    return Path(tempfile.mkdtemp(prefix=f"turnout-{_PREFIX}"))


def _sweep(folder: Path) -> None:
    """Delete what killed processes left behind while they opened a model."""
    for left in folder.glob(f"{_PREFIX}*"):
        try:
            lock = os.open(left / _LOCK, os.O_RDWR)
        except OSError:
            continue  # it is just being created or deleted
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
        except OSError:
            pass  # it is being opened
        finally:
            os.close(lock)

"""A model that is not in its function's zip: fetched from S3 when the function starts.

Each file is fetched in ranges over several connections at once, because one connection does not use all of Lambda's
bandwidth. No file is opened before its digest is verified. boto3 is not used, because importing it takes longer than
transferring a small model. Source: Amazon S3 API Reference, GetObject; S3 performance guidelines, "Use byte-range
fetches".
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from turnout.protocol.aws.objects import ObjectError, ObjectFolder

from .runtime import ModelError

LOCATION = "TURNOUT_MODEL"
"""The function's environment variable with the location of its model, `s3://bucket/folder`."""

RANGE_BYTES = 8 * 1024 * 1024
CONNECTIONS = 8
TIMEOUT_S = 10.0
"""Timeout of each read: S3 answers in fractions of a second; otherwise another attempt is faster."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of a model, as listed in `function.json`.

    Args:
        name: relative to the model's folder, both on disk and in the bucket.
        bytes: its size.
        sha256: 64 hex digits.
    """

    name: str
    bytes: int
    sha256: str


def fetch_model(files: Sequence[StoredFile], folder: Path, environ: Mapping[str, str]) -> None:
    """Download every file of a model into `folder`.

    Args:
        files: all of them.
        folder: created if it is missing.
        environ: Lambda's environment, with the location, the region and the role's credentials or their address;
            `AWS_ENDPOINT_URL_S3` names another server than AWS's.

    Raises:
        ModelError: a file is missing, cannot be read, or is not the one that was deployed.
    """
    location = environ.get(LOCATION)
    if not location:
        raise ModelError(f"the model is not in the zip, and {LOCATION} does not say where it is")
    fetch_files(location, files, folder, environ)


def fetch_files(location: str, files: Sequence[StoredFile], folder: Path, environ: Mapping[str, str]) -> None:
    """Put files of `s3://bucket/folder` into a folder; see `fetch_model`."""
    bucket = ObjectFolder(location, environ, timeout_s=TIMEOUT_S)
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        for file in files:
            target = folder / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                _fetch_file(bucket, file, target, threads)
            except ObjectError as error:
                raise ModelError(str(error)) from error


def _fetch_file(bucket: ObjectFolder, file: StoredFile, target: Path, threads: ThreadPoolExecutor) -> None:
    with target.open("w+b") as stream:

        def fetch(part: tuple[int, int]) -> None:
            first, last = part
            os.pwrite(stream.fileno(), bucket.read_range(file.name, first, last), first)

        for _ in threads.map(fetch, _ranges(file.bytes)):
            pass
        stream.seek(0)
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != file.sha256:
        target.unlink()
        message = f"{bucket.spell(file.name)} is not the file that was deployed: its sha256 is {digest}"
        raise ModelError(f"{message}, expected {file.sha256}")


def _ranges(size: int) -> Iterator[tuple[int, int]]:
    """Yield the first and last byte of each range."""
    for first in range(0, size, RANGE_BYTES):
        yield first, min(first + RANGE_BYTES, size) - 1

"""A model that is not in its function's zip: fetched from S3 when the function starts.

Each file is fetched in ranges over several connections at once, because one connection does not use all of Lambda's
bandwidth. No file is opened before its digest is verified. boto3 is not used, because importing it takes longer than
transferring a small model. Source: Amazon S3 API Reference, GetObject; S3 performance guidelines, "Use byte-range
fetches".
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import quote, urlsplit

from turnout.protocol.aws.credentials import CredentialsError, CredentialSource
from turnout.protocol.aws.objects import find_endpoint, is_in_certificate
from turnout.protocol.aws.signing import sign_request

from .runtime import ModelError

LOCATION = "TURNOUT_MODEL"
"""The function's environment variable with the location of its model, `s3://bucket/folder`."""

RANGE_BYTES = 8 * 1024 * 1024
CONNECTIONS = 8
ATTEMPTS = 3
TIMEOUT_S = 10.0
"""Timeout of each read: S3 answers in fractions of a second; otherwise another attempt is faster."""

_NO_BODY = hashlib.sha256(b"").hexdigest()


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
    bucket = BucketFolder(location, environ)
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        for file in files:
            target = folder / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            _fetch_file(bucket, file, target, threads)


def _fetch_file(bucket: BucketFolder, file: StoredFile, target: Path, threads: ThreadPoolExecutor) -> None:
    with target.open("w+b") as stream:

        def fetch(part: tuple[int, int]) -> None:
            first, last = part
            os.pwrite(stream.fileno(), bucket.read(file.name, first, last), first)

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


class BucketFolder:
    """A folder of a bucket; several threads may read it at once."""

    def __init__(self, location: str, environ: Mapping[str, str]) -> None:
        parts = urlsplit(location)
        self._location = location
        self._region = environ["AWS_REGION"]
        self._credentials = CredentialSource(environ)
        endpoint = environ.get("AWS_ENDPOINT_URL_S3")
        at = urlsplit(endpoint or find_endpoint(parts.netloc, self._region))
        self._open = HTTPSConnection if at.scheme == "https" else HTTPConnection
        self._host = at.netloc
        is_in_path = bool(endpoint) or not is_in_certificate(parts.netloc)
        self._folder = (f"/{parts.netloc}" if is_in_path else "") + parts.path.rstrip("/")

    def spell(self, name: str) -> str:
        """Return the full address of a file, for messages."""
        return f"{self._location.rstrip('/')}/{name}"

    def url_of(self, name: str) -> str:
        """Return the URL of a file."""
        scheme = "https" if self._open is HTTPSConnection else "http"
        return f"{scheme}://{self._host}{self._path_of(name)}"

    def _path_of(self, name: str) -> str:
        return quote(f"{self._folder}/{name}", safe="/~")

    def read(self, name: str, first: int, last: int) -> bytes:
        """Read a range of a file; retry if S3 or the network fails, but not if S3 rejects the request."""
        failure = ""
        for _ in range(ATTEMPTS):
            try:
                status, body = self._get(name, first, last)
            except CredentialsError as error:
                raise ModelError(f"{self.spell(name)} cannot be read: {error}") from error
            except (OSError, HTTPException) as error:
                failure = f"{type(error).__name__}: {error}"
                continue
            if status == 206 and len(body) == last - first + 1:
                return body
            failure = f"S3 answered {status} with {len(body):,} bytes"
            if 300 <= status < 500:
                break
        raise ModelError(f"{self.spell(name)} cannot be read: {failure}")

    def _get(self, name: str, first: int, last: int) -> tuple[int, bytes]:
        path = self._path_of(name)
        headers = {"host": self._host, "range": f"bytes={first}-{last}", "x-amz-content-sha256": _NO_BODY}
        signed = sign_request(
            self._credentials.current(),
            "GET",
            region=self._region,
            service="s3",
            path=path,
            headers=headers,
            body=b"",
            now=time.time(),
        )
        connection = self._open(self._host, timeout=TIMEOUT_S)
        try:
            connection.request("GET", path, headers=signed)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

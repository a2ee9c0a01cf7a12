"""Reads objects from S3, whole or in ranges, without boto3, whose import takes longer than the transfer of small ones.

Source: Amazon S3 API Reference, GetObject.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import quote, urlsplit

from turnout.protocol.aws.credentials import CredentialsError, CredentialSource
from turnout.protocol.aws.regions import dns_suffix
from turnout.protocol.aws.signing import sign_request

ATTEMPTS = 3
TIMEOUT_S = 3.0
"""Timeout of each read: S3 answers in fractions of a second; otherwise another attempt is faster."""

_NO_BODY = hashlib.sha256(b"").hexdigest()


class ObjectError(Exception):
    """An object cannot be read; the message says which and why."""


class ObjectFolder:
    """A folder of a bucket, for several threads.

    Args:
        location: `s3://bucket/folder`.
        environ: Lambda's environment, with the region and the role's credentials or their address;
            `AWS_ENDPOINT_URL_S3` names another server than AWS's.
        timeout_s: timeout of each read from the connection.
    """

    def __init__(self, location: str, environ: Mapping[str, str], *, timeout_s: float = TIMEOUT_S) -> None:
        parts = urlsplit(location)
        self._location = location.rstrip("/")
        self._timeout_s = timeout_s
        self._region = environ["AWS_REGION"]
        self._credentials = CredentialSource(environ)
        endpoint = environ.get("AWS_ENDPOINT_URL_S3")
        at = urlsplit(endpoint or find_endpoint(parts.netloc, self._region))
        self._open = HTTPSConnection if at.scheme == "https" else HTTPConnection
        self._host = at.netloc
        is_in_path = bool(endpoint) or not is_in_certificate(parts.netloc)
        self._folder = (f"/{parts.netloc}" if is_in_path else "") + parts.path.rstrip("/")

    def spell(self, name: str) -> str:
        """Return the full address of an object, for messages."""
        return f"{self._location}/{name}"

    def url_of(self, name: str) -> str:
        """Return the URL of an object."""
        scheme = "https" if self._open is HTTPSConnection else "http"
        return f"{scheme}://{self._host}{self._path_of(name)}"

    def read(self, name: str) -> bytes:
        """Return an object; retry if S3 or the network fails, but not if S3 rejects the request.

        Raises:
            ObjectError: it cannot be read.
        """
        return self._read(name, {}, lambda status, _: status == 200)

    def read_range(self, name: str, first: int, last: int) -> bytes:
        """Return the bytes from `first` to `last` of an object, both included; retry as `read` does.

        Raises:
            ObjectError: they cannot be read.
        """
        wanted = last - first + 1
        sent = {"range": f"bytes={first}-{last}"}
        return self._read(name, sent, lambda status, body: status == 206 and len(body) == wanted)

    def _read(self, name: str, sent: Mapping[str, str], is_whole: Callable[[int, bytes], bool]) -> bytes:
        failure = ""
        for _ in range(ATTEMPTS):
            try:
                status, body = self._get(name, sent)
            except CredentialsError as error:
                raise ObjectError(f"{self.spell(name)} cannot be read: {error}") from error
            except (OSError, HTTPException) as error:
                failure = f"{type(error).__name__}: {error}"
                continue
            if is_whole(status, body):
                return body
            failure = f"S3 answered {status} with {len(body):,} bytes"
            if 300 <= status < 500:
                break
        raise ObjectError(f"{self.spell(name)} cannot be read: {failure}")

    def _get(self, name: str, sent: Mapping[str, str]) -> tuple[int, bytes]:
        path = self._path_of(name)
        signed = sign_request(
            self._credentials.current(),
            "GET",
            region=self._region,
            service="s3",
            path=path,
            headers={"host": self._host, **sent, "x-amz-content-sha256": _NO_BODY},
            body=b"",
            now=time.time(),
        )
        connection = self._open(self._host, timeout=self._timeout_s)
        try:
            connection.request("GET", path, headers=signed)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _path_of(self, name: str) -> str:
        return quote(f"{self._folder}/{name}", safe="/~")


def is_in_certificate(bucket: str) -> bool:
    """Whether S3's wildcard certificate covers `bucket` as a host name: it covers a single label, without dots."""
    return "." not in bucket


def find_endpoint(bucket: str, region: str) -> str:
    """Return the address of a bucket: a host of its own, or its name in the path.

    Source: Amazon S3 User Guide, "Virtual hosting of buckets", limitations.
    """
    host = f"s3.{region}.{dns_suffix(region)}"
    return f"https://{bucket}.{host}" if is_in_certificate(bucket) else f"https://{host}"

"""A small S3 server on this machine: ranges, signatures as botocore makes them, and failures on demand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.builders.loopback_server import QuietHandler, loopback_server

KEYS = Credentials("local", "secret", "token")
REGION = "eu-west-1"


@dataclass
class Objects:
    """What the server stores and has received.

    Attributes:
        rows: path, `/bucket/key` -> the object.
        ranges: range of each request, in order of arrival; empty for a whole object.
        failures: statuses of the first answers, before objects are returned.
        url: the server's URL.
    """

    rows: dict[str, bytes]
    ranges: list[str] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    url: str = ""

    @property
    def environ(self) -> dict[str, str]:
        """Variables of a function that lead to this server."""
        return {
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": KEYS.access_key,
            "AWS_SECRET_ACCESS_KEY": KEYS.secret_key,
            "AWS_SESSION_TOKEN": KEYS.token,
            "AWS_ENDPOINT_URL_S3": self.url,
        }

    def answer(self, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        """Return status and body for one request."""
        self.ranges.append(headers.get("range", ""))
        if self.failures:
            return self.failures.pop(0), b"failed"
        if signature_of(path, headers) != headers["authorization"]:
            return 403, b"SignatureDoesNotMatch"
        if path not in self.rows:
            return 404, b"NoSuchKey"
        if "range" not in headers:
            return 200, self.rows[path]
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", headers["range"])
        assert match
        return 206, self.rows[path][int(match[1]) : int(match[2]) + 1]


def signature_of(path: str, headers: dict[str, str]) -> str:
    """The `authorization` header that botocore would send with these headers, at the time that they contain."""

    class AtThatMoment(S3SigV4Auth):  # type: ignore[misc]
        def add_auth(self, request: AWSRequest) -> None:
            request.context["timestamp"] = headers["x-amz-date"]
            self._modify_request_before_signing(request)
            text = self.string_to_sign(request, self.canonical_request(request))
            self._inject_signature_to_request(request, self.signature(text, request))

    signed = {name: headers[name] for name in ("host", "range") if name in headers}
    request = AWSRequest("GET", f"http://{headers['host']}{path}", headers=signed)
    AtThatMoment(KEYS, "s3", REGION).add_auth(request)
    return str(request.headers["Authorization"])


@contextmanager
def serve_objects() -> Iterator[Objects]:
    """Run a server for the duration of the block; the test adds the objects."""
    objects = Objects({})

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            self.respond(*objects.answer(self.path, {name.lower(): value for name, value in self.headers.items()}))

    with loopback_server(Handler) as objects.url:
        yield objects

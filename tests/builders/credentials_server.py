"""Lambda's credentials server on the loopback address, as functions with SnapStart use it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.builders.loopback_server import QuietHandler, loopback_server
from turnout.protocol.aws.credentials import TOKEN, URI

TOKEN_VALUE = "a-token-of-this-environment"
PATH = "/2021-04-23/credentials"
FAR = "2100-01-01T00:00:00Z"


@dataclass
class CredentialsServer:
    """What the server answers, and the requests that it received.

    Attributes:
        keys: access key, secret key, session token.
        expiration: ISO 8601, or None for an answer without it.
        statuses: statuses of the first answers, before the credentials are returned.
        body: returned instead of the credentials.
        requests: number of requests received.
        token: the required token; other requests get 403.
        url: URL of the credentials.
    """

    keys: tuple[str, str, str] = ("local", "secret", "token")
    expiration: str | None = FAR
    statuses: list[int] = field(default_factory=list)
    body: bytes | None = None
    requests: int = 0
    token: str = TOKEN_VALUE
    url: str = ""

    @property
    def environ(self) -> dict[str, str]:
        """Variables of a function with SnapStart that lead to this server, without an access key."""
        return {URI: self.url, TOKEN: self.token}

    def answer(self, path: str, authorization: str | None) -> tuple[int, bytes]:
        """Return status and body for one request."""
        self.requests += 1
        if self.statuses:
            return self.statuses.pop(0), b"failed"
        if authorization != self.token:
            return 403, b"Forbidden"
        if path.partition("?")[0] != PATH:
            return 404, b"Not Found"
        if self.body is not None:
            return 200, self.body
        access_key, secret_key, session_token = self.keys
        fields: dict[str, Any] = {"AccessKeyId": access_key, "SecretAccessKey": secret_key, "Token": session_token}
        if self.expiration is not None:
            fields["Expiration"] = self.expiration
        return 200, json.dumps(fields).encode()


@contextmanager
def serve_credentials() -> Iterator[CredentialsServer]:
    """Run a server for the duration of the block."""
    served = CredentialsServer()

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            status, body = served.answer(self.path, self.headers.get("Authorization"))
            self.respond(status, body, **({"Location": served.url} if status == 302 else {}))

    with loopback_server(Handler) as url:
        served.url = f"{url}{PATH}"
        yield served

"""Who may use the services: programs on this machine, clients with this run's token, or no one.

A check of addresses cannot distinguish a program on this machine from another client behind a local proxy that adds no
header, as nginx's plain `proxy_pass` does. With a proxy in front, use `token` or `off`.
"""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Awaitable, Callable, Iterable
from hmac import compare_digest

from turnout.gateway.services.aws_wire import AwsError
from turnout.gateway.services.local_only import local_only
from turnout.http_server.messages import Handler, Request, Response

TOKEN_LENGTH = 40
_ALPHABET = string.ascii_uppercase + string.digits
"""Characters of AWS's access keys, so that every tool accepts the token as one."""

_CREDENTIAL = re.compile(r"AWS4-HMAC-SHA256 .*?Credential=([^/,\s]+)/")
_BEARER = re.compile(r"Bearer ([!-~]+)", re.IGNORECASE)

REFUSED = "The services require this run's token: `turnout keys --services` prints it, boto3 sends it as access key"

Guard = Callable[[Handler], Handler]


def make_token() -> str:
    """Return a secret for one run."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(TOKEN_LENGTH))


def make_guard(token: str) -> Guard:
    """Return the check that allows clients with the token, or programs on this machine if there is no token."""
    return (lambda handle: with_token(handle, token)) if token else local_only


def with_token(handle: Handler, token: str) -> Handler:
    """Return the handler for requests with the token; others are rejected with 403."""

    def guarded(request: Request) -> Response | Awaitable[Response]:
        if any(compare_digest(token_sent.encode(), token.encode()) for token_sent in find_tokens(request.headers)):
            return handle(request)
        return AwsError(403, "AccessDeniedException", REFUSED).response()

    return guarded


def find_tokens(headers: Iterable[tuple[str, str]]) -> list[str]:
    """Return the tokens in a request: the access key of a signature, or a bearer token."""
    sent = [value for name, value in headers if name.lower() == "authorization"]
    matches = [pattern.match(value) for value in sent for pattern in (_CREDENTIAL, _BEARER)]
    return [match[1] for match in matches if match is not None]

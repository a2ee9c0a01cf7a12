"""Credentials of a function's role, from the environment or from the runtime's credentials server.

With SnapStart, Lambda sets no access key: the runtime serves the role's keys at `AWS_CONTAINER_CREDENTIALS_FULL_URI`,
for some hours at a time. A snapshot may be restored long after they expired, so they are checked before each use.
Source: AWS Lambda Developer Guide, "Activating and managing Lambda SnapStart"; AWS SDKs and Tools Reference Guide,
"Container credential provider"; the hosts and the order of the two token variables are botocore's.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from turnout.protocol.aws.signing import Credentials

URI = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
TOKEN = "AWS_CONTAINER_AUTHORIZATION_TOKEN"  # noqa: S105 - the variable's name
TOKEN_FILE = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"  # noqa: S105

REFRESHED_S = 300.0
"""Credentials are replaced this long before they expire. AWS offers new ones at least five minutes before."""

RETRIED_S = 10.0
"""How long valid credentials are used after a failed refresh, before the next attempt."""

ATTEMPTS = 3
ATTEMPT_S = 2.0
PAUSE_S = 0.1
LARGEST_BYTES = 64 * 1024


class CredentialsError(Exception):
    """There are no valid credentials. The message contains the variable or the server, and no secret."""


class CredentialSource:
    """The credentials of one environment, for several threads.

    Args:
        environ: read each time, since a restored snapshot has other values.
        wall_clock: seconds since 1970, compared with the credentials' expiry.
        sleep: waits between two attempts.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        wall_clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._environ = environ
        self._wall_clock = wall_clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._served: Credentials | None = None
        self._expires_s = 0.0
        self._refresh_s = 0.0

    def current(self) -> Credentials:
        """Return credentials that are valid now.

        Raises:
            CredentialsError: the environment has none, or the server returns none and the last ones have expired.
        """
        environ = self._environ
        if environ.get("AWS_ACCESS_KEY_ID") and environ.get("AWS_SECRET_ACCESS_KEY"):
            return Credentials.of(environ)
        if not environ.get(URI):
            raise CredentialsError(f"no credentials: neither AWS_ACCESS_KEY_ID nor {URI} is set")
        with self._lock:
            return self._of_server()

    def _of_server(self) -> Credentials:
        now_s = self._wall_clock()
        if self._served is not None and now_s < self._refresh_s:
            return self._served
        try:
            served, expires_s = _read(self._fetch(), now_s)
        except CredentialsError:
            if self._served is None or self._expires_s <= now_s:
                raise
            self._refresh_s = min(now_s + RETRIED_S, self._expires_s)
            return self._served
        # Credentials that live shorter than the margin are used for most of their life, not fetched for each call.
        margin_s = min(REFRESHED_S, (expires_s - now_s) / 4)
        self._served, self._expires_s, self._refresh_s = served, expires_s, expires_s - margin_s
        return served

    def _fetch(self) -> bytes:
        at = check_uri(self._environ[URI])
        headers = {"Accept": "application/json", **_authorization(self._environ)}
        failure = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                self._sleep(PAUSE_S * attempt)
            try:
                status, body = _get(at, headers)
            except OSError as error:
                failure = f"{type(error).__name__}: {error}"
                continue
            if status == 200:
                return body
            failure = f"the server answered {status}"
            if status != 429 and status < 500:
                break
        raise CredentialsError(f"{URI}: {failure}")


def check_uri(text: str) -> SplitResult:
    """Return the parts of the server's address.

    Raises:
        CredentialsError: it is not an address, or one from which credentials must not be read.
    """
    try:
        at = urlsplit(text)
        host, _ = at.hostname, at.port
    except ValueError:
        host = None
        at = urlsplit("")
    if at.scheme not in {"http", "https"} or not host or at.username is not None:
        raise CredentialsError(f"{URI}: expected an http or https URL, got {text!r}")
    if at.scheme == "http" and not _is_local(host):
        raise CredentialsError(f"{URI}: http is allowed to loopback and link-local addresses only, got host {host!r}")
    return at


def _is_local(host: str) -> bool:
    """Whether plain HTTP to a host stays on this machine: no name except localhost is resolved."""
    from ipaddress import ip_address

    if host == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or (address.version == 4 and address.is_link_local) or str(address) == "fd00:ec2::23"


def _authorization(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the `Authorization` header; a token file is read each time, since it is replaced."""
    name, file = TOKEN, environ.get(TOKEN_FILE)
    if file:
        name = TOKEN_FILE
        try:
            token = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise CredentialsError(f"{name}: {file} cannot be read: {type(error).__name__}") from None
    else:
        token = environ.get(TOKEN, "")
    if not token:
        return {}
    if not (token.isascii() and token.isprintable()):
        raise CredentialsError(f"{name}: the token is not a valid header value")
    return {"Authorization": token}


def _get(at: SplitResult, headers: Mapping[str, str]) -> tuple[int, bytes]:
    """Return status and body; a redirect is an answer like any other. Every failure is an OSError."""
    from http.client import HTTPConnection, HTTPException, HTTPSConnection

    assert at.hostname is not None
    connection_type = HTTPSConnection if at.scheme == "https" else HTTPConnection
    connection = connection_type(at.hostname, at.port, timeout=ATTEMPT_S)
    try:
        connection.request("GET", f"{at.path or '/'}?{at.query}" if at.query else at.path or "/", headers=dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read(LARGEST_BYTES)
    except HTTPException as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
    finally:
        connection.close()


def _read(body: bytes, now_s: float) -> tuple[Credentials, float]:
    """Return the credentials and their expiry; they never expire if the server sends no time."""
    try:
        document: Any = json.loads(body)
        served = Credentials(document["AccessKeyId"], document["SecretAccessKey"], document.get("Token") or "")
        expires = document.get("Expiration")
        expires_s = float("inf") if expires is None else _seconds(expires)
    except (ValueError, KeyError, TypeError, AttributeError):
        served = None
    values = () if served is None else (served.access_key, served.secret_key, served.session_token)
    if served is None or not all(isinstance(value, str) for value in values) or not all(values[:2]):
        raise CredentialsError(f"{URI}: the server's answer contains no credentials")
    if expires_s <= now_s:
        raise CredentialsError(f"{URI}: the credentials that the server returned have expired")
    return served, expires_s


def _seconds(text: str) -> float:
    from datetime import UTC, datetime

    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()

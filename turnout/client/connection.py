"""Requests to a running API, over HTTP.

No proxy is used: the API is usually on this machine.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from turnout import __version__
from turnout.loopback import is_loopback_url

CONNECT_TIMEOUT_S = 60.0
"""Longest wait for a connection."""

TIMEOUT_S = 60.0
"""Longest wait for an answer, except for inferences."""

INFERENCE_TIMEOUT_S = 310.0
"""More than the 300 s that `quotas.integration_timeout_s` allows, so that the client receives API Gateway's 504."""


class UnreachableError(Exception):
    """No answer arrived; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """An answer of the API.

    Args:
        status: HTTP status.
        headers: names in lower case.
        body: unchanged.
        elapsed_ms: from opening the connection, if it was not open, to the body's last byte.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    elapsed_ms: float


def inference_path(model: str, version: str, stage: str) -> str:
    """Return `/prod/models/iris/v1/inference`; `stage` and `version` are left out if they are empty."""
    return make_path(stage, "models", model, version, "inference")


def make_path(*segments: str) -> str:
    """Return the quoted path of these segments, without empty ones."""
    return "".join(f"/{quote(segment, safe='')}" for segment in segments if segment)


class ApiConnection:
    """Requests to one address, one after another, over a connection that stays open between them.

    Args:
        url: the server's address; its path is the prefix of each request's path.
        timeout_s: how long an answer may take; pass `INFERENCE_TIMEOUT_S` for inferences.

    Raises:
        ValueError: `url` is not a valid address.
    """

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{url} is not an address such as http://127.0.0.1:8080")
        connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = connect(parts.hostname, parts.port, timeout=min(timeout_s, CONNECT_TIMEOUT_S))
        self._prefix = parts.path.rstrip("/")
        self._url = url
        self._timeout_s = timeout_s

    def request(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> ApiAnswer:
        """Send one request and return the answer.

        Raises:
            UnreachableError: there is no answer.
        """
        sent = {"content-type": "application/json", "user-agent": f"turnout/{__version__}", **(headers or {})}
        was_open = self._connection.sock is not None
        started = time.perf_counter()
        try:
            try:
                response = self._send(method, path, body, sent)
            except (ConnectionError, http.client.RemoteDisconnected):
                if not was_open:
                    raise
                self._connection.close()  # the server had closed it in the meantime
                response = self._send(method, path, body, sent)
            answered = response.read()
        except ConnectionRefusedError:
            self.close()
            raise UnreachableError(f"no server listens at {self._url}.") from None
        except TimeoutError:
            self.close()
            raise UnreachableError(f"{self._url} did not answer within {self._timeout_s:g} s.") from None
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise UnreachableError(f"{self._url} did not answer: {error or type(error).__name__}.") from error
        elapsed_ms = (time.perf_counter() - started) * 1000
        named = {key.lower(): value for key, value in response.getheaders()}
        return ApiAnswer(response.status, named, answered, elapsed_ms)

    def _send(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        if self._connection.sock is None:
            self._open()
        self._connection.request(method, self._prefix + path, body, headers)
        return self._connection.getresponse()

    def _open(self) -> None:
        try:
            self._connection.connect()
        except TimeoutError:
            self.close()
            limit_s = self._connection.timeout
            raise UnreachableError(f"{self._url} did not accept a connection within {limit_s:g} s.") from None
        self._connection.sock.settimeout(self._timeout_s)

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self._connection.close()


def read_local_key(url: str, project: Path, stage: str) -> str:
    """Return the API key that a local gateway wrote for `stage` into the project's folder.

    Args:
        url: the request's address; a key made here is sent to no other machine.
        project: the folder of the manifest.
        stage: the stage's name; empty uses the only existing key.

    Returns:
        The key, or an empty text if there is none.
    """
    if not is_loopback_url(url):
        return ""
    try:
        keys = json.loads((project / ".turnout" / "api_keys.json").read_bytes())
    except (OSError, ValueError):
        return ""
    if not isinstance(keys, dict):
        return ""
    only = next(iter(keys.values())) if len(keys) == 1 else ""
    return str(keys.get(stage, only if not stage else ""))

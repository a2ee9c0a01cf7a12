"""One request to a running API, over HTTP.

Comes in: an address, a body. Goes out: an `Answer`, whatever its status, or an `UnreachableError`. Called by the
command line. No proxy is asked: the API is usually on this machine.
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

TIMEOUT_S = 60.0
"""Longer than the 29 s after which API Gateway gives up, so that its 504 is seen."""

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class UnreachableError(Exception):
    """No answer came; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Args:
        status: HTTP status.
        headers: names in lower case.
        body: as it came.
        elapsed_ms: from the connection to the body's last byte.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    elapsed_ms: float


def inference_path(model: str, version: str, stage: str) -> str:
    """`/prod/models/iris/v1/inference`; without `stage` or `version` where they are empty."""
    segments = [stage, "models", model, version, "inference"]
    return "".join(f"/{quote(segment, safe='')}" for segment in segments if segment)


def post(url: str, path: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float = TIMEOUT_S) -> Answer:
    """POST a JSON body to `url` + `path` and return what comes back; `ValueError` where `url` is no address."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{url} is no address such as http://127.0.0.1:8080")
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(parts.hostname, parts.port, timeout=timeout_s)
    sent = {"content-type": "application/json", "user-agent": f"turnout/{__version__}", **headers}
    started = time.perf_counter()
    try:
        connection.request("POST", parts.path.rstrip("/") + path, body, sent)
        response = connection.getresponse()
        answered = response.read()
    except ConnectionRefusedError:
        raise UnreachableError(f"no server listens at {url}.") from None
    except TimeoutError:
        raise UnreachableError(f"{url} did not answer within {timeout_s:g} s.") from None
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError(f"{url} did not answer: {error or type(error).__name__}.") from error
    finally:
        connection.close()
    elapsed_ms = (time.perf_counter() - started) * 1000
    return Answer(response.status, {key.lower(): value for key, value in response.getheaders()}, answered, elapsed_ms)


def read_local_key(url: str, project: Path, stage: str) -> str:
    """The API key that the gateway wrote for `stage` into the project's folder, for a server on this machine only.

    Args:
        url: where the request goes; a key made here is told to no other machine.
        project: the folder of the manifest.
        stage: the stage's name; empty takes the only key there is.

    Returns:
        The key, or an empty text where there is none.
    """
    if urlsplit(url).hostname not in LOOPBACK:
        return ""
    try:
        keys = json.loads((project / ".turnout" / "api_keys.json").read_bytes())
    except (OSError, ValueError):
        return ""
    if not isinstance(keys, dict):
        return ""
    only = next(iter(keys.values())) if len(keys) == 1 else ""
    return str(keys.get(stage, only if not stage else ""))

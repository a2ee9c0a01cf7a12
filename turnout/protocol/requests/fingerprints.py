"""Recognizes requests that are sent twice, and removes secrets from stored requests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SAME_HEADERS = ("content-type", "accept", "content-encoding", "inference-header-content-length", "x-turnout-version")
"""Headers that distinguish requests with the same body."""


SECRET_HEADERS = frozenset({"x-api-key", "authorization", "x-amz-security-token", "cookie"})
"""Headers that are not stored."""


@dataclass(frozen=True, slots=True)
class CallFingerprint:
    """Identifies equal requests: by their call, and by their body or the upload used as it.

    An upload is deleted after its use, so a caller who repeats a request names an upload that no longer exists.
    """

    call: str
    body: str
    upload: str = ""

    def __str__(self) -> str:
        return f"{self.call}:{self.body}:{self.upload}"


def fingerprint_call(path: str, headers: Mapping[str, str], callback: str) -> str:
    """Return the part of a fingerprint that does not depend on the body.

    Args:
        path: path of the call, without the stage.
        headers: headers of the request, with names in lower case.
        callback: address of the webhook, or empty.
    """
    said = [path, callback, *(headers.get(name, "") for name in SAME_HEADERS)]
    return hashlib.sha256("\n".join(said).encode(errors="surrogatepass")).hexdigest()


def is_same(stored: str, call: str, body: str, upload: str) -> bool:
    """Whether a request has the stored fingerprint. `body` is empty if it is no longer known."""
    parts = stored.split(":")
    return parts[0] == call and ((bool(body) and parts[1] == body) or (bool(upload) and parts[2] == upload))


def without_secrets(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the event without the caller's API key or token, which must not be stored. Their ids remain."""
    context = event["requestContext"]
    return {
        **event,
        "headers": {
            name: value for name, value in (event.get("headers") or {}).items() if name.lower() not in SECRET_HEADERS
        },
        "multiValueHeaders": {
            name: values
            for name, values in (event.get("multiValueHeaders") or {}).items()
            if name.lower() not in SECRET_HEADERS
        },
        "requestContext": {**context, "identity": {**(context.get("identity") or {}), "apiKey": None}},
    }

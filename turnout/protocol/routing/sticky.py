"""Sticky routing: a value in each of a caller's requests determines its version."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from turnout.protocol.aws.events import LENGTH_HEADER, read_event
from turnout.protocol.codecs.content_encoding import inflate
from turnout.protocol.errors import RequestError


@dataclass(frozen=True, slots=True)
class Sticky:
    """The place of the key in a request.

    Args:
        kind: a key of `KEY_READERS`.
        name: the header (lower case), the query parameter, or the dotted path in the body; empty for `api_key`.
    """

    kind: str
    name: str = ""


def read_sticky_key(sticky: Sticky, event: Mapping[str, Any]) -> str | None:
    """Return the caller's key; None if the request has none, and then its version is drawn at random."""
    return KEY_READERS[sticky.kind](event, sticky.name) or None


def read_header(event: Mapping[str, Any], name: str) -> str | None:
    """Return the value of a header, with `name` in lower case; None if it was not sent."""
    for spelled, value in (event.get("headers") or {}).items():
        if spelled.lower() == name:
            return str(value)
    return None


def _read_query(event: Mapping[str, Any], name: str) -> str | None:
    """Return the parameter's last value, which `queryStringParameters` has, too."""
    values = (event.get("multiValueQueryStringParameters") or {}).get(name)
    if values:
        return str(values[-1])
    value = (event.get("queryStringParameters") or {}).get(name)
    return None if value is None else str(value)


def _read_api_key(event: Mapping[str, Any], _name: str) -> str | None:
    """Return the key's id, not the key: a caller with a new key under the same id keeps its version."""
    identity = (event.get("requestContext") or {}).get("identity") or {}
    key: str | None = identity.get("apiKeyId")
    return key


def _read_body_value(event: Mapping[str, Any], path: str) -> str | None:
    """Return the text, number, true or false at the path; None for any other body, which the model will reject."""
    try:
        headers, body = read_event(event)
        if "content-encoding" in headers:
            body = inflate(headers["content-encoding"], body)
        length = headers.get(LENGTH_HEADER, "")
        value = json.loads(body[: int(length)] if length.isdecimal() else body)
    except (RequestError, ValueError, RecursionError):
        return None
    for step in path.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    return None if value is None or isinstance(value, dict | list) else str(value)


KEY_READERS: Mapping[str, Callable[[Mapping[str, Any], str], str | None]] = {
    "header": read_header,
    "query": _read_query,
    "api_key": _read_api_key,
    "body": _read_body_value,
}
"""Every kind of key. A new one needs one row here, and its word in the manifest's schema."""

"""Decides which models a key may call, for the local gateway and for the authorizer on AWS.

This file is the authorizer's whole code: API Gateway calls `handler` before it calls a function. A usage plan is not
sufficient: its throttles per method answer 429 and let some requests pass. The model is read from the matched route and
its parameters, as in the routers, so no spelling of a path avoids the check. Source: API Gateway Developer Guide,
"Input to an API Gateway Lambda authorizer", "Output from an API Gateway Lambda authorizer".
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

KEY_HEADER = "x-api-key"

OWNER = "owner"
"""The caller with the stage's own key, which may call everything."""

TABLE = "callers.json"
"""The file beside the authorizer's code: stage -> SHA-256 of a key -> its caller."""

_tables: dict[Path, Mapping[str, Any]] = {}


def digest_key(value: str) -> str:
    """Return the digest of a key. A key has 40 random characters, so its digest does not reveal it."""
    return hashlib.sha256(value.encode()).hexdigest()


def find_called_model(resource: str, parameters: Mapping[str, str] | None) -> str:
    """Return the model of a route; empty for the catalogue, the document and the server's metadata."""
    parameters = parameters or {}
    segments = resource.strip("/").split("/")
    if segments[0] == "v2" and "proxy" in parameters:
        segments = ["v2", *map(unquote, parameters["proxy"].split("/"))]
    if segments[:2] == ["v2", "models"]:
        segments = segments[1:]
    if segments[0] != "models" or len(segments) == 1:
        return ""
    return unquote(parameters.get("model", "")) if segments[1] == "{model}" else segments[1]


def may_call(caller: Mapping[str, Any], model: str, today: str) -> bool:
    """Whether a caller may call a model on a day.

    Args:
        caller: `models`, a list, or None for all of them; `expires`, a day or empty.
        model: as `find_called_model` returns it.
        today: in UTC, `2026-11-30`.
    """
    if caller.get("expires") and today >= caller["expires"]:
        return False
    models = caller.get("models")
    return models is None or not model or model in models


def utc_day(seconds: float) -> str:
    """Return the day in UTC, in the format of models.yaml."""
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def handler(
    event: Mapping[str, Any],
    _context: object = None,
    *,
    folder: Path = Path(__file__).parent,
    clock: Callable[[], float] = time.time,
) -> dict[str, Any]:
    """Return a policy for the called method, and the caller's name for logs and functions.

    Args:
        event: API Gateway's event of type `REQUEST`.
        folder: folder of the table.
        clock: seconds since 1970.
    """
    if folder not in _tables:
        _tables[folder] = json.loads((folder / TABLE).read_bytes())
    headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    stage = event["requestContext"]["stage"]
    caller = _tables[folder].get(stage, {}).get(digest_key(headers.get(KEY_HEADER, "")))
    model = find_called_model(event["resource"], event.get("pathParameters"))
    allowed = caller is not None and may_call(caller, model, utc_day(clock()))
    if caller is not None and caller.get("models") is not None:
        # API Gateway caches a decision by path and method, and the query could name another model in the next request.
        names_model_in_query = event["resource"].startswith("/requests/") and event["httpMethod"] == "PUT"
        allowed = allowed and not names_model_in_query
    name = "unknown" if caller is None else caller["caller"]
    statement = {
        "Action": "execute-api:Invoke",
        "Effect": "Allow" if allowed else "Deny",
        "Resource": event["methodArn"],
    }
    return {
        "principalId": name,
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        "context": {"caller": name},
    }

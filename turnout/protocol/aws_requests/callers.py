"""Reads the caller and the path's prefix from an event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from turnout.protocol.aws.paths import find_base


def find_caller(event: Mapping[str, Any]) -> str:
    """Return the caller who owns a request; empty if anyone may call the stage.

    That is the consumer, with any of its keys; the API key; the user or role that signed the request, in any of its
    sessions; or the subject of its token.
    """
    context = event["requestContext"]
    authorizer, identity = context.get("authorizer") or {}, context.get("identity") or {}
    consumer = authorizer.get("caller")
    if isinstance(consumer, str) and consumer:
        return consumer
    if identity.get("apiKeyId"):
        return str(identity["apiKeyId"])
    if identity.get("caller"):
        return str(identity["caller"]).partition(":")[0]  # a role's identifier; its session's name follows
    claims = authorizer.get("claims")
    return str(claims.get("sub", "")) if isinstance(claims, Mapping) else ""


def find_prefix(event: Mapping[str, Any]) -> str:
    """Return the path before the API's own paths in the caller's address: `/prod`, a domain's base path, or nothing."""
    context = event["requestContext"]
    base = find_base(context.get("path") or "", event["resource"], event.get("pathParameters") or {})
    return f"/{context['stage']}" if base is None else base


def headers_of(event: Mapping[str, Any]) -> dict[str, str]:
    """Return the request's headers, with names in lower case."""
    return {name.lower(): value for name, value in (event.get("headers") or {}).items()}

"""Turns a call into a stored request, and checks its identifier and callback."""

from __future__ import annotations

import hashlib
import ipaddress
import random
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson

from turnout.gateway.api.asynchronous import AsyncCall
from turnout.gateway.api.exchange import Exchange
from turnout.gateway.requests.files import Content
from turnout.gateway.requests.policies import called_by
from turnout.gateway.requests.rows import NewRequest
from turnout.manifest.values import Asynchronous
from turnout.protocol.requests.preferences import IDENTIFIER_RULE, is_identifier
from turnout.protocol.requests.refusals import Refusal
from turnout.protocol.requests.states import accept

SAME_HEADERS = ("content-type", "accept", "content-encoding", "inference-header-content-length", "x-turnout-version")
"""Headers that distinguish requests with the same body."""


SECRET_HEADERS = frozenset({"x-api-key", "authorization", "x-amz-security-token", "cookie"})
"""Headers that are not stored."""


@dataclass(frozen=True, slots=True)
class CallFingerprint:
    """Identifies equal requests: by their call, and by their body or the upload that was used as it.

    An upload is deleted once it is used, so a caller who repeats a request names an upload that no longer exists.
    """

    call: str
    body: str
    upload: str = ""

    def __str__(self) -> str:
        return f"{self.call}:{self.body}:{self.upload}"


def fingerprint_call(call: AsyncCall, callback: str) -> str:
    """Return the part of a fingerprint that does not depend on the body."""
    headers = {name.lower(): value for name, value in call.event["headers"].items()}
    said = [call.path, callback, *(headers.get(name, "") for name in SAME_HEADERS)]
    return hashlib.sha256("\n".join(said).encode(errors="surrogatepass")).hexdigest()


def is_same(stored: str, call: str, body: str, upload: str) -> bool:
    """Whether a request has the stored fingerprint. `body` is empty if it is no longer known."""
    parts = stored.split(":")
    return parts[0] == call and ((bool(body) and parts[1] == body) or (bool(upload) and parts[2] == upload))


def check_identifier(identifier: str) -> None:
    """Reject an invalid identifier.

    Raises:
        Refusal: INVALID_IDENTIFIER.
    """
    if not is_identifier(identifier):
        raise Refusal("INVALID_IDENTIFIER", f"the identifier: expected {IDENTIFIER_RULE}, got {identifier[:50]!r}")


def check_callback(address: str, policy: Asynchronous) -> None:
    """Reject an address to which the stage sends no results.

    Raises:
        Refusal: INVALID_CALLBACK.
    """
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise Refusal("INVALID_CALLBACK", "the callback is no address") from None
    schemes = {"https", "http"} if policy.allow_private_callbacks else {"https"}
    if parts.scheme not in schemes or not host or parts.username is not None or not address.isascii():
        raise Refusal("INVALID_CALLBACK", f"the callback: expected an address that begins with {min(schemes)}://")
    if not address.isprintable() or " " in address or len(address) > 2000:
        raise Refusal("INVALID_CALLBACK", "the callback is no address")
    default = 443 if parts.scheme == "https" else 80
    names = {f"{host}:{port or default}"} | ({host} if port in {None, default} else set())
    if not names & set(policy.callback_hosts):
        allowed = ", ".join(policy.callback_hosts) or "none"
        message = f"the callback's host {host[:100]} is not among the stage's `callback_hosts`: {allowed}"
        raise Refusal("INVALID_CALLBACK", message)
    _check_literal(host, policy)


def _check_literal(host: str, policy: Asynchronous) -> None:
    """Reject a private address in the callback itself. Others are found when the name is resolved."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:
            address = ipaddress.IPv4Address(socket.inet_aton(host))  # accepts forms such as 2130706433 and 0x7f.1
        except OSError:
            return
    if not address.is_global and not policy.allow_private_callbacks:
        raise Refusal("INVALID_CALLBACK", f"the callback's host {host} is a private address")


def find_caller(exchange: Exchange) -> str:
    """Return the caller who owns the request; empty if anyone may call the stage.

    The consumer, with any of its keys; the API key; the signer of the request; or the subject of its token.
    """
    if exchange.key is not None:
        return exchange.caller or exchange.key.id
    subject = "" if exchange.claims is None else str(exchange.claims.get("sub", ""))
    return exchange.signer or subject


def _without_key(event: dict[str, Any]) -> dict[str, Any]:
    """The event without the caller's API key or token, which must not be stored. Their ids remain."""
    context = event["requestContext"]
    return {
        **event,
        "headers": {name: value for name, value in event["headers"].items() if name.lower() not in SECRET_HEADERS},
        "multiValueHeaders": {
            name: values for name, values in event["multiValueHeaders"].items() if name.lower() not in SECRET_HEADERS
        },
        "requestContext": {**context, "identity": {**context["identity"], "apiKey": None}},
    }


def make_request(
    call: AsyncCall,
    *,
    identifier: str,
    fingerprint: CallFingerprint,
    content: Content,
    policy: Asynchronous,
    max_answer_bytes: int,
    callback: str,
    now: float,
) -> NewRequest:
    """Return the request to store for a call."""
    exchange = call.exchange
    model, version = called_by(call.target.function, call.path)
    # Routers choose a version by this number, so each run of the request makes the same choice.
    draw = random.random()  # noqa: S311
    event = {**_without_key(call.event), "body": None, "isBase64Encoded": False, "turnout": {"draw": draw}}
    return NewRequest(
        id=identifier,
        stage=call.routed.stage.settings.name,
        key_id=find_caller(exchange),
        fingerprint=str(fingerprint),
        progress=accept(now, policy.time_to_live_s, policy.max_attempts),
        function=call.target.function,
        alias=call.target.alias,
        is_canary=call.routed.share.is_canary,
        model=model,
        version=version,
        path=call.path,
        event=orjson.dumps(event),
        body=content,
        max_answer_bytes=max_answer_bytes,
        callback=callback,
        callback_private=policy.allow_private_callbacks,
    )

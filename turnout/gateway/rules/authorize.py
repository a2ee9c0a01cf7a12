"""Access rules: an operation's `security`, and a stage's API keys.

An operation without a scheme is open. API keys, signatures and tokens are checked. Everything else (Cognito, a Lambda
authorizer, an unknown scheme) cannot be checked on this machine and is always rejected.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from turnout.gateway.rules.errors import UNAUTHORIZED, UNSIGNED, GatewayError
from turnout.gateway.rules.tokens import TokenRules
from turnout.manifest.access import Consumer
from turnout.plan.auth import CALLERS, JWT_ALGORITHMS
from turnout.protocol.aws.callers import digest_key


class Access(Enum):
    """The way in which an operation authenticates callers."""

    OPEN = "none"
    API_KEY = "api_key"
    IAM = "iam"  # if no access key is known, requests are rejected as AWS rejects unsigned ones
    JWT = "jwt"
    AUTHORIZER = "authorizer"  # requests are rejected as AWS rejects those without a token


REFUSAL_OF: Mapping[Access, GatewayError] = {Access.IAM: UNSIGNED, Access.AUTHORIZER: UNAUTHORIZED}
"""The error if this machine cannot check a request's credentials."""


FEW_KEYS = 3
"""Number of keys up to which comparing all of them is cheaper than a digest."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key of a usage plan: callers send `value`, functions see both.

    Args:
        id: AWS's identifier, or its local substitute.
        value: empty if only the key's digest is stored.
        digest: made by `turnout.protocol.aws.callers.digest_key`; empty if the value is stored.
        consumer: the consumer with this key; None if a stage's callers have no names.
    """

    id: str
    value: str
    digest: str = ""
    consumer: Consumer | None = None


class ApiKeys:
    """A stage's keys. Looking one up takes as long for a nearly right value as for a wrong one.

    Args:
        keys: the stage's keys; without any, every request is rejected.
    """

    __slots__ = ("_by_digest", "_few", "_keys", "_salt", "consumers")

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        keys = tuple(keys)
        self._salt = os.urandom(16)
        self._by_digest = {key.digest: key for key in keys if key.digest}
        self._keys = {self._digest(key.value): key for key in keys if not key.digest}
        few = self._keys.values() if len(self._keys) <= FEW_KEYS and not self._by_digest else ()
        self._few = tuple((key.value.encode(), key) for key in few)
        self.consumers = tuple(key for key in keys if key.consumer is not None)

    def __len__(self) -> int:
        return len(self._keys) + len(self._by_digest)

    def find(self, value: str | None) -> ApiKey | None:
        """Return the key with this value: a few are compared completely, many are looked up by a keyed digest.

        Only a key's length can be learned from the time it takes.
        """
        if not value:
            return None
        if self._few:
            sent, match = value.encode(), None
            for known, one in self._few:
                if hmac.compare_digest(known, sent):
                    match = one
            return match
        key = self._by_digest.get(digest_key(value)) if self._by_digest else None
        if key is not None:
            return replace(key, value=value)
        key = self._keys.get(self._digest(value))
        if key is None or not hmac.compare_digest(key.value.encode(), value.encode()):
            return None
        return key

    def _digest(self, value: str) -> bytes:
        return hashlib.blake2b(value.encode(), key=self._salt, digest_size=16).digest()


def access_of(operation: Mapping[str, Any], schemes: Mapping[str, Any]) -> tuple[Access, str]:
    """Return the operation's authentication, and the name of a scheme that cannot be checked here, or empty.

    The document's root `security` is ignored, as on AWS. All schemes of all alternatives are combined, so an
    alternative without a scheme gives no access.
    """
    security = operation.get("security") or ()
    names = [name for alternative in security for name in alternative]
    kinds = {name: _access_of_scheme(schemes.get(name)) for name in names}
    for name, kind in kinds.items():
        if kind is Access.AUTHORIZER:
            return kind, name
    for checked in (Access.IAM, Access.JWT):
        if checked in kinds.values():
            return checked, ""
    return (Access.API_KEY if names else Access.OPEN), ""


def token_rules_of(operation: Mapping[str, Any], schemes: Mapping[str, Any]) -> TokenRules | None:
    """Return which tokens an operation accepts; None if it requires none."""
    names = [name for alternative in operation.get("security") or () for name in alternative]
    rules = [_read_token_rules(schemes[name]) for name in names if isinstance(schemes.get(name), Mapping)]
    return next((rule for rule in rules if rule is not None), None)


def _read_token_rules(scheme: Mapping[str, Any]) -> TokenRules | None:
    authorizer = scheme.get("x-amazon-apigateway-authorizer")
    if not isinstance(authorizer, Mapping) or str(authorizer.get("type", "")).lower() != "jwt":
        return None
    configuration = authorizer.get("jwtConfiguration") or {}
    issuers: list[Mapping[str, Any]] = configuration.get("issuers") or []
    if len(issuers) != 1 or authorizer.get("identitySource") != "method.request.header.Authorization":
        return None
    allowed = tuple(name for name in configuration.get("defaultAlgorithms") or () if name in JWT_ALGORITHMS)
    return TokenRules(str(issuers[0]["issuer"]), tuple(issuers[0].get("audiences") or ()), allowed)


def _access_of_scheme(scheme: object) -> Access:
    if not isinstance(scheme, Mapping):
        return Access.AUTHORIZER
    if str(scheme.get("x-amazon-apigateway-authtype", "")).lower() == "awssigv4":
        return Access.IAM
    if _is_callers(scheme):
        return Access.API_KEY
    if _read_token_rules(scheme) is not None:
        return Access.JWT
    is_key = (
        scheme.get("type") == "apiKey"
        and scheme.get("in") == "header"
        and str(scheme.get("name", "")).lower() == "x-api-key"
        and not any(str(name).startswith("x-amazon-apigateway-auth") for name in scheme)
    )
    return Access.API_KEY if is_key else Access.AUTHORIZER


def _is_callers(scheme: Mapping[str, Any]) -> bool:
    """Whether a scheme is the authorizer of consumers, whose decision is made here from the key alone."""
    authorizer = scheme.get("x-amazon-apigateway-authorizer")
    uri = str(authorizer.get("authorizerUri", "")) if isinstance(authorizer, Mapping) else ""
    return f"_{CALLERS}:" in uri and str(scheme.get("name", "")).lower() == "x-api-key"

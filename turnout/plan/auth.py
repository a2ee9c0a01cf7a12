"""Kinds of authentication: their form in the document, and who can check them.

Source: API Gateway Developer Guide, "x-amazon-apigateway-authtype", where a scheme's `type` must be `apiKey`; "Create a
JWT authorizer for a REST API"; botocore's `JwtConfigurationInput`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from turnout.manifest.values import Jwt


@dataclass(frozen=True, slots=True)
class AuthType:
    """One row of the table.

    Args:
        name: the manifest's value, and the security scheme's name in the document.
        scheme: the object under `components.securitySchemes`; None if callers need no credentials. `build_scheme` adds
            the stage's values.
        local: whether the local gateway can check it; if not, it answers 403.
        extensions: its keys at the document's root.
    """

    name: str
    scheme: Mapping[str, Any] | None
    local: bool
    extensions: tuple[tuple[str, Any], ...] = ()

    @property
    def security(self) -> list[dict[str, list[str]]]:
        """Return an operation's `security`."""
        return [] if self.scheme is None else [{self.name: []}]


AUTH_TYPES: Mapping[str, AuthType] = {
    auth.name: auth
    for auth in (
        AuthType("none", scheme=None, local=True),
        AuthType(
            "api_key",
            scheme={
                "type": "apiKey",
                "name": "x-api-key",
                "in": "header",
                "description": "An API key of the stage's usage plan.",
            },
            local=True,
            extensions=(("x-amazon-apigateway-api-key-source", "HEADER"),),
        ),
        AuthType(
            "iam",
            scheme={
                "type": "apiKey",
                "name": "Authorization",
                "in": "header",
                "description": "AWS Signature Version 4.",
                "x-amazon-apigateway-authtype": "awsSigv4",
            },
            local=True,
        ),
        AuthType(
            "jwt",
            scheme={
                "type": "apiKey",
                "name": "Authorization",
                "in": "header",
                "description": "A JSON Web Token, `Bearer ...`.",
            },
            local=True,
        ),
    )
}
"""Every kind of authentication. A new kind needs one row here and one in infra/access/auth.py for its AWS resources."""


JWT_ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512")
"""Every algorithm that API Gateway accepts; tokens with others are rejected."""


def find_auth_type(name: str) -> AuthType:
    """Return the row with that name.

    Raises:
        ValueError: unknown name; the message is for the user.
    """
    auth = AUTH_TYPES.get(name)
    if auth is None:
        known = ", ".join(f"`{known}`" for known in AUTH_TYPES)
        raise ValueError(f"unknown kind of authentication `{name}`; known are {known}")
    return auth


def build_schemes(auth: AuthType, jwt: Jwt | None) -> dict[str, Any]:
    """Return the document's `securitySchemes`; `jwt` is the issuer of tokens for `auth: jwt`.

    API Gateway reads the issuer's OpenID Connect discovery document when it creates the authorizer.
    """
    if auth.scheme is None:
        return {}
    scheme = dict(auth.scheme)
    if jwt is not None:
        issuer = {"issuer": jwt.issuer, "audiences": list(jwt.audience)}
        scheme["x-amazon-apigateway-authorizer"] = {
            "type": "jwt",
            "identitySource": "method.request.header.Authorization",
            "jwtConfiguration": {"issuers": [issuer], "defaultAlgorithms": list(JWT_ALGORITHMS)},
        }
    return {auth.name: scheme}


CALLERS = "callers"
"""The security scheme of stages with consumers, beside `api_key`; also the end of its function's name."""

CALLERS_TTL_S = 300
"""How long API Gateway caches the authorizer's decision for a key, a path and a method."""


def build_callers_scheme(uri: str, credentials: str) -> dict[str, Any]:
    """The scheme by which an authorizer decides which models a key may call.

    The cache's key includes the path and the method, so a decision applies to nothing else. Source: AWS SAM Developer
    Guide, "LambdaRequestAuthorizationIdentity".

    Args:
        uri: URI of the authorizer's function.
        credentials: the role with which API Gateway invokes it, or empty.
    """
    return {
        "type": "apiKey",
        "name": "x-api-key",
        "in": "header",
        "description": "The key decides which models may be called.",
        "x-amazon-apigateway-authtype": "custom",
        "x-amazon-apigateway-authorizer": {
            "type": "request",
            "authorizerUri": uri,
            **({"authorizerCredentials": credentials} if credentials else {}),
            "identitySource": "method.request.header.x-api-key, context.path, context.httpMethod",
            "authorizerResultTtlInSeconds": CALLERS_TTL_S,
        },
    }

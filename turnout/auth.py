"""Kinds of authentication: how each is written into the document, and who can check it.

Comes in: the word that a stage says under `auth`. Goes out: an `AuthType`. Called by the plan, which splits stages by
it, by the document, which writes it on each operation (API Gateway ignores it at the root), and by the gateway, which
refuses every call of a type that it cannot check.
Source: API Gateway Developer Guide, "x-amazon-apigateway-authtype"; a scheme's `type` must be `apiKey` there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class AuthType:
    """One row of the table.

    Args:
        name: what the manifest says, and the security scheme's name in the document.
        scheme: the object under `components.securitySchemes`; None where nothing is asked for.
        local: whether the local gateway can check it; where not, it answers 403.
        resources: what the deployment makes for it beside the document.
        extensions: keys of the document's root that belong to it.
        refusal: why no stage may ask for it yet; empty where one may.
    """

    name: str
    scheme: Mapping[str, Any] | None
    local: bool
    resources: tuple[str, ...] = ()
    extensions: tuple[tuple[str, Any], ...] = ()
    refusal: str = ""

    @property
    def security(self) -> list[dict[str, list[str]]]:
        """An operation's `security`."""
        return [] if self.scheme is None else [{self.name: []}]


AUTH_TYPES: Mapping[str, AuthType] = {
    row.name: row
    for row in (
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
            resources=("usage plan", "API key"),
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
            local=False,
        ),
        AuthType(
            "jwt",
            scheme=None,
            local=False,
            refusal="`jwt` needs an issuer and an audience, which models.yaml has no keys for yet",
        ),
    )
}
"""Every kind of authentication. A new one is one row here (and one in infra/auth.py if it needs AWS resources)."""


def find_auth_type(name: str) -> AuthType:
    """The row of that name.

    Raises:
        ValueError: nobody knows the name, or no stage may ask for it yet; the message is for the user.
    """
    row = AUTH_TYPES.get(name)
    usable = ", ".join(f"`{known.name}`" for known in AUTH_TYPES.values() if not known.refusal)
    if row is None:
        raise ValueError(f"unknown kind of authentication `{name}`; known are {usable}")
    if row.refusal:
        raise ValueError(f"{row.refusal}; use one of {usable}")
    return row

"""Cross-origin requests of browsers: the origins that a stage allows, and their headers.

API Gateway answers preflights itself, but returns a proxy answer unchanged, so the functions add the headers. A stage's
origins are in stage variables, which a canary's overrides do not change. Source: API Gateway Developer Guide, "CORS for
REST APIs"; Fetch Standard, "CORS protocol".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

ORIGINS_VARIABLE = "CorsOrigins"
"""The stage variable with the allowed origins. No model's variable has this name: those begin with a lower-case
letter.
"""

CREDENTIALS_VARIABLE = "CorsCredentials"
"""The stage variable that is `true` if browsers may send cookies and HTTP authentication."""

ANY_ORIGIN = "*"

SPELLED_ANY = "any"
"""`*` in a stage variable, whose value may not contain an asterisk."""

MOST_CHARACTERS = 512
"""Most characters of a stage variable's value."""

EXPOSED = (
    "Inference-Header-Content-Length, Location, Preference-Applied, Retry-After, x-amzn-ErrorType, x-amzn-RequestId, "
    "x-turnout-canary, x-turnout-digest, x-turnout-fallback-from, x-turnout-model, x-turnout-route, x-turnout-version"
)
"""Headers of an answer that a page may read, besides those that are always readable."""

_ALLOW_ORIGIN = "Access-Control-Allow-Origin"
_ALLOW_CREDENTIALS = "Access-Control-Allow-Credentials"
EXPOSE_HEADER = "Access-Control-Expose-Headers"
_CONDITION = re.compile(r'\$origin == "([^"]*)"')


def spell_origins(origins: Iterable[str]) -> str:
    """Return the value of `ORIGINS_VARIABLE`."""
    return ",".join(SPELLED_ANY if origin == ANY_ORIGIN else origin for origin in origins)


def make_cors_variables(origins: Iterable[str], *, credentials: bool) -> dict[str, str]:
    """Return the stage variables of a stage with `cors`."""
    return {ORIGINS_VARIABLE: spell_origins(origins), **({CREDENTIALS_VARIABLE: "true"} if credentials else {})}


def allows_origin(variables: Mapping[str, str], origin: str) -> bool:
    """Whether the stage with these variables allows the origin."""
    spelled = variables.get(ORIGINS_VARIABLE, "")
    return spelled == SPELLED_ANY or (bool(origin) and "," not in origin and origin in spelled.split(","))


def cors_headers(event: Mapping[str, Any]) -> dict[str, str]:
    """Return the CORS headers of a function's answer to an event; none if the stage has no `cors`."""
    variables = event.get("stageVariables")
    if not variables or ORIGINS_VARIABLE not in variables:
        return {}
    if variables[ORIGINS_VARIABLE] == SPELLED_ANY:
        return {_ALLOW_ORIGIN: ANY_ORIGIN, EXPOSE_HEADER: EXPOSED}
    origin = next((value for name, value in (event.get("headers") or {}).items() if name.lower() == "origin"), "")
    if not allows_origin(variables, origin):
        return {"Vary": "Origin"}
    credentials = {_ALLOW_CREDENTIALS: "true"} if variables.get(CREDENTIALS_VARIABLE) == "true" else {}
    return {_ALLOW_ORIGIN: origin, **credentials, EXPOSE_HEADER: EXPOSED, "Vary": "Origin"}


def render_origin_template(origins: Iterable[str]) -> str:
    """Return the mapping template that answers a preflight with its own origin if that origin is allowed.

    A response parameter is a constant, so only a template can choose. HTTP/2 writes the header in lower case. The text
    is the same as the Serverless Framework's, which many stages on AWS have: there a missing header is empty text.
    """
    condition = " || ".join(f'$origin == "{origin}"' for origin in origins)
    return "\n".join(
        (
            '#set($origin = $input.params("Origin"))',
            '#if($origin == "") #set($origin = $input.params("origin")) #end',
            f"#if({condition}) #set($context.responseOverride.header.{_ALLOW_ORIGIN} = $origin) #end",
        )
    )


def read_origin_template(template: str) -> tuple[str, ...] | None:
    """Return the origins that a template of `render_origin_template` allows; None for any other template."""
    origins = tuple(_CONDITION.findall(template))[1:]
    return origins if origins and template == render_origin_template(origins) else None

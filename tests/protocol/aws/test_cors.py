"""The CORS headers of a function's answer, and the template that answers preflights."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.protocol.aws.cors import cors_headers, read_origin_template, render_origin_template, spell_origins

ORIGINS = st.from_regex(r"https?://[a-z0-9.-]{1,20}(:[0-9]{2,5})?", fullmatch=True)


def event(origin: str | None = None, name: str = "Origin", **variables: str) -> dict[str, Any]:
    return {"headers": None if origin is None else {name: origin}, "stageVariables": variables or None}


def test_without_cors_there_are_no_headers() -> None:
    assert cors_headers(event("https://a.example")) == {}
    assert cors_headers(event("https://a.example", iris="v1")) == {}
    assert cors_headers({}) == {}


@pytest.mark.parametrize("name", ["Origin", "origin", "ORIGIN"])
def test_a_named_origin_is_returned(name: str) -> None:
    result = cors_headers(event("https://b.example", name, CorsOrigins="https://a.example,https://b.example"))
    assert (result["Access-Control-Allow-Origin"], result["Vary"]) == ("https://b.example", "Origin")
    assert "x-turnout-version" in result["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Credentials" not in result


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "",
        "null",
        "https://a.example.evil.example",
        "http://a.example",
        "https://a.example:8443",
        "https://A.example",
        "https://a.example,https://b.example",
        "https://b.exampl",
    ],
)
def test_any_other_origin_gets_only_vary(origin: str | None) -> None:
    said = event(origin, CorsOrigins="https://a.example,https://b.example", CorsCredentials="true")
    assert cors_headers(said) == {"Vary": "Origin"}


def test_credentials_are_allowed_only_to_named_origins() -> None:
    allowed = cors_headers(event("https://a.example", CorsOrigins="https://a.example", CorsCredentials="true"))
    assert allowed["Access-Control-Allow-Credentials"] == "true"
    every = cors_headers(event("https://a.example", CorsOrigins="any", CorsCredentials="true"))
    assert every["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in every
    assert "Vary" not in every


@given(st.lists(ORIGINS, min_size=1, max_size=5, unique=True))
def test_template_contains_the_allowed_origins(origins: list[str]) -> None:
    assert read_origin_template(render_origin_template(origins)) == tuple(origins)
    assert spell_origins(origins).split(",") == origins


def test_other_templates_are_not_parsed() -> None:
    template = render_origin_template(["https://a.example"])
    assert read_origin_template(f"{template}\n#set($context.responseOverride.status = 500)") is None
    assert read_origin_template('{"statusCode": 204}') is None

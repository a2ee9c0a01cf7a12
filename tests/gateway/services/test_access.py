"""Who may use the services if a token is required."""

from __future__ import annotations

import json

import pytest

from turnout.gateway.services.access import make_guard, make_token
from turnout.http_server.messages import Request, Response

TOKEN = "A1B2" * 10


def ask(guard_token: str, client: str = "10.0.0.7", **headers: str) -> Response:
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    handle = make_guard(guard_token)(lambda _: Response(200))
    result = handle(Request("GET", "/restapis", "", named, b"", client))
    assert isinstance(result, Response)
    return result


@pytest.mark.parametrize(
    "header",
    [
        f"Bearer {TOKEN}",
        f"bearer {TOKEN}",
        f"AWS4-HMAC-SHA256 Credential={TOKEN}/20261130/us-east-1/apigateway/aws4_request, Signature=0",
    ],
)
def test_clients_with_the_token_are_allowed_from_anywhere(header: str) -> None:
    assert ask(TOKEN, Authorization=header, X_Forwarded_For="10.0.0.9").status == 200


@pytest.mark.parametrize(
    "header",
    [
        "",
        TOKEN,
        "Bearer",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Basic {TOKEN}",
        f"AWS4-HMAC-SHA256 Credential={TOKEN}",
    ],
)
def test_other_clients_are_rejected_with_the_remedy(header: str) -> None:
    response = ask(TOKEN, "127.0.0.1", Host="localhost", Authorization=header)
    assert response.status == 403
    assert "turnout keys --services" in json.loads(response.body)["message"]


def test_without_a_token_programs_on_this_machine_are_allowed() -> None:
    assert ask("", "127.0.0.1", Host="localhost").status == 200
    assert ask("", "10.0.0.7", Host="localhost").status == 403


def test_tokens_are_access_keys_of_one_run() -> None:
    tokens = {make_token() for _ in range(10)}
    assert len(tokens) == 10
    assert all(len(token) == 40 and token.isalnum() for token in tokens)

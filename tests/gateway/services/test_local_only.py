"""Who is let in to what is not the API."""

from __future__ import annotations

import json

import pytest

from turnout.gateway.http.messages import Request, Response
from turnout.gateway.services.local_only import local_only


def ask(client: str, **headers: str) -> Response:
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    found = local_only(lambda _: Response(200))(Request("GET", "/restapis", "", named, b"", client))
    assert isinstance(found, Response)
    return found


@pytest.mark.parametrize("client", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["localhost:8080", "LocalHost", "127.0.0.1:8080", "127.0.0.2", "[::1]:8080"])
def test_program_on_this_machine_is_let_in(client: str, host: str) -> None:
    assert ask(client, Host=host, User_Agent="Boto3/1", Authorization="AWS4-HMAC-SHA256 ...").status == 200


@pytest.mark.parametrize("client", ["10.0.0.7", "192.168.1.2", "fe80::1", "::ffff:10.0.0.1", "", "localhost"])
def test_client_elsewhere_is_refused(client: str) -> None:
    assert ask(client, Host="localhost").status == 403


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({"Host": "attacker.example:8080"}, "attacker.example"),
        ({"Host": "localhost.attacker.example"}, "localhost.attacker.example"),
        ({"Host": "127.0.0.1.nip.io"}, "127.0.0.1.nip.io"),
        ({"Host": "localhost", "Origin": "http://localhost:8080"}, "Origin"),
        ({"Host": "localhost", "origin": "null"}, "origin"),
        ({"Host": "localhost", "Sec_Fetch_Site": "cross-site"}, "Sec-Fetch-Site"),
        ({"Host": "localhost", "X_Forwarded_For": "10.0.0.7"}, "X-Forwarded-For"),
        ({"Host": "localhost", "Forwarded": "for=10.0.0.7"}, "Forwarded"),
    ],
)
def test_browser_or_proxy_is_refused_and_told_why(headers: dict[str, str], says: str) -> None:
    found = ask("127.0.0.1", **headers)

    assert found.status == 403
    assert ("x-amzn-ErrorType", "AccessDeniedException") in found.headers
    assert says in json.loads(found.body)["message"]

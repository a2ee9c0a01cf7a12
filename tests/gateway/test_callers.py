"""Stages that require signatures or tokens, called on this machine: a whole gateway, with the project's own keys."""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import jwt
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from tests.builders.graphs import write_identity
from turnout.gateway.api.gateway import Gateway
from turnout.gateway.editions.edition import build_gateway, make_local_plan
from turnout.gateway.editions.in_process import make_functions
from turnout.gateway.editions.signing_keys import FILE, load_signing_key
from turnout.http_server.messages import Request, Response
from turnout.project.project import load_project

ISSUER = "https://login.example"
MANIFEST = f"""\
platform: turnout
models:
  echo: {{versions: {{v1: {{artifact: echo.onnx}}}}}}
stages:
  signed: {{serve: {{echo: v1}}, auth: iam}}
  tokens: {{serve: {{echo: v1}}, auth: jwt, jwt: {{issuer: "{ISSUER}", audience: [app], jwks: keys/jwks.json}}}}
"""
BODY = b'{"instances": [[1.0, 2.0, 3.0, 4.0]]}'
PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Site:
    """A gateway, and the events that its functions received."""

    def __init__(self, folder: Path, gateway: Gateway, events: list[dict[str, Any]]) -> None:
        self.folder = folder
        self.gateway = gateway
        self.events = events

    def call(self, path: str, headers: dict[str, str], method: str = "POST", body: bytes = BODY) -> Response:
        fields = list(({"host": "127.0.0.1"} | headers).items())

        async def answer() -> Response:
            response = self.gateway.handle(Request(method, path, "", fields, body))
            return await response if inspect.isawaitable(response) else response

        return asyncio.run(answer())

    def admit(self, path: str, headers: dict[str, str]) -> Response | None:
        fields = list(({"host": "127.0.0.1"} | headers).items())
        return self.gateway.admit(Request("POST", path, "", fields, b""))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder: Path = tmp_path_factory.mktemp("callers")
    write_identity(folder / "echo.onnx")
    (folder / "models.yaml").write_text(MANIFEST)
    (folder / "keys").mkdir()
    fields = {**json.loads(RSAAlgorithm.to_jwk(PRIVATE.public_key())), "kid": "one"}
    (folder / "keys" / "jwks.json").write_text(json.dumps({"keys": [fields]}))
    project = load_project(folder, cache=False)
    plan = make_local_plan(project)
    events: list[dict[str, Any]] = []
    with closing(make_functions(project, plan)) as functions:

        class Seen:
            def invoke(self, name: str, alias: str, event: dict[str, Any], timeout_s: float) -> Any:
                events.append(event)
                return functions.invoke(name, alias, event, timeout_s)

            def close(self) -> None:
                """The fixture closes the functions."""

        yield Site(folder, build_gateway(project, plan, Seen()), events)


def sign(folder: Path, path: str, body: bytes = BODY, method: str = "POST", secret: str = "") -> dict[str, str]:
    access, own = load_signing_key(folder / ".turnout")
    request = AWSRequest(method=method, url=f"http://127.0.0.1{path}", data=body, headers={})
    SigV4Auth(Credentials(access, secret or own), "execute-api", "eu-west-1").add_auth(request)
    return {"content-type": "application/json", **{name: str(value) for name, value in request.headers.items()}}


def bearer(**claims: Any) -> dict[str, str]:
    payload = {"iss": ISSUER, "aud": "app", "exp": time.time() + 3600, "sub": "ana", "admin": True, **claims}
    token = jwt.encode(payload, PRIVATE, "RS256", headers={"kid": "one"})
    return {"content-type": "application/json", "authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/models/echo/inference"), ("POST", "/v2/models/echo/infer"), ("GET", "/models")]
)
def test_signed_request_is_answered_and_its_function_sees_the_signer(site: Site, method: str, path: str) -> None:
    body = BODY if method == "POST" else b""
    headers = sign(site.folder, f"/signed{path}", body, method)
    assert site.admit(f"/signed{path}", headers) is None if method == "POST" else True
    assert site.call(f"/signed{path}", headers, method, body).status == 200
    identity = site.events[-1]["requestContext"]["identity"]
    access, _ = load_signing_key(site.folder / ".turnout")
    assert (identity["accessKey"], identity["userArn"].rpartition("/")[2]) == (access, "local")


def test_request_with_another_signature_is_rejected_as_on_aws(site: Site) -> None:
    path = "/signed/models/echo/inference"
    before = len(site.events)
    for headers, body, code in (
        ({}, BODY, "MissingAuthenticationTokenException"),
        (sign(site.folder, path, secret="wrong"), BODY, "InvalidSignatureException"),
        (sign(site.folder, path), BODY + b" ", "InvalidSignatureException"),
        (sign(site.folder, "/signed/models"), BODY, "InvalidSignatureException"),
        (bearer(), BODY, "MissingAuthenticationTokenException"),
    ):
        response = site.call(path, headers, body=body)
        assert (response.status, dict(response.headers)["x-amzn-ErrorType"]) == (403, code)
    assert len(site.events) == before
    refused = site.admit(path, {})
    assert refused is not None
    assert refused.status == 403


def test_token_of_the_issuer_is_accepted_and_its_claims_reach_the_function(site: Site) -> None:
    headers = bearer()
    assert site.admit("/tokens/models/echo/inference", headers) is None
    for path in ("/models/echo/inference", "/v2/models/echo/infer"):
        assert site.call(f"/tokens{path}", headers).status == 200
        claims = site.events[-1]["requestContext"]["authorizer"]["claims"]
        assert (claims["sub"], claims["admin"], claims["iss"]) == ("ana", "true", ISSUER)


def test_other_tokens_are_rejected_as_on_aws(site: Site) -> None:
    path = "/tokens/models/echo/inference"
    for headers in ({}, bearer(exp=time.time() - 5), bearer(aud="x"), bearer(iss="https://x"), sign(site.folder, path)):
        response = site.call(path, headers)
        assert (response.status, response.body) == (401, b'{"message":"Unauthorized"}')
    refused = site.admit(path, {})
    assert refused is not None
    assert refused.status == 401


def test_health_needs_no_credentials_and_there_are_no_notes(site: Site) -> None:
    for stage in ("signed", "tokens"):
        assert site.call(f"/{stage}/health/live", {}, "GET", b"").status == 200
    assert site.gateway.notes == ()


def test_only_its_owner_may_read_the_access_key(site: Site) -> None:
    file = site.folder / ".turnout" / FILE
    assert file.stat().st_mode & 0o777 == 0o600
    assert load_signing_key(file.parent) == load_signing_key(file.parent)

"""A stage that requires tokens of a live issuer over HTTPS: discovery, rotated keys, and an issuer that fails."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from tests.builders.graphs import write_identity
from tests.builders.https_issuer import DISCOVERY, KEYS, HttpsIssuer, Reply, dribble, running_issuer, send
from turnout.gateway.api.authorizing import CallerChecks
from turnout.gateway.api.gateway import Gateway
from turnout.gateway.editions.edition import build_gateway, make_local_plan
from turnout.gateway.editions.in_process import make_functions
from turnout.gateway.rules import tokens
from turnout.gateway.rules.tokens import MAX_AGE_S, RETRY_S, fetch_json, keys_of_issuer
from turnout.http_server.messages import Request, Response
from turnout.project.project import Project, load_project

OLD, NEW = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
BODY = b'{"instances": [[1.0, 2.0, 3.0, 4.0]]}'


def public(key: ec.EllipticCurvePrivateKey, kid: str) -> dict[str, Any]:
    return {**json.loads(ECAlgorithm.to_jwk(key.public_key())), "kid": kid}


class Site:
    """A gateway whose clock for keys is `now`."""

    def __init__(self, project: Project, issuer: HttpsIssuer, functions: Any) -> None:
        self.now = 1000.0
        self.issuer = issuer
        keys = {issuer.url: keys_of_issuer(issuer.url, lambda: self.now)}
        plan = make_local_plan(project)
        self.gateway: Gateway = build_gateway(project, plan, functions, checks=CallerChecks(tokens=keys))

    def statuses(self, *bearers: str) -> list[int]:
        """Return the statuses of requests that are sent at the same time."""

        async def call(bearer: str) -> Response:
            fields = [("host", "x"), ("content-type", "application/json"), ("authorization", f"Bearer {bearer}")]
            answer = self.gateway.handle(Request("POST", "/users/models/echo/inference", "", fields, BODY))
            return await answer if inspect.isawaitable(answer) else answer

        async def call_all() -> list[Response]:
            return list(await asyncio.gather(*map(call, bearers)))

        return [response.status for response in asyncio.run(call_all())]

    def token(self, kid: str = "old", key: ec.EllipticCurvePrivateKey = OLD) -> str:
        claims = {"iss": self.issuer.url, "aud": "app", "exp": time.time() + 3600}
        return jwt.encode(claims, key, "ES256", headers={"kid": kid})


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpsIssuer]:
    with running_issuer(tmp_path_factory.mktemp("issuer")) as issuer:
        yield issuer


@pytest.fixture
def site(issuer: HttpsIssuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("SSL_CERT_FILE", str(issuer.authority))
    issuer.jwks, issuer.replies, issuer.requests = {"keys": [public(OLD, "old")]}, {}, []
    write_identity(tmp_path / "echo.onnx")
    (tmp_path / "models.yaml").write_text(
        "models: {echo: {versions: {v1: {artifact: echo.onnx}}}}\n"
        f"stages: {{users: {{serve: {{echo: v1}}, auth: jwt, jwt: {{issuer: '{issuer.url}', audience: [app]}}}}}}\n"
    )
    project = load_project(tmp_path, cache=False)
    with closing(make_functions(project, make_local_plan(project))) as functions:
        yield Site(project, issuer, functions)


def test_keys_are_discovered_once_for_all_requests(site: Site) -> None:
    assert site.statuses(*[site.token()] * 20, site.token("old", NEW)) == [200] * 20 + [401]
    assert site.issuer.requests == [DISCOVERY, KEYS]
    assert site.statuses(site.token(), site.token("new", NEW)) == [200, 401]
    assert len(site.issuer.requests) == 2


def test_rotated_keys_are_found_and_withdrawn_ones_rejected(site: Site) -> None:
    assert site.statuses(site.token()) == [200]
    site.issuer.jwks = {"keys": [public(OLD, "old"), public(NEW, "new"), "garbage", {"kid": "x"}]}
    assert site.statuses(site.token("new", NEW)) == [401]  # the keys were read a moment ago
    site.now += RETRY_S + 1
    assert site.statuses(site.token("new", NEW), site.token()) == [200, 200]
    site.issuer.jwks = {"keys": [public(NEW, "new")]}
    site.now += MAX_AGE_S + 1
    assert site.statuses(site.token("new", NEW), site.token()) == [200, 401]


FAILURES: dict[str, tuple[str, Reply]] = {
    "error": (DISCOVERY, send(b"no", 500)),
    "no JSON": (KEYS, send(b"<html>")),
    "no object": (KEYS, send(b"[]")),
    "no keys": (KEYS, send(b'{"keys": 3}')),
    "another issuer": (DISCOVERY, send(b'{"issuer": "https://evil.example", "jwks_uri": "https://evil.example/keys"}')),
    "no address": (DISCOVERY, send(b"{}")),
    "too large": (KEYS, send(b" " * 1_000_001)),
    "redirect to http": (KEYS, send(b"", 302, Location="http://127.0.0.1:9/keys")),
    "cut off": (KEYS, lambda handler: handler.connection.close()),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_failing_issuer_keeps_its_last_keys_and_is_asked_again(
    site: Site, failure: str, caplog: pytest.LogCaptureFixture
) -> None:
    path, reply = FAILURES[failure]
    site.issuer.replies = {path: reply}
    assert site.statuses(site.token()) == [401]
    assert f"the keys of {site.issuer.url} cannot be read" in caplog.text
    asked = len(site.issuer.requests)
    assert site.statuses(site.token()) == [401]
    assert len(site.issuer.requests) == asked  # not for every request
    site.issuer.replies = {}
    site.now += RETRY_S + 1
    assert site.statuses(site.token()) == [200]
    site.issuer.replies = {path: reply}
    site.now += MAX_AGE_S + 1
    assert site.statuses(site.token()) == [200]


def test_unknown_authority_is_rejected(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    assert site.statuses(site.token()) == [401]
    assert site.issuer.requests == []


def test_slow_issuer_delays_no_request_with_a_known_key(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert site.statuses(site.token()) == [200]
    is_over, entered = threading.Event(), threading.Event()
    site.issuer.replies = {KEYS: lambda handler: (entered.set(), dribble(is_over)(handler))[0]}
    site.now += MAX_AGE_S + 1
    answered: list[int] = []
    waiting = threading.Thread(target=lambda: answered.extend(site.statuses(site.token())))
    try:
        waiting.start()
        assert entered.wait(30)
        assert site.statuses(*[site.token()] * 20) == [200] * 20
    finally:
        is_over.set()
        waiting.join(60)
    assert answered == [200]


def test_endless_answer_is_aborted(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "FETCH_TIMEOUT_S", 0.3)
    is_over = threading.Event()
    site.issuer.replies = {KEYS: dribble(is_over)}
    try:
        with pytest.raises((ValueError, OSError)):  # on a busy machine the connection may take as long
            fetch_json(f"{site.issuer.url}{KEYS}")
        assert site.statuses(site.token()) == [401]
    finally:
        is_over.set()


def test_request_stops_waiting_before_its_issuer_answers(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from turnout.gateway.api import authorizing

    monkeypatch.setattr(authorizing, "READ_TIMEOUT_S", 0.1)
    is_over = threading.Event()
    site.issuer.replies = {DISCOVERY: lambda _: is_over.wait(30) and None}
    threading.Timer(1.0, is_over.set).start()  # asyncio.run waits for the thread
    assert site.statuses(site.token(), site.token()) == [401, 401]

"""CORS from a browser's point of view: a whole gateway with a real model, using the document that AWS imports."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.builders.documents import API, FakeFunctions, document, operation
from tests.builders.documents import stage as make_stage
from tests.builders.graphs import write_identity
from turnout.gateway.api.gateway import Gateway, RestApi
from turnout.gateway.editions.edition import build_gateway, make_local_plan
from turnout.gateway.editions.in_process import make_functions
from turnout.http_server.messages import Request, Response
from turnout.project.project import load_project

A, B, EVIL = "https://a.example", "http://localhost:3000", "https://evil.example"
KEY = "a key of the test's own"
MANIFEST = f"""\
platform: turnout
models:
  echo:
    versions:
      v1: {{artifact: echo.onnx}}
      v2: {{artifact: echo.onnx}}
  routed:
    routing: {{sticky: {{api_key: true}}}}
    versions:
      v1: {{artifact: echo.onnx}}
stages:
  closed: {{serve: {{"*": newest}}}}
  one: {{serve: {{"*": newest}}, auth: api_key, cors: {{origins: ["{A}"], methods: [POST], max_age_s: 60}}}}
  two:
    serve: {{echo: v1, routed: v1}}
    canary: {{percent: 100, serve: {{echo: v2}}}}
    auth: api_key
    async: {{}}
    cors: {{origins: ["{A}", "{B}"], headers: [x-mine], credentials: true}}
  every: {{serve: {{"*": newest}}, auth: api_key, throttle: {{rate: 1000, burst: 1000}}, cors: {{origins: ["*"]}}}}
"""
BODY = b'{"instances": [[1.0, 2.0, 3.0, 4.0]]}'
ORIGIN = "access-control-allow-origin"


class Site:
    """A gateway, called as a page of some origin calls it."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def call(
        self, path: str, origin: str = "", method: str = "POST", body: bytes = BODY, **headers: str
    ) -> tuple[int, Mapping[str, str]]:
        named = {"content-type": "application/json", "host": "127.0.0.1", **headers}
        fields = [(name.replace("_", "-"), value) for name, value in named.items()]
        request = Request(method, path, "", [*fields, *((("Origin", origin),) if origin else ())], body)

        async def answer() -> Response:
            response = self._gateway.handle(request)
            return await response if inspect.isawaitable(response) else response

        response = asyncio.run(answer())
        names = [name.lower() for name, _ in response.headers]
        assert len(set(names)) == len(names)
        return response.status, {name.lower(): value for name, value in response.headers}

    def preflight(self, path: str, origin: str) -> tuple[int, Mapping[str, str]]:
        return self.call(path, origin, "OPTIONS", b"", access_control_request_method="POST")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder: Path = tmp_path_factory.mktemp("cors")
    write_identity(folder / "echo.onnx")
    (folder / "models.yaml").write_text(MANIFEST)
    project = load_project(folder, cache=False)
    plan = make_local_plan(project)
    with closing(make_functions(project, plan)) as functions:
        yield Site(build_gateway(project, plan, functions, keys=dict.fromkeys(("one", "two", "every"), KEY)))


PATHS = ("/models/echo/inference", "/models/echo/v2/inference", "/models/routed/inference", "/v2/models/echo/infer")


@pytest.mark.parametrize(
    "path",
    [
        *PATHS,
        "/models",
        "/v2",
        "/v2/health/live",
        "/openapi.json",
        "/models/echo/v1",
        "/requests/1",
        "/requests/1/answer",
    ],
)
def test_preflight_returns_what_the_stage_allows(site: Site, path: str) -> None:
    status, headers = site.preflight(f"/two{path}", B)
    assert status == 204
    assert headers[ORIGIN] == B
    assert headers["access-control-allow-methods"] == "GET,HEAD,POST"
    assert headers["access-control-allow-headers"] == "x-mine"
    assert headers["access-control-allow-credentials"] == "true"
    assert headers["access-control-max-age"] == "600"
    assert headers["vary"] == "Origin"


def test_preflight_uses_the_settings_of_its_own_stage(site: Site) -> None:
    _, headers = site.preflight("/one/models/echo/inference", A)
    assert headers["access-control-allow-methods"] == "POST"
    assert headers["access-control-max-age"] == "60"
    assert "access-control-allow-credentials" not in headers
    assert "x-api-key" in headers["access-control-allow-headers"]


@pytest.mark.parametrize("origin", [EVIL, "null", f"{A}.evil.example", "http://a.example", f"{A}:8443"])
@pytest.mark.parametrize("stage", ["one", "two"])
def test_no_answer_allows_a_foreign_origin(site: Site, stage: str, origin: str) -> None:
    assert ORIGIN not in site.preflight(f"/{stage}/models/echo/inference", origin)[1]
    for key, status in ((KEY, 200), ("wrong", 403)):
        answer = site.call(f"/{stage}/models/echo/inference", origin, x_api_key=key)
        assert answer[0] == status
        assert ORIGIN not in answer[1]
        assert answer[1]["vary"] == "Origin"


@pytest.mark.parametrize("path", PATHS)
def test_answers_of_functions_allow_their_origin(site: Site, path: str) -> None:
    for origin in (A, B):
        status, headers = site.call(f"/two{path}", origin, x_api_key=KEY)
        assert (status, headers[ORIGIN], headers["access-control-allow-credentials"]) == (200, origin, "true")
        assert headers["vary"] == "Origin"
        assert "x-turnout-version" in headers["access-control-expose-headers"]


def test_the_share_of_the_canary_answers_browsers_too(site: Site) -> None:
    status, headers = site.call("/two/models/echo/inference", A, x_api_key=KEY)
    assert (status, headers["x-turnout-version"], headers["x-turnout-canary"]) == (200, "v2", "true")
    assert headers[ORIGIN] == A


def test_errors_of_functions_allow_their_origin(site: Site) -> None:
    for path, body, status in (
        ("/models/echo/inference", b"{", 400),
        ("/models/routed/inference", b"{", 400),
        ("/v2/models/echo/nothing", b"{}", 404),
    ):
        answer = site.call(f"/two{path}", A, body=body, x_api_key=KEY)
        assert (answer[0], answer[1].get(ORIGIN)) == (status, A), path


def test_errors_of_the_gateway_allow_their_origin(site: Site) -> None:
    for stage, credentials in (("one", False), ("two", False)):
        for path in ("/models/echo/inference", "/models/nothing/here/at/all"):
            status, headers = site.call(f"/{stage}{path}", A)
            assert (status, headers[ORIGIN], headers["vary"]) == (403, A, "Origin")
            assert "x-amzn-ErrorType" in headers["access-control-expose-headers"]
            assert ("access-control-allow-credentials" in headers) is credentials


def test_allowing_every_origin_returns_a_star_everywhere(site: Site) -> None:
    assert site.preflight("/every/models/echo/inference", EVIL)[1][ORIGIN] == "*"
    for key, status in ((KEY, 200), ("wrong", 403)):
        answer = site.call("/every/models/echo/inference", EVIL, x_api_key=key)
        assert (answer[0], answer[1][ORIGIN]) == (status, "*")
        assert "vary" not in answer[1]


def test_stage_without_cors_sends_no_cors_headers(site: Site) -> None:
    assert site.preflight("/closed/models/echo/inference", A)[0] == 403
    for path, body in (("/models/echo/inference", BODY), ("/models/echo/inference", b"{"), ("/nowhere", BODY)):
        _, headers = site.call(f"/closed{path}", A, body=body)
        assert [name for name in headers if name.startswith("access-control") or name == "vary"] == []


def test_preflight_needs_no_key_and_is_throttled_like_other_requests(site: Site) -> None:
    assert site.preflight("/one/models/echo/inference", A)[0] == 204
    assert site.call("/one/models/echo/inference", A)[0] == 403


def test_published_document_contains_no_preflights(site: Site) -> None:
    async def answer() -> bytes:
        headers = [("x-api-key", KEY), ("host", "127.0.0.1")]
        response = site._gateway.handle(Request("GET", "/one/openapi.json", "", headers, b""))
        return (await response if inspect.isawaitable(response) else response).body

    paths = json.loads(asyncio.run(answer()))["paths"]
    assert paths
    assert [path for path, item in paths.items() if "options" in item] == []


class _Requests:
    """Answers every request about asynchronous requests, without functions."""

    def accepts(self, stage: str) -> bool:
        return True

    async def answer(self, exchange: Any, routed: Any) -> Response:
        return Response(200, (("Content-Type", "application/json"),), b"{}")


@pytest.mark.parametrize(("origin", "said"), [(A, A), (EVIL, None)])
def test_answers_about_asynchronous_requests_allow_their_origin(origin: str, said: str | None) -> None:
    made = document({"/requests/{id}": {"get": operation()}})
    stages = (make_stage(variables={"CorsOrigins": A}),)
    under_test = Gateway([RestApi(API, made, stages)], FakeFunctions(), requests=_Requests())  # type: ignore[arg-type]

    async def answer() -> Response:
        response = under_test.handle(Request("GET", "/dev/requests/1", "", [("Origin", origin)], b""))
        return await response if inspect.isawaitable(response) else response

    headers = dict(asyncio.run(answer()).headers)
    assert (headers.get("Access-Control-Allow-Origin"), headers["Vary"]) == (said, "Origin")

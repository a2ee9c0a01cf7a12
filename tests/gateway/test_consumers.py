"""Consumers from their callers' point of view: which key may call what, how often, until when, under which name."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.builders.graphs import write_identity
from turnout.client.captured_lines import parse_sample
from turnout.gateway.api.exchange import Exchange
from turnout.gateway.api.gateway import Gateway
from turnout.gateway.api.identifiers import RequestTimes
from turnout.gateway.editions.consumer_keys import make_consumer_keys
from turnout.gateway.editions.edition import Edition, make_api_keys, make_apis, make_edition
from turnout.gateway.editions.in_process import make_functions
from turnout.gateway.observers.access_log import json_line, text_line
from turnout.gateway.observers.capture import sample_of
from turnout.http_server.messages import Request, Response
from turnout.project.project import load_project
from turnout.protocol.aws import callers
from turnout.protocol.codecs.samples import write_line

MANIFEST = """\
platform: turnout
models:
  iris: {versions: {v1: {artifact: echo.onnx}, v2: {artifact: echo.onnx}}}
  digits: {versions: {v1: {artifact: echo.onnx}}}
  both: {graph: {sequence: [{model: iris}, {model: digits, inputs: {x: y}}]}}
stages:
  prod:
    serve: {iris: v1, digits: v1}
    canary: {percent: 100, serve: {iris: v2}}
    auth: api_key
    consumers:
      narrow: {models: [iris], keys: [k1, k2]}
      graph-only: {models: [both]}
      wide: {}
      slow: {throttle: {rate: 0.001, burst: 2}}
      counted: {quota: {requests: 3, period: day}}
      gone: {expires: "2026-01-31"}
  plain: {serve: {iris: v1, digits: v1}, auth: api_key}
"""
BODY = b'{"instances": [[1.0, 2.0, 3.0, 4.0]]}'
DAY_S = 86_400
NOW = 1_764_504_000.0 + 365 * DAY_S
"""2026-11-30, noon."""


class Site:
    """A gateway whose clock a test sets; `keys` are the consumers' keys by `name/key`."""

    def __init__(self, edition: Edition, functions: Any, keys: Mapping[str, str]) -> None:
        self.keys = keys
        self.owner = edition.keys["prod"]
        self.plain = edition.keys["plain"]
        self.now = NOW
        self.lines: list[dict[str, Any]] = []
        self.texts: list[str] = []
        self.captured = b""
        self.contexts: list[dict[str, Any]] = []
        self._functions = functions
        times = RequestTimes()

        def observe(exchange: Exchange, response: Response, duration_s: float) -> None:
            self.lines.append(json.loads(json_line(exchange, response, duration_s, times=times)))
            self.texts.append(text_line(exchange, response, duration_s))
            sample = sample_of(exchange, response, duration_s, ("iris", "v1"))
            self.captured = b"" if sample is None else write_line(sample)

        self.gateway = Gateway(
            make_apis(edition.project, edition.plan),
            self,
            api_keys=make_api_keys(edition.keys, edition.consumer_keys),
            clock=lambda: self.now,
            observers=[observe],
        )

    def invoke(self, name: str, alias: str, event: dict[str, Any], timeout_s: float) -> Any:
        self.contexts.append(event["requestContext"])
        return self._functions.invoke(name, alias, event, timeout_s)

    def close(self) -> None:
        """The fixture closes the functions."""

    def call(self, path: str, key: str = "", method: str = "POST", body: bytes = BODY) -> tuple[int, bytes]:
        headers = [("content-type", "application/json"), ("host", "127.0.0.1"), *((("x-api-key", key),) if key else ())]

        async def answer() -> Response:
            response = self.gateway.handle(Request(method, path, "", headers, body))
            return await response if inspect.isawaitable(response) else response

        response = asyncio.run(answer())
        return response.status, response.body


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder: Path = tmp_path_factory.mktemp("consumers")
    write_identity(folder / "echo.onnx")
    (folder / "models.yaml").write_text(MANIFEST)
    names = [("prod", entry, "k1") for entry in ("narrow", "graph-only", "wide", "slow", "counted", "gone")]
    made = make_consumer_keys(folder / ".turnout", [*names, ("prod", "narrow", "k2")], "2026-11-30")
    project = load_project(folder, cache=False)
    edition = make_edition(project)
    with closing(make_functions(project, edition.plan)) as functions:
        yield Site(edition, functions, {f"{consumer}/{key}": value for (_, consumer, key), value in made.items()})


FORBIDDEN = (403, b'{"message":"Forbidden"}')

OF_IRIS = [
    ("POST", "/models/iris/inference"),
    ("POST", "/models/iris/v1/inference"),
    ("POST", "/v2/models/iris/infer"),
    ("POST", "/v2/models/iris/versions/v2/infer"),
    ("GET", "/models/iris"),
    ("GET", "/models/iris/v1"),
    ("GET", "/v2/models/iris"),
]
OF_DIGITS = [(method, path.replace("iris", "digits").replace("v2/infer", "v1/infer")) for method, path in OF_IRIS]
GENERAL = [("GET", "/models"), ("GET", "/openapi.json"), ("GET", "/v2")]


@pytest.mark.parametrize(("method", "path"), [*OF_IRIS, *GENERAL])
@pytest.mark.parametrize("key", ["k1", "k2"])
def test_both_keys_of_a_consumer_may_call_its_models(site: Site, key: str, method: str, path: str) -> None:
    assert site.call(f"/prod{path}", site.keys[f"narrow/{key}"], method, BODY if method == "POST" else b"")[0] == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *OF_DIGITS,
        ("POST", "/models/both/inference"),
        ("POST", "/v2/models/%64igits/infer"),
        ("POST", "/v2/models/iris/../digits/infer"),
        ("POST", "/v2/models/digits%2F..%2Firis/infer"),
        ("GET", "/models/%64igits"),
        ("GET", "/v2/models/unheard-of"),
    ],
)
def test_a_consumer_may_call_no_other_model_by_any_path(site: Site, method: str, path: str) -> None:
    before = len(site.contexts)
    answer = site.call(f"/prod{path}", site.keys["narrow/k1"], method, BODY if method == "POST" else b"")
    if ".." in path and not path.startswith("/v2/models/digits"):
        assert answer[0] == 404, "the router knows no such path"
        return
    assert answer == FORBIDDEN
    assert len(site.contexts) == before, "no function was called"


def test_permission_for_a_graph_covers_only_the_graph(site: Site) -> None:
    assert site.call("/prod/models/both/inference", site.keys["graph-only/k1"])[0] == 200
    assert site.call("/prod/models/iris/inference", site.keys["graph-only/k1"]) == FORBIDDEN


def test_a_consumer_without_named_models_and_the_key_of_the_stage_may_call_all(site: Site) -> None:
    for key in (site.keys["wide/k1"], site.owner):
        for method, path in (*OF_IRIS, *OF_DIGITS, *GENERAL):
            assert site.call(f"/prod{path}", key, method, BODY if method == "POST" else b"")[0] == 200


def test_unknown_and_missing_keys_get_the_same_error(site: Site) -> None:
    for key in ("", "wrong", site.plain, site.keys["wide/k1"][:-1], callers.digest_key(site.keys["wide/k1"])):
        assert site.call("/prod/models/iris/inference", key) == FORBIDDEN
    assert site.call("/plain/models/iris/inference", site.keys["wide/k1"]) == FORBIDDEN


def test_a_key_is_rejected_from_its_expiration_day_on(site: Site) -> None:
    day = (1_769_817_600 // DAY_S) * DAY_S  # 2026-01-31, midnight
    try:
        site.now = day - 1.0
        assert site.call("/prod/models/iris/inference", site.keys["gone/k1"])[0] == 200
        site.now = float(day)
        assert site.call("/prod/models/iris/inference", site.keys["gone/k1"]) == FORBIDDEN
    finally:
        site.now = NOW


def test_each_key_has_its_own_throttle(site: Site) -> None:
    answers = [site.call("/prod/models/iris/inference", site.keys["slow/k1"]) for _ in range(3)]
    assert [status for status, _ in answers] == [200, 200, 429]
    assert answers[2][1] == b'{"message":"Too Many Requests"}'
    assert site.call("/prod/models/iris/inference", site.keys["wide/k1"])[0] == 200


def test_quota_restarts_with_its_period(site: Site) -> None:
    def statuses() -> list[int]:
        return [site.call("/prod/models/iris/inference", site.keys["counted/k1"])[0] for _ in range(4)]

    try:
        assert statuses() == [200, 200, 200, 429]
        assert site.call("/prod/models/iris/inference", site.keys["counted/k1"])[1] == b'{"message":"Limit Exceeded"}'
        site.now = NOW + DAY_S
        assert statuses() == [200, 200, 200, 429]
    finally:
        site.now = NOW


def test_health_needs_no_key_and_counts_for_no_consumer(site: Site) -> None:
    assert site.call("/prod/health/live", "", "GET", b"")[0] == 200


def test_functions_and_logs_see_the_name_of_the_caller(site: Site) -> None:
    site.call("/prod/models/iris/inference", site.keys["narrow/k1"])
    context = site.contexts[-1]
    assert context["authorizer"] == {"caller": "narrow", "principalId": "narrow", "integrationLatency": 0}
    assert context["identity"]["apiKey"] == site.keys["narrow/k1"]
    assert site.lines[-1]["caller"] == "narrow"
    assert " caller=narrow" in site.texts[-1]
    assert parse_sample(json.loads(site.captured)).caller == "narrow"
    site.call("/prod/models/digits/inference", site.keys["narrow/k1"])
    assert (site.lines[-1]["caller"], site.lines[-1]["status"]) == ("narrow", 403)
    site.call("/prod/models/iris/inference", site.owner)
    assert site.lines[-1]["caller"] == "owner"
    site.call("/plain/models/iris/inference", site.plain)
    assert site.lines[-1]["caller"] == "-"
    assert "caller" not in json.loads(site.captured)["turnout_capture"]
    assert "authorizer" not in site.contexts[-1]


@pytest.fixture
def decide(site: Site, tmp_path: Path) -> Callable[..., Any]:
    """Run the authorizer as Lambda does, with the table that the stack writes."""
    project = site.gateway.stages.snapshot.stages["prod"].keys.consumers
    rows = {
        key.digest or callers.digest_key(key.value): key.consumer.rules for key in project if key.consumer is not None
    }
    (tmp_path / callers.TABLE).write_text(json.dumps({"prod": rows}))

    def ask(key: str, method: str, path: str, stage: str = "prod") -> Any:
        result = site.gateway.stages.snapshot.stages["prod"].document.routes.match(method, path)
        assert result is not None
        event = {
            "type": "REQUEST",
            "methodArn": f"arn:aws:execute-api:eu-west-1:1:abc/{stage}/{method}{path}",
            "resource": result[0].resource,
            "pathParameters": result[1],
            "httpMethod": method,
            "headers": {"X-Api-Key": key},
            "requestContext": {"stage": stage},
        }
        return callers.handler(event, None, folder=tmp_path, clock=lambda: site.now)

    return ask


def test_authorizer_on_aws_decides_as_the_gateway_does(site: Site, decide: Callable[..., Any]) -> None:
    keys = {**site.keys, "owner": site.owner, "wrong": "wrong"}
    for name in ("narrow/k1", "narrow/k2", "graph-only/k1", "wide/k1", "gone/k1", "owner", "wrong"):
        for method, path in (*OF_IRIS, *OF_DIGITS, *GENERAL, ("POST", "/models/both/inference")):
            policy = decide(keys[name], method, path)
            (statement,) = policy["policyDocument"]["Statement"]
            status = site.call(f"/prod{path}", keys[name], method, BODY if method == "POST" else b"")[0]
            assert (statement["Effect"] == "Allow") is (status == 200), (name, path, status)
            assert statement["Resource"].endswith(f"/prod/{method}{path}")
            expected = "unknown" if name == "wrong" else name.partition("/")[0]
            assert policy["context"] == {"caller": expected}


def test_authorizer_rejects_a_key_of_another_stage(site: Site, decide: Callable[..., Any]) -> None:
    policy = decide(site.keys["wide/k1"], "GET", "/models", stage="plain")
    assert policy["policyDocument"]["Statement"][0]["Effect"] == "Deny"


@pytest.mark.parametrize(("name", "effect"), [("narrow/k1", "Deny"), ("wide/k1", "Allow"), ("gone/k1", "Deny")])
def test_authorizer_ignores_a_model_in_the_query(site: Site, tmp_path: Path, name: str, effect: str) -> None:
    keys = site.gateway.stages.snapshot.stages["prod"].keys.consumers
    rules = {key.digest: key.consumer.rules for key in keys if key.digest and key.consumer is not None}
    (tmp_path / callers.TABLE).write_text(json.dumps({"prod": rules}))
    event = {
        "methodArn": "arn:aws:execute-api:eu-west-1:1:abc/prod/PUT/requests/1",
        "httpMethod": "PUT",
        "resource": "/requests/{id}",
        "pathParameters": {"id": "1"},
        "queryStringParameters": {"model": "iris"},
        "headers": {"x-api-key": site.keys[name]},
        "requestContext": {"stage": "prod"},
    }
    policy = callers.handler(event, None, folder=tmp_path, clock=lambda: site.now)
    assert policy["policyDocument"]["Statement"][0]["Effect"] == effect

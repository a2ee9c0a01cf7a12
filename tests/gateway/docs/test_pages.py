"""The pages, made from projects in memory and on disk."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from onnx import helper

from tests.builders.deployed import project_of
from tests.builders.graphs import value, write_graph
from tests.builders.html_pages import Page, read_page
from tests.builders.manifests import large_manifest
from turnout.gateway.docs.handler import DocsHandler, DocsSource, find_base
from turnout.gateway.docs.shown import Shown, make_shown
from turnout.gateway.editions.edition import make_apis, make_local_plan
from turnout.gateway.rules.stages import CanarySettings, StageSettings
from turnout.gateway.services.access import make_guard
from turnout.http_server.messages import Request, Response
from turnout.project.project import Project, load_project

HOSTILE = """<script>alert(1)</script><img src=x onerror=alert(2)> "quoted" & 'so' `code<b>`"""

MANIFEST = f"""
platform: turnout
models:
  odd:
    description: {orjson.dumps(HOSTILE).decode()}
    versions:
      v1: {{artifact: odd.onnx, description: {orjson.dumps(HOSTILE).decode()}, examples: examples.json}}
      v2: {{artifact: odd.onnx}}
stages:
  dev: {{serve: {{odd: v1}}}}
  keyed: {{serve: {{odd: v1}}, auth: api_key, throttle: {{rate: 5, burst: 7}}}}
  signed: {{serve: {{odd: v1}}, auth: iam}}
"""


def handler_of(project: Project, live: Mapping[str, StageSettings] | None = None, **source: Any) -> DocsHandler:
    plan = make_local_plan(project)
    documents = {api.name: rest.document for api, rest in zip(plan.apis, make_apis(project, plan), strict=True)}
    shown = make_shown(project, plan, documents, (live or {}).get)
    return DocsHandler(DocsSource(lambda: shown, make_guard(""), **source))


def ask(handler: DocsHandler, path: str, query: str = "", method: str = "GET", **headers: str) -> Response:
    named = {"host": "127.0.0.1:8080", **{name.replace("_", "-"): text for name, text in headers.items()}}
    answer = handler.handle(Request(method, path, query, tuple(named.items()), b""))

    async def settle() -> Response:
        return answer if isinstance(answer, Response) else await answer

    return asyncio.run(settle())


def page_of(handler: DocsHandler, path: str, query: str = "") -> Page:
    answer = ask(handler, path, query)
    assert answer.status == 200, answer.body
    return read_page(answer.body)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Names, descriptions and values that would be markup or shell code if they were not escaped."""
    folder = tmp_path_factory.mktemp("odd")
    name = "it's $(touch /tmp/x) `y` <i>"
    nodes = [helper.make_node("Identity", [name], ["out<b>"])]
    write_graph(folder / "odd.onnx", nodes, [value(name, "BYTES", [1])], [value("out<b>", "BYTES", [1])])
    text = "</script>' \\ \u2028 \" $HOME"
    request = {"inputs": [{"name": name, "shape": [1], "datatype": "BYTES", "data": [text]}]}
    expected = {"outputs": [{"name": "out<b>", "shape": [1], "datatype": "BYTES", "data": [text]}]}
    rows = [
        {"name": f"<b>{number}", "description": HOSTILE, "request": request, "response": expected}
        for number in range(5)
    ]
    rows[1]["request"] = {"inputs": {name: [text * 2000]}}
    rows[1]["response"] = {"outputs": [{"name": "out<b>", "shape": [1], "datatype": "BYTES", "data": [text * 2000]}]}
    (folder / "examples.json").write_bytes(orjson.dumps(rows))
    (folder / "models.yaml").write_text(MANIFEST)
    return load_project(folder / "models.yaml")


def test_text_of_the_project_is_always_escaped(odd: Project) -> None:
    handler = handler_of(odd)
    for path in ("/docs", "/docs/dev", "/docs/dev/odd", "/docs/keyed/odd/v2", "/docs/signed/odd"):
        page = page_of(handler, path)
        assert not {"script", "img", "b", "i", "iframe"} & set(page.tags), path
        assert page.handlers == []
    assert "<script>alert(1)</script>" in page_of(handler, "/docs/dev/odd").text
    result = page_of(handler, "/docs/dev", "q=%22%3E%3Cscript%3E")
    assert "script" not in result.tags


def test_a_version_shows_its_inputs_and_outputs(odd: Project) -> None:
    page = page_of(handler_of(odd), "/docs/dev/odd")
    assert {"v1", "v2", "errors", "limits", "request", "response"} <= set(page.ids)
    for expected in ("it's $(touch /tmp/x) `y` <i>", "out<b>", "BYTES", "[1]", "POST /dev/models/odd/v1/inference"):
        assert expected in page.text
    assert "Inference-Header-Content-Length" in page.text
    assert "DATATYPE_MISMATCH" in page.text
    assert "x-turnout-digest" in page.text
    assert "10,485,760 bytes" in page.text
    assert "2 more: /dev/models/odd/v1" in page.text


def test_an_example_shows_the_body_that_the_server_writes(odd: Project) -> None:
    first, *_ = page_of(handler_of(odd), "/docs/dev/odd/v1").of("answer")
    body = orjson.loads(first)
    assert (body["model_name"], body["model_version"]) == ("odd", "v1")
    assert body["outputs"][0] | {"data": []} == {"name": "out<b>", "shape": [1], "datatype": "BYTES", "data": []}


def test_a_large_request_is_shown_as_a_file(odd: Project) -> None:
    handler = handler_of(odd)
    page = page_of(handler, "/docs/dev/odd/v1")
    assert "/docs/dev/odd/v1/2.json" in page.links
    assert "-d @request.json" in page.of("curl")[1]
    file = ask(handler, "/docs/dev/odd/v1/2.json")
    assert orjson.loads(file.body) == odd.examples["odd", "v1"][1].request
    assert dict(file.headers)["Content-Disposition"] == 'attachment; filename="request.json"'


def test_examples_contain_the_credentials_that_a_stage_requires(odd: Project) -> None:
    handler = handler_of(odd)
    keyed, signed = page_of(handler, "/docs/keyed/odd/v1"), page_of(handler, "/docs/signed/odd/v1")
    assert all("TURNOUT_API_KEY" in text for kind in ("curl", "python", "javascript") for text in keyed.of(kind))
    assert "5 requests/s, bursts of 7" in keyed.text
    assert all("--aws-sigv4" in text for text in signed.of("curl"))
    assert all("SigV4Auth" in text for text in signed.of("python"))
    assert signed.of("javascript") == []
    assert "/keyed/openapi.json" not in keyed.links  # a browser sends no key


@pytest.mark.parametrize(
    "path",
    [
        "/docs/none",
        "/docs/dev/none",
        "/docs/dev/odd/v3",
        "/docs/dev/odd/v1/0.json",
        "/docs/dev/odd/v1/6.json",
        "/docs/dev/odd/v1/99999999999999999999.json",
        "/docs/dev/odd/v1/1.json/x",
        "/docs/dev/../../etc/passwd",
        "/docs/style.css/x",
        "/docs/%00",
    ],
)
def test_unknown_paths_are_404(odd: Project, path: str) -> None:
    answer = ask(handler_of(odd), path)
    assert answer.status == 404
    assert dict(answer.headers)["Content-Type"].startswith("text/plain")


def test_every_link_of_every_page_exists(odd: Project) -> None:
    handler = handler_of(odd)
    seen: set[str] = set()
    left = ["/docs"]
    while left:
        path = left.pop()
        if path in seen:
            continue
        seen.add(path)
        answer = ask(handler, path)
        assert answer.status == 200, path
        if not path.endswith((".css", ".svg", ".json")):
            page = read_page(answer.body)
            assert all(link[1:] in page.ids for link in page.links if link.startswith("#"))
            left += [link for link in page.links if link.startswith("/docs")]
    assert {"/docs/signed/odd/v1/2.json", "/docs/keyed/odd", "/docs/style.css"} <= seen


def test_pages_are_compressed_and_have_an_etag(odd: Project) -> None:
    handler = handler_of(odd)
    plain, packed = ask(handler, "/docs/dev/odd"), ask(handler, "/docs/dev/odd", accept_encoding="gzip, br")
    assert gzip.decompress(packed.body) == plain.body
    headers = dict(plain.headers)
    assert ask(handler, "/docs/dev/odd", if_none_match=headers["ETag"]).status == 304
    assert "script" not in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert ask(handler, "/docs", method="POST").status == 405


@pytest.mark.parametrize(
    ("headers", "base"),
    [
        ({"Host": "127.0.0.1:8080"}, "http://127.0.0.1:8080"),
        ({"host": "[::1]:8080"}, "http://[::1]:8080"),
        ({"host": "api.example", "x-forwarded-proto": "https"}, "https://api.example"),
        ({"host": "localhost:80'; rm -rf /"}, "http://127.0.0.1"),
        ({"host": 'localhost" onload=x'}, "http://127.0.0.1"),
        ({"host": "a/b"}, "http://127.0.0.1"),
        ({"host": "user@evil.example"}, "http://127.0.0.1"),
        ({}, "http://127.0.0.1"),
    ],
)
def test_examples_contain_the_address_that_the_reader_used(headers: dict[str, str], base: str) -> None:
    assert find_base(Request("GET", "/docs", "", tuple(headers.items()), b"")) == base


def test_other_machines_see_only_stages_without_authentication(odd: Project) -> None:
    handler = handler_of(odd, is_public=True, has_console=True)
    stranger = {"host": "api.example"}
    page = read_page(ask(handler, "/docs", **stranger).body)
    assert "/docs/keyed" not in page.links
    assert not [link for link in page.links if "console" in link]
    assert ask(handler, "/docs/keyed/odd", **stranger).status == 404
    assert "/console/#try/odd/v1" in page_of(handler, "/docs/keyed/odd/v1").links


def test_shares_are_current(odd: Project) -> None:
    canary = CanarySettings(25, {"odd": "v2"}, "abc123")
    live = {"dev": StageSettings("dev", "api", "abc123", {"odd": "v1"}, canary)}
    assert "v1 (served), v2 (canary 25%)" in page_of(handler_of(odd, live), "/docs/dev/odd").text
    assert "v1, v2 canary 25%" in page_of(handler_of(odd, live), "/docs").text


def test_a_thousand_models_are_one_list_with_a_filter() -> None:
    project = project_of(large_manifest(1000, 2))
    handler = handler_of(project)
    name = project.manifest.models[567].name
    stage = project.manifest.stages[0].name
    answer = ask(handler, "/docs", accept_encoding="gzip")
    page = read_page(gzip.decompress(answer.body))
    assert len([link for link in page.links if link.startswith(f"/docs/{stage}/")]) == 1000
    assert len(answer.body) < 60_000
    result = page_of(handler, f"/docs/{stage}", f"q={name}")
    assert "of 1000 models" in result.text
    assert f"/docs/{stage}/{name}" in result.links
    assert "No model matches" in page_of(handler, f"/docs/{stage}", "q=zzzz").text


def test_a_model_with_many_versions_describes_the_served_ones() -> None:
    project = project_of(large_manifest(1, 30))
    handler = handler_of(project)
    model = project.manifest.models[0]
    stage = project.manifest.stages[0]
    page = page_of(handler, f"/docs/{stage.name}/{model.name}")
    served = stage.serve[model.name]
    assert served in page.ids
    assert page.text.count("Inputs of") == 1
    links = [link for link in page.links if link.startswith(f"/docs/{stage.name}/{model.name}/")]
    assert len(links) == 29


def test_redirecting_a_browser_builds_no_page() -> None:
    def make() -> Shown:
        raise AssertionError("the documents of 1,000 models take a second")

    tab = (("host", "127.0.0.1"), ("accept", "text/html"))
    source = DocsSource(make, make_guard(""))
    assert DocsHandler(source).lead(Request("GET", "/", "", tab, b"")) is not None
    stranger = (("host", "api.example"), ("accept", "text/html"))
    for is_open in (True, False):
        public = DocsSource(make, make_guard("secret"), is_public=True, has_open_stage=is_open)
        led = DocsHandler(public).lead(Request("GET", "/", "", stranger, b"", "192.0.2.7"))
        assert (led is not None) == is_open


SHARED = """
platform: turnout
routes: shared
models:
  odd: {versions: {v1: {artifact: odd.onnx}}}
stages:
  dev: {serve: {odd: v1}}
"""


def test_models_with_shared_routes_are_documented_like_others(odd: Project) -> None:
    manifest = odd.manifest.path.with_name("shared.yaml")
    manifest.write_text(SHARED)
    page = page_of(handler_of(load_project(manifest)), "/docs/dev/odd")
    assert "POST /dev/models/odd/v1/inference" in page.text
    assert page.of("curl")
    assert "DATATYPE_MISMATCH" in page.text

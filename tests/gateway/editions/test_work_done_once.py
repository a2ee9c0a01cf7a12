"""A server and a reload read each file once, and build each document once."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.counted_calls import counted_calls
from tests.builders.graphs import write_identity
from turnout.artifacts.examples import read_examples
from turnout.gateway.api.gateway import Gateway
from turnout.gateway.editions.edition import Edition, build_gateway, make_edition
from turnout.gateway.editions.in_process import edition_functions
from turnout.gateway.editions.rebuild import find_files, rebuild
from turnout.gateway.functions.invocation import Functions
from turnout.gateway.serve import choose_sample
from turnout.http_server.messages import Request, Response
from turnout.manifest.parser import check_manifest
from turnout.openapi.document import build_document
from turnout.project.project import load_project
from turnout.yaml_text.reader import read_yaml

MANIFEST = """
models:
  echo:
    versions:
      v1: {artifact: echo.onnx, examples: one.json}
      v2: {artifact: echo.onnx, examples: two.json}
      v3: {artifact: echo.onnx}
stages:
  dev: {serve: {echo: v1}}
  keyed: {serve: {"*": newest}, auth: api_key}
"""

EXAMPLE = {
    "name": "one",
    "request": {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]},
    "response": {"outputs": [{"name": "y", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]},
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_identity(tmp_path / "echo.onnx", shape=(1, 4))
    for name in ("one.json", "two.json"):
        (tmp_path / name).write_text(json.dumps([EXAMPLE]))
    (tmp_path / "models.yaml").write_text(MANIFEST)
    return tmp_path


@pytest.fixture(autouse=True)
def logging_again() -> Iterator[None]:
    """Restore logging: a rebuild silences the log of its process, which is this one here."""
    yield
    logging.disable(logging.NOTSET)


def gateway_of(edition: Edition, functions: Functions) -> Gateway:
    return build_gateway(edition.project, edition.plan, functions, apis=edition.apis, keys=edition.keys)


def test_a_server_parses_each_examples_file_once_and_builds_each_document_once(project: Path) -> None:
    with counted_calls(read_examples, build_document, read_yaml) as calls:
        loaded = load_project(project)
        edition = make_edition(loaded)
        functions = edition_functions(edition, None)
        gateway = build_gateway(loaded, edition.plan, functions, apis=edition.apis, keys=edition.keys)
        sample = choose_sample(loaded, edition.plan, "dev", edition.keys)
        public = json.loads(asyncio.run(answer_of(gateway, "/dev/openapi.json")))
        listed = json.loads(asyncio.run(answer_of(gateway, "/dev/models/echo/v1")))
        functions.close(5)
    assert sample is not None
    assert sample.body == EXAMPLE["request"]
    assert "/models/echo/v1/inference" in public["paths"]
    assert listed["examples"] == [EXAMPLE]
    assert calls == {"read_examples": 2, "build_document": 2, "read_yaml": 1}


async def answer_of(gateway: Gateway, path: str) -> bytes:
    response = gateway.handle(Request("GET", path, "", ((b"host", b"h"),), b""))
    made = response if isinstance(response, Response) else await response
    assert made.status == 200, made.body
    return bytes(made.body)


def test_a_reload_parses_the_manifest_once(project: Path) -> None:
    before = make_edition(load_project(project))
    (project / "models.yaml").write_text(MANIFEST.replace("dev: {", "test: {"))
    time.sleep(0.1)  # a file that changed while it was read is read again
    with counted_calls(read_yaml, check_manifest, read_examples, build_document) as calls:
        rebuilt = rebuild(project / "models.yaml", before, functions_of=edition_functions, gateway_of=gateway_of)
    assert rebuilt.problems == ""
    assert calls == {"read_yaml": 1, "check_manifest": 1, "read_examples": 2, "build_document": 2}
    assert set(rebuilt.files) >= {project / name for name in ("models.yaml", "echo.onnx", "one.json", "two.json")}


def test_a_reload_of_an_invalid_manifest_parses_it_once_and_watches_its_files(project: Path) -> None:
    before = make_edition(load_project(project))
    (project / "models.yaml").write_text(MANIFEST.replace("v3: {artifact: echo.onnx}", "v3: {artifact: no.onnx}"))
    time.sleep(0.1)
    with counted_calls(read_yaml) as calls:
        rebuilt = rebuild(project / "models.yaml", before, functions_of=edition_functions, gateway_of=gateway_of)
    assert "no such file: no.onnx" in rebuilt.problems
    assert calls == {"read_yaml": 1}
    assert rebuilt.files[project / "no.onnx"] == (0, 0, 0)


def test_files_are_found_without_reading_the_manifest_again(project: Path) -> None:
    edition = make_edition(load_project(project))
    with counted_calls(read_yaml) as calls:
        result = find_files(project / "models.yaml", edition, edition.project.manifest.versions)
    assert set(result) == {project, *(project / name for name in ("models.yaml", "echo.onnx", "one.json", "two.json"))}
    assert calls == {}

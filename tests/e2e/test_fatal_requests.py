"""Requests that would end a worker are refused, from the first one on."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import helper

from tests.builders.graphs import value, write_graph
from tests.builders.processes import children
from tests.builders.running_server import running_server

MANIFEST = """
platform: turnout
models:
  columns: {versions: {v1: {artifact: columns.onnx}}}
  division: {versions: {v1: {artifact: division.onnx}}}
stages:
  dev: {serve: {"*": newest}}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    vectorizer = helper.make_node("FeatureVectorizer", ["a", "b"], ["y"], domain="ai.onnx.ml", inputdimensions=[2, 1])
    inputs = [value("a", "FP32", ["n", 2]), value("b", "FP32", ["n", 1])]
    write_graph(tmp_path / "columns.onnx", [vectorizer], inputs, [value("y", "FP32", ["n", 3])])
    inputs = [value("a", "INT64", ["n"]), value("b", "INT64", ["n"])]
    nodes = [helper.make_node("Div", ["a", "b"], ["y"])]
    write_graph(tmp_path / "division.onnx", nodes, inputs, [value("y", "INT64", ["n"])])
    (tmp_path / "models.yaml").write_text(MANIFEST)
    return tmp_path


def test_requests_that_would_end_the_worker_are_422_and_the_worker_lives_on(project: Path) -> None:
    with running_server(project, "--workers", "1") as server:
        workers = children(server.process.pid)
        for _ in range(2):
            answer = server.post("/models/columns/inference", {"instances": []})
            assert (answer.status, answer.json()["code"]) == (422, "REFUSED_BY_MODEL")
            assert answer.json()["details"]["operator"] == "FeatureVectorizer"
            assert "FeatureVectorizer ends the process" in answer.json()["error"]
            answer = server.post("/models/division/inference", {"inputs": {"a": [1, -(2**63)], "b": [1, -1]}})
            assert (answer.status, answer.json()["details"]["operator"]) == (422, "Div")
        assert server.post("/models/columns/inference", {"instances": [{"a": [1, 2], "b": [3]}]}).status == 200
        assert server.post("/models/division/inference", {"inputs": {"a": [6], "b": [-1]}}).json()["outputs"] == {
            "y": [-6]
        }
        assert workers == children(server.process.pid)

"""Requests that would end a worker are rejected, even the first one."""

from __future__ import annotations

from http.client import HTTPException
from pathlib import Path

import pytest
from onnx import helper

from tests.builders.graphs import value, write_graph, write_identity
from tests.builders.processes import children
from tests.builders.running_server import running_server
from tests.builders.waiting import wait_until

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


def test_requests_that_would_end_the_worker_are_422_and_the_worker_continues(project: Path) -> None:
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


ENDING = """
import os
import signal


def preprocess(inputs):
    if inputs["x"][0, 0] == 7:
        os.kill(os.getpid(), signal.SIGSEGV)
    return inputs
"""


def test_a_version_that_ends_two_workers_is_no_longer_served_and_others_are(tmp_path: Path) -> None:
    write_identity(tmp_path / "echo.onnx")
    (tmp_path / "ending.py").write_text(ENDING)
    (tmp_path / "models.yaml").write_text(
        "platform: turnout\n"
        "models:\n"
        "  echo: {versions: {v1: {artifact: echo.onnx}}}\n"
        "  ending: {versions: {v1: {artifact: echo.onnx, transform: ending.py}}}\n"
        'stages: {dev: {serve: {"*": newest}}}\n'
    )
    fatal, fine = {"inputs": {"x": [[7, 2, 3, 4]]}}, {"inputs": {"x": [[1, 2, 3, 4]]}}
    with running_server(tmp_path, "--workers", "1") as server:

        def status(model: str, body: object) -> int:
            try:
                return server.post(f"/models/{model}/inference", body).status
            except (OSError, HTTPException):
                return 0

        assert status("ending", fine) == 200
        for _ in range(2):
            assert status("ending", fatal) == 0
            wait_until(lambda: status("echo", fine) == 200, "an answer of another worker")
        answer = server.post("/models/ending/inference", fine)
        assert (answer.status, answer.json()["code"]) == (503, "NOT_READY")
        assert "has ended 2 processes" in answer.json()["error"]
        assert status("echo", fine) == 200
        log = server.stderr.read_text()
    assert "may have crashed a worker" in log
    assert "crashed 2 workers and is no longer served" in log

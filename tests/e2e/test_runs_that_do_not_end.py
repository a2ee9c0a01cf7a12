"""Runs that do not end: they are ended at their deadlines, block no other calls, and free their slots."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from tests.builders.graphs import value, write_graph, write_identity
from tests.builders.processes import children
from tests.builders.running_server import RunningServer, running_server
from tests.builders.waiting import wait_until

MANIFEST = """
platform: turnout
models:
  loop:
    versions:
      v1: {artifact: loop.onnx, timeout_s: 2}
  stuck:
    versions:
      v1: {artifact: echo.onnx, transform: stuck.py, timeout_s: 1}
  echo:
    versions:
      v1: {artifact: echo.onnx}
stages:
  dev: {serve: {"*": newest}}
"""
STUCK = """
import time


def preprocess(inputs):
    while inputs["x"][0, 0] == 7:
        time.sleep(0.1)
    return inputs
"""
ECHO = {"inputs": {"x": [[1, 2, 3, 4]]}}


def write_loop(path: Path) -> None:
    """Write a model with the input `n`: this number of iterations of a body of two nodes."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["going"], ["on"]), helper.make_node("Add", ["sum", "sum"], ["more"])],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]),
        ],
    )
    nodes = [
        helper.make_node("Constant", [], ["start"], value_floats=[1.0]),
        helper.make_node("Squeeze", ["n"], ["count"]),
        helper.make_node("Loop", ["count", "", "start"], ["y"], body=body),
    ]
    write_graph(path, nodes, [value("n", "INT64", [1])], [value("y", "FP32", [1])])


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_loop(tmp_path / "loop.onnx")
    write_identity(tmp_path / "echo.onnx")
    (tmp_path / "stuck.py").write_text(STUCK)
    (tmp_path / "models.yaml").write_text(MANIFEST)
    return tmp_path


def test_a_loop_with_a_count_from_the_client_ends_at_its_deadline(project: Path) -> None:
    with running_server(project, "--workers", "1") as server:
        for _ in range(60):  # a busy machine may delay one beyond the time limit
            wait_until(lambda: server.post("/models/loop/inference", {"inputs": {"n": [5]}}).status == 200, "an answer")
        for _ in range(3):  # more than may run at once
            answer = server.post("/models/loop/inference", {"inputs": {"n": [999999999999]}})  # it would run for months
            assert answer.status == 504
            assert server.request("GET", "/health/live").status == 200
        outputs: list[object] = []

        def is_answered() -> bool:
            outputs.append(server.post("/models/loop/inference", {"inputs": {"n": [3]}}).json().get("outputs"))
            return outputs[-1] is not None

        wait_until(is_answered, "an answer")
        assert outputs[-1] == {"y": [8.0]}


def test_a_worker_with_runs_that_cannot_be_ended_is_replaced(project: Path) -> None:
    with running_server(project, "--workers", "1") as server:
        (before,) = children(server.process.pid)
        for _ in range(8):
            assert server.post("/models/stuck/inference", {"inputs": {"x": [[7, 2, 3, 4]]}}).status == 504
        wait_until(lambda: children(server.process.pid) not in ([before], []), "another worker")
        wait_until(lambda: answers(server), "an answer")
        assert server.post("/models/stuck/inference", ECHO).status == 200
    assert "too many runs that do not end" in server.stderr.read_text()


def test_a_blocked_worker_is_replaced(project: Path) -> None:
    with running_server(project, "--workers", "1") as server:
        (before,) = children(server.process.pid)
        os.kill(before, signal.SIGSTOP)
        wait_until(lambda: children(server.process.pid) not in ([before], []), "another worker", 120)
        wait_until(lambda: answers(server), "an answer")
    assert re.search(r"the event loop of worker 0 has been blocked for 20 s: killed", server.stderr.read_text())


def answers(server: RunningServer) -> bool:
    try:
        return server.post("/models/echo/inference", ECHO).status == 200
    except OSError:
        return False

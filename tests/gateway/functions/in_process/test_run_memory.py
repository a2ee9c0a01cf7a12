"""The limit on the memory of runs whose size follows a client's values."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from tests.builders.graphs import value, write_graph
from tests.builders.running_server import running_server
from turnout.gateway.functions.in_process.run_memory import MARGIN_BYTES, RunMemory

GIB = 1024**3
MANIFEST = """\
models:
  fill: {versions: {v1: {artifact: fill.onnx}}}
  wide: {versions: {v1: {artifact: pad.onnx}}}
stages:
  dev: {serve: {fill: v1, wide: v1}}
"""


def test_allocations_beyond_the_limit_fail_until_the_run_ends() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with RunMemory().limited(MARGIN_BYTES):
        np.empty(MARGIN_BYTES, np.uint8)
        with pytest.raises(MemoryError):
            np.empty(8 * GIB, np.uint8)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    np.empty(8 * GIB, np.uint8)  # pages that are never written take no memory


def test_runs_that_overlap_have_the_sum_of_their_limits() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    memory = RunMemory()
    with memory.limited(GIB):
        one, _ = resource.getrlimit(resource.RLIMIT_DATA)
        with memory.limited(GIB):
            two, _ = resource.getrlimit(resource.RLIMIT_DATA)
            assert two - one > GIB // 2
            np.empty(GIB + GIB // 2, np.uint8)
        with pytest.raises(MemoryError):
            np.empty(2 * GIB, np.uint8)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_short_runs_do_not_raise_the_limit_of_a_long_one() -> None:
    memory = RunMemory()
    with memory.limited(GIB):
        first, _ = resource.getrlimit(resource.RLIMIT_DATA)
        taken = np.empty(GIB // 2, np.uint8)
        for _ in range(5):
            with memory.limited(GIB):
                pass
        assert resource.getrlimit(resource.RLIMIT_DATA)[0] == first
        del taken


def test_loading_a_model_suspends_the_limit() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    memory = RunMemory()
    with memory.limited(MARGIN_BYTES):
        with memory.suspended(), memory.suspended():
            np.empty(8 * GIB, np.uint8)
        loaded = np.empty(MARGIN_BYTES // 2, np.uint8)
        with pytest.raises(MemoryError):
            np.empty(8 * GIB, np.uint8)
        del loaded
    with memory.suspended():
        assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_a_system_that_does_not_report_the_memory_has_no_limit(tmp_path: Path) -> None:
    with RunMemory(tmp_path / "statm").limited(1):
        np.empty(8 * GIB, np.uint8)


def test_a_lower_limit_of_the_process_stays() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (64 * GIB, before[1]))
        memory = RunMemory()
        with memory.limited(128 * GIB):
            assert resource.getrlimit(resource.RLIMIT_DATA)[0] == 64 * GIB
        assert resource.getrlimit(resource.RLIMIT_DATA)[0] == 64 * GIB
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


@pytest.mark.slow
def test_a_small_request_for_gigabytes_is_rejected_and_the_worker_lives(tmp_path: Path) -> None:
    fill = [helper.make_node("ConstantOfShape", ["s"], ["y"])]
    write_graph(tmp_path / "fill.onnx", fill, [value("s", "INT64", [1])], [value("y", "FP32", ["n"])])
    pad = [helper.make_node("Pad", ["x", "p"], ["y"])]
    inputs = [value("x", "FP32", ["n"]), value("p", "INT64", [2])]
    write_graph(tmp_path / "pad.onnx", pad, inputs, [value("y", "FP32", ["m"])])
    (tmp_path / "models.yaml").write_text(MANIFEST)
    requests = {
        "fill": ({"inputs": {"s": [2**29]}}, {"inputs": {"s": [3]}}, [0.0, 0.0, 0.0]),
        "wide": ({"inputs": {"x": [1], "p": [0, 2**29]}}, {"inputs": {"x": [1], "p": [0, 2]}}, [1.0, 0.0, 0.0]),
    }
    with running_server(tmp_path, "--no-access-log", "--workers", "1") as server:
        for model, (huge, small, expected) in requests.items():
            for _ in range(3):
                refused = server.post(f"/dev/models/{model}/inference", huge)
                assert (refused.status, refused.json()["code"]) == (422, "REFUSED_BY_MODEL"), refused.body
                assert refused.json()["error"].endswith(": not enough memory")
            answer = server.post(f"/dev/models/{model}/inference", small)
            assert json.loads(answer.body)["outputs"]["y"] == expected
        text = server.request("GET", "/metrics").body.decode()
    assert "turnout_worker_restarts_total 0.0" in text

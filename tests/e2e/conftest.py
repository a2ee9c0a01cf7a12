"""Two running projects: the sample from the repository, and one with a stage or a model for every case."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from tests.builders.graphs import value, write_graph, write_identity
from tests.builders.running_server import RunningServer, running_server

VARIANTS = """
platform: turnout
models:
  iris:
    versions:
      v1: {artifact: models/iris/v1/model.onnx}
      v2: {artifact: models/iris/v2/model.onnx}
  echo:
    versions:
      v1: {artifact: models/echo.onnx}
  loop:
    versions:
      v1: {artifact: models/loop.onnx, timeout_s: 1}
  refused:
    versions:
      v1: {artifact: models/refused.onnx}
  raising:
    versions:
      v1: {artifact: models/echo.onnx, transform: models/raising.py}
  waiting:
    versions:
      v1: {artifact: models/echo.onnx, transform: models/waiting.py, timeout_s: 29}
stages:
  plain: {serve: {iris: v1, "*": newest}}
  newest: {serve: {"*": newest}}
  never: {serve: {iris: v1, "*": newest}, canary: {percent: 0, serve: {iris: v2}}}
  half: {serve: {iris: v1, "*": newest}, canary: {percent: 50, serve: {iris: v2}}}
  always: {serve: {iris: v1, "*": newest}, canary: {percent: 100, serve: {iris: v2}}}
  weighted: {serve: {"*": newest}, weights: {iris: {v1: 50, v2: 50}}}
  tight: {serve: {"*": newest}, throttle: {rate: 1, burst: 3}}
  keyed: {serve: {"*": newest}, auth: api_key}
  keyed-too: {serve: {"*": newest}, auth: api_key}
"""

RAISING = """
def preprocess(inputs):
    raise RuntimeError("secret of the transform")
"""

WAITING = '''
"""Says that it runs, then waits until the test lets it go on, or twenty seconds."""
import time
from pathlib import Path

HERE = Path(PROJECT)


def preprocess(inputs):
    (HERE / "started").touch()
    deadline = time.monotonic() + 20
    while not (HERE / "go-on").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    (HERE / "ended").touch()
    return inputs
'''


def write_loop(path: Path) -> None:
    """Write a model that counts up to its input `n` in a loop."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["still"]),
            helper.make_node("Add", ["total", "one"], ["more"]),
        ],
        "body",
        [value("turn", "INT64", []), value("go", "BOOL", []), value("total", "INT64", [1])],
        [value("still", "BOOL", []), value("more", "INT64", [1])],
        [helper.make_tensor("one", TensorProto.INT64, [1], [1])],
    )
    nodes = [
        helper.make_node("Squeeze", ["n"], ["turns"]),
        helper.make_node("Loop", ["turns", "", "zero"], ["y"], body=body),
    ]
    zero = helper.make_tensor("zero", TensorProto.INT64, [1], [0])
    write_graph(path, nodes, [value("n", "INT64", [1])], [value("y", "INT64", [1])], [zero])


def write_refused(path: Path) -> None:
    """Write a valid file whose operator onnxruntime does not know."""
    nodes = [helper.make_node("NoSuchOperator", ["x"], ["y"])]
    write_graph(path, nodes, [value("x", "FP32", [1])], [value("y", "FP32", [1])])


def write_variants(project: Path, root: Path) -> Path:
    shutil.copytree(root / "models" / "iris", project / "models" / "iris")
    models = project / "models"
    write_identity(models / "echo.onnx")
    write_loop(models / "loop.onnx")
    write_refused(models / "refused.onnx")
    (models / "raising.py").write_text(RAISING)
    (models / "waiting.py").write_text(WAITING.replace("PROJECT", repr(str(project))))
    (project / "models.yaml").write_text(VARIANTS)
    return project


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[RunningServer]:
    """The repository's models.yaml, with every session opened before the first request."""
    project = tmp_path_factory.mktemp("sample")
    shutil.copytree(root / "models", project / "models")
    shutil.copy(root / "models.yaml", project)
    with running_server(project, "--preload") as server:
        yield server


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[RunningServer]:
    """A stage or a model for every case, with sessions opened on first use."""
    with running_server(write_variants(tmp_path_factory.mktemp("variants"), root)) as server:
        yield server

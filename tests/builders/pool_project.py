"""A small project with pools: models that identify themselves, some in a pool, some with their own functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MANIFEST = """
platform: turnout
pools: {small: {memory_mb: 512, timeout_s: 10}}
models:
  iris:
    pool: small
    versions:
      v1: {artifact: models/iris-v1.onnx}
      v2: {artifact: models/iris-v2.onnx, transform: transforms/v2/transform.py}
  digits:
    versions:
      v1: {pool: small, artifact: models/digits-v1.onnx, transform: transforms/v1/transform.py}
      v2: {artifact: models/digits-v2.onnx}
  credit: {versions: {v1: {artifact: models/credit-v1.onnx}}}
stages:
  prod:
    serve: {iris: v1, digits: v1, credit: v1}
"""
"""Two transforms of one pool import helpers with the same name. Only one version of `digits` is in the pool."""

ANSWERS = {"iris-v1": 1.0, "iris-v2": 2.0, "digits-v1": 11.0, "digits-v2": 12.0, "credit-v1": 21.0}
"""File -> the number that the model adds to its input. A transform adds 100 times its own version's number."""


def write_pool_project(folder: Path, manifest: str = MANIFEST) -> Path:
    """Write the project and return its folder."""
    (folder / "models").mkdir(parents=True)
    for name, number in ANSWERS.items():
        write_adding(folder / "models" / f"{name}.onnx", number)
    for number in (1, 2):
        transform = folder / "transforms" / f"v{number}"
        transform.mkdir(parents=True)
        (transform / "helper.py").write_text(f"ADDED = {100 * number}\n")
        code = "import helper\n\ndef postprocess(outputs):\n    return {'y': outputs['y'] + helper.ADDED}\n"
        (transform / "transform.py").write_text(code)
    (folder / "models.yaml").write_text(manifest)
    return folder


def write_adding(path: Path, number: float, values: int = 0) -> None:
    """Write a model that adds a number to its input `x`; `values` is a number of additional weights."""
    weights = [numpy_helper.from_array(np.array([number], np.float32), "number")]
    if values:
        weights.append(numpy_helper.from_array(np.zeros(values, np.float32), "unused"))
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in ("x", "y"))
    nodes = [helper.make_node("Add", ["x", "number"], ["y"])]
    graph = helper.make_graph(nodes, "adding", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))


REQUEST = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [0.5]}]}

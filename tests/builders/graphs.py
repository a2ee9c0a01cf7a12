"""Small ONNX graphs for tests, written with onnx.helper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import helper

from turnout.protocol.tensors import DATATYPES

Dimension = int | str | None


def value(name: str, datatype: str, shape: Sequence[Dimension] | None) -> onnx.ValueInfoProto:
    """A graph's input or output; `shape` None leaves even the rank open."""
    return helper.make_tensor_value_info(name, DATATYPES[datatype].onnx, shape)


def write_graph(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    initializers: Sequence[onnx.TensorProto] = (),
    opset: int = 17,
) -> Path:
    """Write one model and return its path."""
    graph = helper.make_graph(list(nodes), "test", list(inputs), list(outputs), list(initializers))
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    )
    model.ir_version = 9
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


def write_identity(path: Path, datatype: str = "FP32", shape: Sequence[Dimension] | None = ("batch", 4)) -> Path:
    """A model that answers what it was sent: input `x`, output `y`."""
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    return write_graph(path, nodes, [value("x", datatype, shape)], [value("y", datatype, shape)])

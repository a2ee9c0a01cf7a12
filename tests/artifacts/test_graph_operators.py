from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.builders.graphs import value, write_graph
from turnout.artifacts.artifact import load_artifact
from turnout.artifacts.graph_operators import operators_of
from turnout.artifacts.onnx_file import read_graph


def model_of(
    nodes: Sequence[onnx.NodeProto],
    initializers: Sequence[onnx.TensorProto] = (),
    inputs: Sequence[onnx.ValueInfoProto] = (),
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(list(nodes), "g", list(inputs), [], list(initializers))
    return helper.make_model(graph, functions=list(functions), opset_imports=[helper.make_opsetid("", 17)])


def subgraph(*nodes: onnx.NodeProto) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), "body", [], [])


@pytest.mark.parametrize(
    "operator",
    ["Loop", "Scan", "Range", "Expand", "Tile", "ConstantOfShape", "Resize", "NonZero", "RandomUniform", "RandomNormal",
     "RandomNormalLike", "Bernoulli", "Multinomial", "Unique", "Compress", "NonMaxSuppression", "If", "Upsample"],
)  # fmt: skip
def test_cost_depends_on_values_for_some_operators(operator: str) -> None:
    assert operators_of(model_of([helper.make_node(operator, ["x"], ["y"])])).follows_values


@pytest.mark.parametrize("operator", ["MatMul", "Add", "Softmax", "Gemm", "Reshape", "Gather", "LSTM"])
def test_cost_depends_on_sizes_only_for_others(operator: str) -> None:
    result = operators_of(model_of([helper.make_node(operator, ["x", "w"], ["y"])]))
    assert (result.names, result.follows_values) == ((operator,), False)


def test_operators_in_subgraphs_and_functions_are_included() -> None:
    loop = helper.make_node("Range", ["a", "b", "c"], ["y"])
    inner = helper.make_node("Abs", ["y"], ["z"], body=subgraph(loop))
    held = helper.make_node("SequenceAt", ["x"], ["y"], body=subgraph(inner))
    assert operators_of(model_of([held])).names == ("Abs", "Range", "SequenceAt")
    assert operators_of(model_of([held])).follows_values
    function = helper.make_function("mine", "F", ["x"], ["y"], [loop], [helper.make_opsetid("", 17)])
    result = operators_of(model_of([helper.make_node("F", ["x"], ["y"], domain="mine")], functions=[function]))
    assert (result.names, result.follows_values) == (("Range",), True)
    plain = helper.make_function("mine", "F", ["x"], ["y"], [helper.make_node("Abs", ["x"], ["y"])], [])
    result = operators_of(model_of([helper.make_node("F", ["x"], ["y"], domain="mine")], functions=[plain]))
    assert (result.names, result.follows_values) == (("Abs",), False)


@pytest.mark.parametrize(
    ("domain", "operator", "follows"),
    [("com.microsoft", "BeamSearch", True), ("com.microsoft", "FusedMatMul", False), ("mine", "Abs", True),
     ("mine", "FusedMatMul", True), ("ai.onnx.ml", "Scaler", False), ("ai.onnx", "Loop", True),
     ("ai.onnx", "Abs", False)],
)  # fmt: skip
def test_operators_of_unknown_domains_may_depend_on_values(domain: str, operator: str, follows: bool) -> None:
    assert operators_of(model_of([helper.make_node(operator, ["x"], ["y"], domain=domain)])).follows_values == follows


def pad(**how: Any) -> onnx.ModelProto:
    return model_of([*how.pop("before", ()), helper.make_node("Pad", ["x", "pads"], ["y"])], **how)


def test_a_size_that_is_constant_in_the_graph_does_not_depend_on_values() -> None:
    pads = numpy_helper.from_array(np.array([1, 1]), "pads")
    assert not operators_of(pad(initializers=[pads])).follows_values
    assert not operators_of(pad(before=[helper.make_node("Constant", [], ["pads"], value=pads)])).follows_values
    assert operators_of(pad(before=[helper.make_node("Abs", ["s"], ["pads"])])).follows_values
    sent = helper.make_tensor_value_info("pads", TensorProto.INT64, [2])
    assert operators_of(pad(initializers=[pads], inputs=[sent])).follows_values


@pytest.mark.parametrize("operator", ["Conv", "ConvInteger", "ConvTranspose"])
def test_a_convolution_depends_on_values_unless_its_weights_are_constant(operator: str) -> None:
    convolution = helper.make_node(operator, ["x", "w"], ["y"])
    stored = numpy_helper.from_array(np.ones((1, 1, 1, 1), np.uint8), "q")
    dequantized = [helper.make_node("DequantizeLinear", ["q", "", ""], ["v"]), helper.make_node("Abs", ["v"], ["w"])]
    sent = helper.make_tensor_value_info("q", TensorProto.UINT8, [1, 1, 1, 1])
    assert operators_of(model_of([convolution])).follows_values
    assert not operators_of(model_of([*dequantized, convolution], [stored])).follows_values
    assert operators_of(model_of([*dequantized, convolution], [stored], [sent])).follows_values


def test_a_subgraph_may_compute_a_size_from_a_request() -> None:
    branch = helper.make_node("Abs", [], ["pads"], body=subgraph(helper.make_node("Identity", ["s"], ["a"])))
    assert operators_of(pad(before=[branch])).follows_values


def test_operators_are_also_read_from_the_cache(tmp_path: Path) -> None:
    path = write_graph(
        tmp_path / "m.onnx",
        [helper.make_node("ConstantOfShape", ["s"], ["a"]), helper.make_node("Abs", ["a"], ["y"])],
        [value("s", "INT64", ["n"])],
        [value("y", "FP32", None)],
    )
    read = operators_of(read_graph(path))
    assert (read.names, read.follows_values) == (("Abs", "ConstantOfShape"), True)
    for _ in range(2):
        assert load_artifact(path, tmp_path / "cache", clock=lambda: 1e12).operators == read

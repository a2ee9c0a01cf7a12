"""Offline optimization: used only if it changes nothing; otherwise the reason is reported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.builders.graphs import read_signature, value, write_graph
from turnout.protocol.tensors.datatypes import DATATYPES, Signature, TensorSpec
from turnout.runtimes.onnx_graphs import draw_requests, optimize_graph


def write_foldable(path: Path, last: onnx.NodeProto | None = None) -> Path:
    """z = x + (a * b), where the constants' product can be folded; `last` makes `y` from `z`, without it `z` is the
    output `y`.
    """
    constants = [numpy_helper.from_array(np.full((4,), fill, np.float32), name) for name, fill in (("a", 2), ("b", 3))]
    total = helper.make_node("Add", ["x", "ab"], ["z" if last else "y"])
    nodes = [helper.make_node("Mul", ["a", "b"], ["ab"]), total, *([last] if last else [])]
    return write_graph(path, nodes, [value("x", "FP32", ["n", 4])], [value("y", "FP32", ["n", 4])], constants)


def test_a_foldable_graph_is_optimized(tmp_path: Path) -> None:
    source = write_foldable(tmp_path / "model.onnx")
    target = tmp_path / "optimized.onnx"
    assert optimize_graph(source, target, read_signature(source), []).kept == ""
    assert [node.op_type for node in onnx.load(str(target)).graph.node] == ["Add"]


def test_the_optimized_graph_has_the_same_bytes_each_time(tmp_path: Path) -> None:
    source = write_foldable(tmp_path / "model.onnx")
    for name in ("1", "2"):
        optimize_graph(source, tmp_path / name, read_signature(source), [])
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_a_graph_with_other_result_bits_is_kept_unchanged(tmp_path: Path) -> None:
    # onnxruntime seeds a random node by its index, which folding changes
    noise = helper.make_node("RandomNormalLike", ["z"], ["y"])
    source = write_foldable(tmp_path / "model.onnx", noise)
    target = tmp_path / "optimized.onnx"
    assert (
        optimize_graph(source, target, read_signature(source), []).kept == "the optimized graph returns different bits"
    )
    assert not target.exists()


def test_a_graph_without_comparable_results_is_kept_unchanged(tmp_path: Path) -> None:
    table = numpy_helper.from_array(np.zeros((1, 2), np.float32), "table")
    nodes = [helper.make_node("Gather", ["table", "ids"], ["y"])]
    inputs, outputs = [value("ids", "INT64", ["n"])], [value("y", "FP32", ["n", 2])]
    source = write_graph(tmp_path / "model.onnx", nodes, inputs, outputs, [table])  # one row: random ids miss it
    kept = optimize_graph(source, tmp_path / "optimized.onnx", read_signature(source), []).kept
    assert kept.startswith("no request to compare it with: ")


def test_a_graph_that_onnxruntime_rejects_is_kept_unchanged(tmp_path: Path) -> None:
    nodes = [helper.make_node("Nonsense", ["x"], ["y"], domain="nobody.knows")]
    source = write_graph(tmp_path / "model.onnx", nodes, [value("x", "FP32", [1])], [value("y", "FP32", [1])])
    kept = optimize_graph(source, tmp_path / "optimized.onnx", read_signature(source), []).kept
    assert kept.startswith("onnxruntime could not optimize it: ")


@pytest.mark.parametrize("datatype", [name for name in DATATYPES if name != "BF16"])
def test_random_inputs_match_the_signature(datatype: str) -> None:
    spec = TensorSpec("x", datatype, (-1, 3))
    for free, arrays in enumerate(draw_requests(Signature((spec,), ())), start=1):
        assert arrays["x"].shape == (free, 3)
        assert arrays["x"].dtype == DATATYPES[datatype].dtype


def test_inputs_with_initializers_are_not_generated() -> None:
    specs = (TensorSpec("x", "FP32", (2,)), TensorSpec("w", "FP32", (2,), required=False))
    assert [set(arrays) for arrays in draw_requests(Signature(specs, ()))] == [{"x"}] * 3

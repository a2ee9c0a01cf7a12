"""Small ONNX graphs for tests, written with onnx.helper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from turnout.artifacts.onnx_file import read_graph
from turnout.artifacts.onnx_signature import signature_of
from turnout.protocol.tensors.datatypes import DATATYPES, Signature

Dimension = int | str | None


def value(name: str, datatype: str, shape: Sequence[Dimension] | None) -> onnx.ValueInfoProto:
    """Return a graph's input or output; `shape` None leaves even the rank unknown."""
    return helper.make_tensor_value_info(name, DATATYPES[datatype].onnx, shape)


def write_graph(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    initializers: Sequence[onnx.TensorProto] = (),
    opset: int = 17,
) -> Path:
    """Write a model and return its path."""
    graph = helper.make_graph(list(nodes), "test", list(inputs), list(outputs), list(initializers))
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    )
    model.ir_version = 9
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


def write_identity(path: Path, datatype: str = "FP32", shape: Sequence[Dimension] | None = ("batch", 4)) -> Path:
    """Write a model that returns its input: input `x`, output `y`."""
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    return write_graph(path, nodes, [value("x", datatype, shape)], [value("y", datatype, shape)])


def write_scaled(path: Path, factor: float) -> Path:
    """Write a model that returns `y`, its input `x` times a factor."""
    node = helper.make_node("Mul", ["x", "factor"], ["y"])
    constant = helper.make_tensor("factor", DATATYPES["FP32"].onnx, [1], [factor])
    return write_graph(path, [node], [value("x", "FP32", ("batch", 4))], [value("y", "FP32", ("batch", 4))], [constant])


def write_zipmap_classifier(path: Path, labels: Sequence[int] | Sequence[str] = ("cat", "dog")) -> Path:
    """Write a classifier as scikit-learn's converters make it by default.

    Input `x` FP32 [-1, len(labels)] are the scores; the outputs are `label`, the label with the highest score, and
    `probabilities`, the softmax as a list of maps from label to FP32.
    """
    count = len(labels)
    texts = isinstance(labels[0], str)
    keys = {"classlabels_strings" if texts else "classlabels_int64s": list(labels)}
    nodes = [
        helper.make_node("Softmax", ["x"], ["softmax"], axis=1),
        helper.make_node("ArgMax", ["softmax"], ["best"], axis=1, keepdims=0),
        helper.make_node("Gather", ["labels", "best"], ["label"], axis=0),
        helper.make_node("ZipMap", ["softmax"], ["probabilities"], domain="ai.onnx.ml", **keys),
    ]
    map_type = helper.make_map_type_proto(
        onnx.TensorProto.STRING if texts else onnx.TensorProto.INT64,
        helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, []),
    )
    maps = helper.make_value_info("probabilities", helper.make_sequence_type_proto(map_type))
    initializer = helper.make_tensor(
        "labels", onnx.TensorProto.STRING if texts else onnx.TensorProto.INT64, [count], list(labels)
    )
    outputs = [value("label", "BYTES" if texts else "INT64", ["batch"]), maps]
    return write_graph(path, nodes, [value("x", "FP32", ["batch", count])], outputs, [initializer])


def write_slow(path: Path) -> Path:
    """Write a model that runs longer the larger `rounds` (INT64 []) is, about 2 µs for each; it returns `y` FP32 []."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["on"], ["still_on"]),
            helper.make_node("Sin", ["y_in"], ["y_sin"]),
            helper.make_node("Add", ["y_sin", "y_in"], ["y_out"]),
        ],
        "round",
        [value("round", "INT64", []), value("on", "BOOL", []), value("y_in", "FP32", [])],
        [value("still_on", "BOOL", []), value("y_out", "FP32", [])],
    )
    start = helper.make_tensor("start", onnx.TensorProto.FLOAT, [], [0.5])
    nodes = [helper.make_node("Loop", ["rounds", "", "start"], ["y"], body=body)]
    return write_graph(path, nodes, [value("rounds", "INT64", [])], [value("y", "FP32", [])], [start])


def write_vocabulary(path: Path, size: int = 10) -> Path:
    """Write a model that onnxruntime rejects for some values: `ids` INT64 [-1] must be below `size`.

    It returns `vectors` FP32 [-1,2]: `[id, -id]` for each id.
    """
    rows = [number * sign for number in range(size) for sign in (1.0, -1.0)]
    table = helper.make_tensor("table", onnx.TensorProto.FLOAT, [size, 2], rows)
    nodes = [helper.make_node("Gather", ["table", "ids"], ["vectors"], axis=0)]
    return write_graph(path, nodes, [value("ids", "INT64", ["n"])], [value("vectors", "FP32", ["n", 2])], [table])


def external_tensor(name: str, location: str, shape: Sequence[int], **entries: int | str) -> onnx.TensorProto:
    """Return an FP32 tensor whose data is in another file; `entries` are offset, length, checksum."""
    tensor = onnx.TensorProto(name=name, data_type=onnx.TensorProto.FLOAT, dims=shape)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, entry in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(entry))
    return tensor


def write_external(path: Path, locations: Sequence[str] = ("model.data",), *, write_data: bool = True) -> Path:
    """Write a model with external data: input `x` FP32 [-1,4]; output `y` is `x` plus [0,1,2,3] for each data file."""
    names = [f"w{number}" for number in range(len(locations))]
    tensors = [
        external_tensor(name, location, [4], offset=0, length=16)
        for name, location in zip(names, locations, strict=True)
    ]
    nodes = [helper.make_node("Sum", ["x", *names], ["y"])]
    shape = ["batch", 4]
    write_graph(path, nodes, [value("x", "FP32", shape)], [value("y", "FP32", shape)], tensors)
    for location in locations if write_data else ():
        file = path.parent / location
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(np.arange(4, dtype="<f4").tobytes())
    return path


def read_signature(path: Path) -> Signature:
    """Return the inputs and outputs of the model in `path`, in the graph's order, with unchanged names.

    An input with an initializer is optional. The output of a ZipMap, a list of maps, is returned as the tensor `[-1,
    len(labels)]` from which it is made.

    Raises:
        ArtifactError: the file is not an ONNX model, or an input or output cannot be served.
    """
    return signature_of(read_graph(path), path.name)

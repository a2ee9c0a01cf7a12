"""Corrections of a converted graph: names, the batch dimension, versions of operators and format."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from .start import disable_telemetry

IR_VERSION = 10
"""Version of the file format. Features of newer ones are not used, and older releases of onnxruntime reject them."""

EXTERNAL_BYTES = 1_500_000_000
"""From this size on the weights are written to a separate file: protobuf is limited to 2 GB."""


def tidy(model: onnx.ModelProto, outputs: Sequence[str], inputs: Mapping[str, str] | None = None) -> onnx.ModelProto:
    """Name outputs and inputs as clients see them, free the batch dimension, and remove unused values.

    Args:
        model: changed in place.
        outputs: new names, in the graph's order.
        inputs: the graph's name -> the new one, for inputs renamed by a converter.
    """
    names = {value.name: new for value, new in zip(model.graph.output, outputs, strict=True)}
    names |= inputs or {}
    rename(model, {old: new for old, new in names.items() if old != new})
    read = {name for node in model.graph.node for name in node.input} | {row.name for row in model.graph.output}
    kept = [value for value in model.graph.input if value.name in read]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    for value in (*model.graph.input, *model.graph.output):
        dimensions = value.type.tensor_type.shape.dim
        if dimensions:
            dimensions[0].Clear()
            dimensions[0].dim_param = "batch"
    versions: dict[str, int] = {}
    for row in model.opset_import:
        domain = "" if row.domain == "ai.onnx" else row.domain
        versions[domain] = max(versions.get(domain, 0), row.version)
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in versions.items())
    model.ir_version = min(model.ir_version, IR_VERSION)
    model.doc_string = ""
    return model


def rename(model: onnx.ModelProto, names: Mapping[str, str]) -> None:
    """Rename values wherever they are used; another value that already has a new name is renamed, too."""
    graph = model.graph
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    taken |= {row.name for row in (*graph.input, *graph.output, *graph.initializer)}
    moved = {name: f"{name}__inner" for name in names.values() if name in taken and name not in names}
    every = {**moved, **names}
    for node in graph.node:
        node.input[:] = [every.get(name, name) for name in node.input]
        node.output[:] = [every.get(name, name) for name in node.output]
    for row in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        row.name = every.get(row.name, row.name)


def set_output_types(model: onnx.ModelProto) -> None:
    """Declare the actual float datatypes of outputs, because converters derive some of them wrong."""
    tensors = [value.type.tensor_type for value in model.graph.output]
    floats = [tensor for tensor in tensors if tensor.elem_type in {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE}]
    given = [tensor.elem_type for tensor in floats]
    others = itertools.product((onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT), repeat=len(floats))
    for kinds in (given, *others):
        for tensor, kind in zip(floats, kinds, strict=True):
            tensor.elem_type = kind
        try:
            open_session(model.SerializeToString())
        except Exception as error:
            if "output arg" not in str(error):
                break
        else:
            return
    for tensor, kind in zip(floats, given, strict=True):
        tensor.elem_type = kind


def set_output_shapes(path: Path, shapes: Sequence[Sequence[int]]) -> None:
    """Declare the actual shapes of outputs, because converters get some of them wrong."""
    model = onnx.load(path, load_external_data=False)
    for value, shape in zip(model.graph.output, shapes, strict=True):
        tensor = value.type.tensor_type
        tensor.shape.Clear()
        tensor.shape.dim.add().dim_param = "batch"
        for size in shape[1:]:
            tensor.shape.dim.add().dim_value = size
    onnx.save(model, path)


def is_large(model: onnx.ModelProto, job: Mapping[str, Any]) -> bool:
    """Whether the weights belong into a separate file."""
    return bool(model.ByteSize() >= (job.get("external_bytes") or EXTERNAL_BYTES))


def save(model: onnx.ModelProto, path: Path, job: Mapping[str, Any]) -> None:
    """Write the file, with external data if it is large."""
    if not is_large(model, job):
        onnx.save(model, path)
    else:
        for tensor in model.graph.initializer:
            if not tensor.HasField("raw_data") and tensor.data_type != onnx.TensorProto.STRING:
                # onnx moves only raw bytes to the other file, and skl2onnx writes lists of numbers
                tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name))
        onnx.save(model, path, save_as_external_data=True, all_tensors_to_one_file=True, location="model.data")


def check_versions(model: onnx.ModelProto, most: Mapping[str, int]) -> str:
    """Return what a graph needs that the runtime lacks, or an empty text."""
    for row in model.opset_import:
        domain = "" if row.domain == "ai.onnx" else row.domain
        if domain in most and row.version > most[domain]:
            return f"the graph needs opset {row.version} of {domain or 'ai.onnx'}; the layer has {most[domain]}"
    return ""


def open_session(model: Path | bytes) -> Any:
    """Return an onnxruntime session with one thread and no log output."""
    disable_telemetry()
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(
        model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"]
    )

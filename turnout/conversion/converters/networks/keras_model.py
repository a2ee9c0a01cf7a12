"""Converts Keras files and TensorFlow's SavedModel folders with tf2onnx. A Keras model becomes a SavedModel first."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ..convert import Progress
from ..exchange import Arrays, as_objects
from ..start import RefusedJob
from .tensors import TensorInput, TensorModel, convert_tensors

PACKAGES = ("tensorflow-cpu", "tensorflow", "keras", "tf2onnx", "onnx")

MOST_OPSET = 18
"""The newest opset that tf2onnx 1.17 writes."""

SIGNATURE = "serving_default"

OWN_NAMES = ("keras_tensor", "input_layer", "input_")
"""Prefixes of the names that Keras gives inputs without a name."""


def main(job: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Convert one file or folder."""
    path = Path(job["path"])
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "KERAS_BACKEND": "tensorflow"}
    progress(f"loading {path.name}")
    with tempfile.TemporaryDirectory() as folder:
        model: TensorModel = SavedModel(path) if path.is_dir() else KerasModel(path, Path(folder, "exported"))
        return convert_tensors(model, job, PACKAGES, progress)


class SavedModel:
    """A SavedModel's signature."""

    def __init__(self, folder: Path) -> None:
        """Load it and read its inputs."""
        import tensorflow as tf

        self.folder = folder
        self.notes: list[str] = []
        try:
            self.loaded = tf.saved_model.load(str(folder))
        except Exception as error:
            raise RefusedJob(f"{folder.name} cannot be loaded as a SavedModel: {_first_line(error)}") from error
        names = [name for name in self.loaded.signatures if not name.startswith("_")]
        if SIGNATURE not in names and len(names) != 1:
            listed = ", ".join(names) or "none"
            raise RefusedJob(
                f"{folder.name} has no signature {SIGNATURE!r}",
                f"It has: {listed}. Export it with model.export(FOLDER).",
            )
        self.signature = SIGNATURE if SIGNATURE in names else names[0]
        self.function = self.loaded.signatures[self.signature]
        self.arguments = _flat_arguments(self.function)
        self.outputs = list(self.function.structured_outputs)
        self.inputs: Sequence[TensorInput] = [_input_of(name, spec) for name, spec in self.arguments.items()]

    def predict(self, feed: Arrays) -> dict[str, np.ndarray[Any, Any]]:
        """Return the signature's results."""
        import tensorflow as tf

        given = dict(zip(self.arguments, feed.values(), strict=True))
        answers = self.function(**{name: tf.constant(values) for name, values in given.items()})
        return {name: as_objects(answers[name].numpy()) for name in self.outputs}

    def convert(self, opset: int) -> onnx.ModelProto:
        """Return the graph of the signature."""
        from tf2onnx import convert, tf_loader

        loaded = tf_loader.from_saved_model(
            str(self.folder),
            None,
            None,
            "serve",
            [self.signature],
            return_initialized_tables=True,
            return_tensors_to_rename=True,
        )
        graph, inputs, outputs, tables, names = loaded
        handlers: dict[str, Any] = {"Erfc": (_erfc, [])}
        converted, _ = convert._convert_common(
            graph,
            opset=min(opset, MOST_OPSET),
            input_names=inputs,
            output_names=outputs,
            initialized_tables=tables,
            tensors_to_rename=names,
            custom_op_handlers=handlers,
        )
        model: onnx.ModelProto = converted
        if unknown := _unknown_operators(model):
            raise RefusedJob(
                f"this model cannot be converted: tf2onnx has no ONNX form of {', '.join(unknown)}",
                "Leave these layers out of the saved model and do them in a transform, "
                "or serve it as Python: see docs/runtimes.md.",
            )
        _order(model.graph.input, list(self.arguments))
        _order(model.graph.output, self.outputs)
        return model


class KerasModel:
    """A model of Keras, and its SavedModel."""

    def __init__(self, path: Path, exported: Path) -> None:
        """Open the file without running code in it, and export it."""
        import keras

        try:
            self.model = keras.saving.load_model(path, compile=False, safe_mode=True)
        except Exception as error:
            raise RefusedJob(
                f"{path.name} cannot be loaded: {_first_line(error)}",
                "Layers with your own code cannot be loaded from this file. "
                "Export a SavedModel where the code is: model.export(FOLDER).",
            ) from error
        try:
            self.model.export(str(exported), format="tf_saved_model", verbose=False)
        except Exception as error:
            raise RefusedJob(f"{path.name} cannot be exported: {_first_line(error)}") from error
        self.exported = SavedModel(exported)
        self.notes = self.exported.notes
        self.outputs = _natural(self.exported.outputs)
        self.names = [tensor.name for tensor in self.model.inputs]
        if sorted(self.names) != sorted(self.exported.arguments):
            raise RefusedJob(f"{path.name} has inputs that Turnout cannot match with its SavedModel")
        known = {row.name: row for row in self.exported.inputs}
        public = self._public_names()
        vocabulary = _embedded(self.model)
        self.inputs: Sequence[TensorInput] = [
            TensorInput(name, known[own].dtype, known[own].shape, vocabulary if known[own].dtype.kind in "iu" else 0)
            for own, name in zip(self.names, public, strict=True)
        ]

    def _public_names(self) -> list[str]:
        if len(self.names) == 1:
            (name,) = self.names
            return ["X" if name.startswith(OWN_NAMES) else name]
        return self.names

    def _output_names(self) -> list[str]:
        """Return the names of the layers of the outputs, if the user chose them."""
        if len(self.outputs) == 1:
            layer = self.model.layers[-1]
            own = list(getattr(self.model, "output_names", ())) or [layer.name]
            return ["output"] if _is_default(own[0], self.model.layers) else own
        own = list(getattr(self.model, "output_names", ()))
        return own if len(own) == len(self.outputs) == len(set(own)) else self.outputs

    def predict(self, feed: Arrays) -> dict[str, np.ndarray[Any, Any]]:
        """Return the model's results in inference mode."""
        values = list(feed.values())
        result = self.model(values[0] if len(values) == 1 else values, training=False)
        if isinstance(result, Mapping):
            return {name: np.asarray(result[name]) for name in self.outputs}
        listed = list(result) if isinstance(result, list | tuple) else [result]
        return {name: np.asarray(value) for name, value in zip(self._output_names(), listed, strict=True)}

    def convert(self, opset: int) -> onnx.ModelProto:
        """Return the graph of the SavedModel."""
        graph = self.exported.convert(opset)
        _order(graph.graph.input, self.names)
        _order(graph.graph.output, self.outputs)
        return graph


def _flat_arguments(function: Any) -> dict[str, Any]:
    """Return name -> TensorSpec; signatures accept only keyword arguments."""
    named: dict[str, Any] = dict(function.structured_input_signature[1])
    if not named:
        raise RefusedJob("its signature has no inputs")
    return named


def _input_of(name: str, spec: Any) -> TensorInput:
    if spec.shape.rank is None:
        raise RefusedJob(f"input {name!r} has no declared number of dimensions", "Export it with an input signature.")
    if not spec.shape.rank or spec.shape[0] is not None:
        shape = spec.shape.as_list()
        raise RefusedJob(
            f"input {name!r} has the shape {shape}, which has no free first dimension",
            "Export it with a batch of any size: the first dimension must be None.",
        )
    if spec.dtype.name in {"string", "resource", "variant"}:
        raise RefusedJob(
            f"input {name!r} has the type {spec.dtype.name}, which tf2onnx cannot convert",
            "Save the model without the layers that read texts, and do their work in a transform (docs/transforms.md).",
        )
    return TensorInput(name, np.dtype(spec.dtype.as_numpy_dtype), tuple(spec.shape.as_list()[1:]))


def _is_default(name: str, layers: Sequence[Any]) -> bool:
    """Whether Keras generated this name of a layer: `dense_2` for the second Dense."""
    kinds = {re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(layer).__name__).lower() for layer in layers}
    return re.sub(r"_\d+$", "", name) in kinds


def _embedded(model: Any) -> int:
    """Return the number of different integers in its smallest embedding; 0 without one."""
    sizes = [int(layer.input_dim) for layer in model._flatten_layers() if type(layer).__name__ == "Embedding"]
    return min(sizes, default=0)


def _natural(names: Sequence[str]) -> list[str]:
    """Return the names sorted, with `output_2` before `output_10`."""
    return sorted(names, key=lambda name: (len(name), name) if name.startswith("output_") else (0, name))


def _order(values: Any, names: Sequence[str]) -> None:
    """Put a graph's inputs or outputs into the order of these names."""
    known = {value.name.partition(":")[0]: value for value in values}
    kept = [known[name] for name in names]
    copies = [type(value)() for value in kept]
    for copy, value in zip(copies, kept, strict=True):
        copy.CopyFrom(value)
    del values[:]
    values.extend(copies)


def _unknown_operators(model: onnx.ModelProto) -> list[str]:
    version = max(row.version for row in model.opset_import if row.domain in {"", "ai.onnx"})
    return sorted(
        {
            node.op_type
            for node in model.graph.node
            if not onnx.defs.has(node.op_type, version, "") and node.domain in {"", "ai.onnx"}
        }
    )


def _erfc(context: Any, node: Any, name: str, _: Any) -> Any:
    """Return `1 - Erf(x)`, which Keras uses in its exact GELU and tf2onnx does not know."""
    erf = context.insert_new_node_on_input(node, "Erf", node.input[0])
    kind = np.float64 if context.get_dtype(node.output[0]) == onnx.TensorProto.DOUBLE else np.float32
    one = context.make_const(f"{name}_one", np.array(1, kind)).output[0]
    outputs = list(node.output)
    context.remove_node(node.name)
    return context.make_node("Sub", [one, erf.output[0]], outputs=outputs, name=node.name)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]

"""Converts Keras files and TensorFlow's SavedModel folders with tf2onnx. A Keras model becomes a SavedModel first."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
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

EXPORT_HINT = "Export a SavedModel where you trained it, and add that folder: model.export(FOLDER)."

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

    def __init__(self, folder: Path, shown: Mapping[str, str] | None = None) -> None:
        """Load it and read its inputs; `shown` has the names of inputs in errors, if they differ."""
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
        shown = shown or {}
        self.inputs: Sequence[TensorInput] = [
            _input_of(name, spec, shown.get(name, name)) for name, spec in self.arguments.items()
        ]

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
        if not getattr(self.model, "inputs", None):
            raise RefusedJob(
                f"{path.name} does not declare its inputs", "Begin the model with keras.layers.Input, or call it once."
            )
        self.names = [tensor.name for tensor in self.model.inputs]
        public = self._public_names()
        self.outputs = [f"{name}_output" if name in public else name for name in self._output_names()]
        # TensorFlow rejects names with spaces and other characters, so the SavedModel has names of its own
        safe = [f"input_{at}" for at in range(len(self.names))]
        try:
            _make_names_safe(self.model)
            self._export(exported, safe)
        except Exception as error:
            raise RefusedJob(f"{path.name} cannot be exported: {_first_line(error)}", EXPORT_HINT) from error
        self.safe = safe
        self.exported = SavedModel(exported, dict(zip(safe, public, strict=True)))
        self.notes = self.exported.notes
        known = {row.name: row for row in self.exported.inputs}
        vocabulary = _embedded(self.model)
        self.inputs: Sequence[TensorInput] = [
            TensorInput(name, known[own].dtype, known[own].shape, vocabulary if known[own].dtype.kind in "iu" else 0)
            for own, name in zip(safe, public, strict=True)
        ]

    def _export(self, folder: Path, names: Sequence[str]) -> None:
        """Write the SavedModel; a model without a batch of any size gets one, as in Keras's own export."""
        import keras
        import tensorflow as tf

        specs = [
            tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype, name=name)
            for name, tensor in zip(names, self.model.inputs, strict=True)
        ]
        archive = keras.export.ExportArchive()
        archive.track(self.model)
        archive.add_endpoint("serve", lambda *values: dict(_numbered(self._call(values))), specs)
        archive.write_out(str(folder), verbose=False)

    def _call(self, values: Sequence[Any]) -> list[Any]:
        """Return the model's results in inference mode, one after another."""
        import keras

        structure = getattr(self.model, "_inputs_struct", None)
        given = values[0] if structure is None else keras.tree.pack_sequence_as(structure, list(values))
        return list(keras.tree.flatten(self.model(given, training=False)))

    def _public_names(self) -> list[str]:
        if len(self.names) == 1:
            (name,) = self.names
            return ["X" if name.startswith(OWN_NAMES) else name]
        return self.names

    def _output_names(self) -> list[str]:
        """Return the keys of the outputs, or the names of their layers, if the user chose them."""
        structure = getattr(self.model, "_outputs_struct", None)
        if isinstance(structure, Mapping) and not any(isinstance(part, Mapping | list) for part in structure.values()):
            return sorted(structure)
        own = list(getattr(self.model, "output_names", ()))
        count = len(self.model.outputs)
        if count == 1:
            own = own or [self.model.layers[-1].name]
            return ["output"] if _is_default(own[0], self.model.layers) else own
        return own if len(own) == count == len(set(own)) else [f"output_{at}" for at in range(count)]

    def predict(self, feed: Arrays) -> dict[str, np.ndarray[Any, Any]]:
        """Return the model's results in inference mode."""
        results = self._call(list(feed.values()))
        return {name: np.asarray(value) for name, value in zip(self.outputs, results, strict=True)}

    def convert(self, opset: int) -> onnx.ModelProto:
        """Return the graph of the SavedModel."""
        graph = self.exported.convert(opset)
        _order(graph.graph.input, self.safe)
        _order(graph.graph.output, [f"output_{at}" for at in range(len(self.outputs))])
        return graph


def _numbered(results: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Yield the results with the names that they have in the SavedModel."""
    return ((f"output_{at}", value) for at, value in enumerate(results))


def _make_names_safe(model: Any) -> None:
    """Replace what TensorFlow rejects in the names of layers and of their weights, which are scopes of its graph."""
    for layer in model._flatten_layers():
        if (safe := _safe_scope(layer.name)) != layer.name:
            layer.name = safe
    for variable in model.variables:
        variable.value._handle_name = _safe_scope(variable.value._handle_name, "/:")


def _safe_scope(name: str, also: str = "") -> str:
    safe = re.sub(rf"[^A-Za-z0-9_.{also}-]", "_", name)
    return safe if safe[:1].isalnum() else f"layer{safe}"


def _flat_arguments(function: Any) -> dict[str, Any]:
    """Return name -> TensorSpec; signatures accept only keyword arguments."""
    named: dict[str, Any] = dict(function.structured_input_signature[1])
    if not named:
        raise RefusedJob("its signature has no inputs")
    return named


def _input_of(name: str, spec: Any, shown: str) -> TensorInput:
    if spec.shape.rank is None:
        raise RefusedJob(f"input {shown!r} has no declared number of dimensions", "Export it with an input signature.")
    if not spec.shape.rank or spec.shape[0] is not None:
        shape = spec.shape.as_list()
        raise RefusedJob(
            f"input {shown!r} has the shape {shape}, which has no free first dimension",
            "Export it with a batch of any size: the first dimension must be None.",
        )
    if spec.dtype.name in {"string", "resource", "variant"}:
        raise RefusedJob(
            f"input {shown!r} has the type {spec.dtype.name}, which tf2onnx cannot convert",
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

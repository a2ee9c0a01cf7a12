"""Reads a model's inputs and outputs from the ONNX graph without running it.

Source: onnx.proto (ValueInfoProto, TypeProto); onnx.ml, ZipMap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnout.artifacts.graph_operators import nodes_of
from turnout.artifacts.onnx_file import ArtifactError, text_of
from turnout.problems import TurnoutError
from turnout.protocol.tensors.datatypes import DATATYPES, Signature, TensorSpec

if TYPE_CHECKING:
    import onnx

OVERRIDABLE_FROM_IR = 4
"""Before this IR version, every initializer also had to be listed as an input, and none may be sent."""

_DATATYPE_OF_ONNX = {datatype.onnx: datatype.name for datatype in DATATYPES.values()}
_LONGEST_METADATA = 200
_CAST_HINT = "Put a Cast to a served datatype before it and export the model again."
_OPTIONAL_HINT = "Export the model with a plain tensor instead."
_SEQUENCE_HINT = "Export the model with one tensor instead, for example a ConcatFromSequence at its end."
_MAP_HINT = "For scikit-learn models convert with `zipmap` off: to_onnx(..., options={'zipmap': False})."


class _UnsupportedError(TurnoutError):
    """One input or output cannot be served; the message is its kind."""


def signature_of(model: onnx.ModelProto, name: str) -> Signature:
    """Return the signature of a model that was read; `name` is the file's name, for the error."""
    graph = model.graph
    initializers = {tensor.name for tensor in graph.initializer}
    initializers.update(sparse.values.name for sparse in graph.sparse_initializer)
    refusals: list[tuple[str, str]] = []

    def spec(kind: str, value: onnx.ValueInfoProto, *, required: bool = True) -> list[TensorSpec]:
        text_of(value.name)
        try:
            return [_spec(graph, value, required=required)]
        except _UnsupportedError as error:
            refusals.append((f"{kind} `{value.name}` is {error.message}", error.hint))
            return []

    inputs: list[TensorSpec] = []
    for value in graph.input:
        if value.name not in initializers:
            inputs += spec("input", value)
        elif model.ir_version >= OVERRIDABLE_FROM_IR:
            inputs += spec("input", value, required=False)
    outputs = [tensor for value in _typed_outputs(model) for tensor in spec("output", value)]
    if refusals:
        hints = dict.fromkeys(hint for _, hint in refusals)
        raise ArtifactError(f"{name}: {'; '.join(what for what, _ in refusals)}: not served", " ".join(hints))
    if not outputs:
        raise ArtifactError(f"{name} has no outputs")
    return Signature(tuple(inputs), tuple(outputs), _metadata(model))


def _spec(graph: onnx.GraphProto, value: onnx.ValueInfoProto, *, required: bool) -> TensorSpec:
    kind = value.type.WhichOneof("value")
    if kind == "tensor_type":
        return _tensor_spec(value.name, value.type.tensor_type, required=required)
    if kind == "sequence_type" and value.type.sequence_type.elem_type.WhichOneof("value") == "map_type":
        labels = _zipmap_labels(graph, value.name)
        if labels:
            return TensorSpec(value.name, "FP32", (-1, len(labels)), labels=labels)
        raise _UnsupportedError("a sequence of maps that no ZipMap makes", _MAP_HINT)
    raise _UnsupportedError(*_OTHER_KINDS[kind])


_OTHER_KINDS: dict[str | None, tuple[str, str]] = {
    "sequence_type": ("a sequence of tensors", _SEQUENCE_HINT),
    "map_type": ("a map", _MAP_HINT),
    "optional_type": ("an optional", _OPTIONAL_HINT),
    "sparse_tensor_type": ("a sparse tensor", _OPTIONAL_HINT),
    "opaque_type": ("of an opaque type", _OPTIONAL_HINT),
    None: ("declared without a type", "Run onnx.shape_inference.infer_shapes on the model and save it."),
}


def _tensor_spec(name: str, tensor: onnx.TypeProto.Tensor, *, required: bool) -> TensorSpec:
    from onnx import TensorProto

    datatype = _DATATYPE_OF_ONNX.get(tensor.elem_type)
    if datatype is None:
        if tensor.elem_type == TensorProto.UNDEFINED:
            raise _UnsupportedError(*_OTHER_KINDS[None])
        known = tensor.elem_type in TensorProto.DataType.values()
        spelled = TensorProto.DataType.Name(tensor.elem_type) if known else f"element type {tensor.elem_type}"
        raise _UnsupportedError(f"a tensor of {spelled}", _CAST_HINT)
    if not tensor.HasField("shape"):
        return TensorSpec(name, datatype, None, required=required)
    shape: list[int] = []
    names: list[str | None] = []
    for dimension in tensor.shape.dim:
        # Some exporters write -1 as a value; onnxruntime, too, reads it as a free dimension.
        fixed = dimension.HasField("dim_value") and dimension.dim_value >= 0
        shape.append(dimension.dim_value if fixed else -1)
        names.append(text_of(dimension.dim_param) or None)
    return TensorSpec(name, datatype, tuple(shape), tuple(names) if any(names) else (), required)


def _zipmap_labels(graph: onnx.GraphProto, output: str) -> tuple[str | int, ...]:
    """Return the class labels of the ZipMap that makes `output`, or nothing (no other operator can use its maps)."""
    makers = (node for node in graph.node if output in node.output and node.op_type == "ZipMap")
    for attribute in (attribute for node in makers for attribute in node.attribute):
        if attribute.name == "classlabels_int64s" and attribute.ints:
            return tuple(attribute.ints)
        if attribute.name == "classlabels_strings" and attribute.strings:
            return tuple(label.decode("utf-8", "replace") for label in attribute.strings)
    return ()


def _typed_outputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Yield the graph's outputs.

    An output declared without a type, as by old exporters, gets the type that onnx infers.
    """
    outputs = list(model.graph.output)
    if all(_has_type(value) for value in outputs):
        return outputs
    import onnx

    try:
        inferred = onnx.shape_inference.infer_shapes(model)
    except (onnx.shape_inference.InferenceError, ValueError):
        return outputs
    types = {value.name: value for value in inferred.graph.output}
    return [value if _has_type(value) else types.get(value.name, value) for value in outputs]


def _has_type(value: onnx.ValueInfoProto) -> bool:
    return value.type.WhichOneof("value") is not None and (
        value.type.WhichOneof("value") != "tensor_type" or bool(value.type.tensor_type.elem_type)
    )


def _metadata(model: onnx.ModelProto) -> dict[str, str]:
    """Return what the catalogue shows: `producer`, `ir_version`, `opsets` (`ai.onnx 17, ai.onnx.ml 3`), `description`.

    And `locales`, which the model needs at run time: onnxruntime cannot open it if the system lacks one.
    """
    opsets = sorted((text_of(opset.domain) or "ai.onnx", opset.version) for opset in model.opset_import)
    normalizers = [node for node in nodes_of(model) if _needs_locale(node)]
    facts = {
        "producer": f"{text_of(model.producer_name)} {text_of(model.producer_version)}".strip(),
        "ir_version": str(model.ir_version),
        "opsets": ", ".join(dict.fromkeys(f"{domain} {version}" for domain, version in opsets)),
        "locales": ", ".join(sorted({_locale(node) for node in normalizers} - {"C", "POSIX"})),
        "description": " ".join(text_of(model.doc_string or model.graph.doc_string).split()),
    }
    return {key: _shorten(text) for key, text in facts.items() if text}


def _needs_locale(node: onnx.NodeProto) -> bool:
    """Whether onnxruntime makes a locale for the node: it changes case, or ignores case in a list of stop words."""
    if node.op_type != "StringNormalizer":
        return False
    given = {attribute.name: attribute for attribute in node.attribute}
    changes = "case_change_action" in given and given["case_change_action"].s not in {b"", b"NONE"}
    ignores = "is_case_sensitive" not in given or not given["is_case_sensitive"].i
    return changes or (ignores and "stopwords" in given and bool(given["stopwords"].strings))


def _locale(normalizer: onnx.NodeProto) -> str:
    """Return the locale of a StringNormalizer.

    Onnxruntime uses en_US without a name, and that of LANG for an empty one.
    """
    named = [attribute.s.decode("utf-8", "replace") for attribute in normalizer.attribute if attribute.name == "locale"]
    return (named[0] or '"" (that of LANG)') if named else "en_US"


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST_METADATA else text[: _LONGEST_METADATA - 1] + "…"

"""Describes a version's request and response as JSON Schema, in the dialect that API Gateway imports.

API Gateway accepts draft 4 without `oneOf`, `anyOf`, `additionalProperties`, `example` and a number's `format`, so one
schema describes one form, the Open Inference Protocol's; text describes the short forms. Tensor names may contain any
character, so they are values of an `enum` and part of a description, but never keys. Source: API Gateway Developer
Guide, "Important notes for REST APIs"; Open Inference Protocol, "Inference".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from turnout.plan.checks.size_estimates import DESCRIBED_TENSORS
from turnout.protocol.tensors.datatypes import DATATYPES, Signature, TensorSpec

Schema = dict[str, Any]

JSON_TYPES = {"float": "number", "int": "integer", "bool": "boolean", "bytes": "string"}
"""JSON types of elements per kind of datatype; NaN and infinities are strings, which draft 4 cannot express."""


IMAGE_TEXT = "an image: a PNG, JPEG, WebP, GIF, BMP or TIFF file in base64"
"""Values of a tensor whose content is `image`."""

DESCRIBED_CHARACTERS = 40
"""Longest dimension name in a description. Names can be formulas: longer ones are shown as -1."""


def request_schema(description: str, signature: Signature) -> Schema:
    """Return the schema of a version's request, or of a model's, with the tensors of all its versions."""
    return {
        "type": "object",
        "description": description,
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string", "description": "Repeated in the response."},
            "parameters": {"type": "object"},
            "inputs": {"type": "array", "items": tensor_schema(signature.inputs, fixed_rank=True)},
            "outputs": {
                "type": "array",
                "description": "The outputs to return. Default: all.",
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {"name": _name_schema(signature.outputs), "parameters": {"type": "object"}},
                },
            },
        },
    }


def response_schema(description: str, model: str, versions: Sequence[str], signature: Signature) -> Schema:
    """Return the schema of a response. Output shapes are described, not fixed: declarations may be wrong."""
    return {
        "type": "object",
        "description": description,
        "required": ["model_name", "model_version", "outputs"],
        "properties": {
            "model_name": {"type": "string", "enum": [model]},
            "model_version": {"type": "string", "enum": list(versions)},
            "id": {"type": "string"},
            "outputs": {"type": "array", "items": tensor_schema(signature.outputs, fixed_rank=False)},
        },
    }


def tensor_schema(tensors: Sequence[TensorSpec], *, fixed_rank: bool) -> Schema:
    """Return one schema for several tensors, which requires what they have in common."""
    datatypes = list(dict.fromkeys(tensor.datatype for tensor in tensors))
    shape: Schema = {"type": "array", "items": {"type": "integer"}}
    ranks = {None if tensor.shape is None else len(tensor.shape) for tensor in tensors}
    if fixed_rank and len(ranks) == 1 and None not in ranks:
        rank = ranks.pop()
        shape |= {"minItems": rank, "maxItems": rank}
    return {
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "properties": {
            "name": _name_schema(tensors),
            "shape": shape,
            "datatype": {"type": "string", **({"enum": datatypes} if datatypes else {})},
            "parameters": {"type": "object"},
            "data": {"type": "array", "items": element_schema(datatypes)},
        },
    }


def element_schema(datatypes: Iterable[str]) -> Schema:
    """Return the schema of an element, if the datatypes share one."""
    types = {JSON_TYPES[DATATYPES[datatype].kind] for datatype in datatypes}
    if types == {"number", "integer"}:
        types = {"number"}
    return {"type": types.pop()} if len(types) == 1 else {}


def describe_tensors(tensors: Sequence[TensorSpec]) -> str:
    """Return `x` FP32 [batch, 4]; `y` INT64 [-1], optional: required tensors come first."""
    if not tensors:
        return "unknown"
    described = sorted(tensors, key=lambda tensor: not tensor.required)[:DESCRIBED_TENSORS]
    rest = len(tensors) - len(described)
    return "; ".join(map(describe_tensor, described)) + (f"; and {rest} more" if rest else "")


def describe_tensor(tensor: TensorSpec) -> str:
    """Return `x` FP32 [batch, 4]: dimensions have the graph's names if these are short, else -1."""
    text = f"`{tensor.name}` {tensor.datatype} {_shape_text(tensor)}"
    if not tensor.required:
        text += ", optional"
    if tensor.content:
        text += f", each value {IMAGE_TEXT}"
    if tensor.labels:
        labels = ", ".join(map(str, tensor.labels[:DESCRIBED_TENSORS]))
        text += f", a column per label: {labels}" + (", ..." if len(tensor.labels) > DESCRIBED_TENSORS else "")
    return text


def join_signatures(signatures: Sequence[Signature]) -> Signature:
    """Return the tensors of several versions, each (name, datatype, shape) once, in the order of the versions."""
    return Signature(
        tuple(dict.fromkeys(tensor for signature in signatures for tensor in signature.inputs)),
        tuple(dict.fromkeys(tensor for signature in signatures for tensor in signature.outputs)),
    )


def _shape_text(tensor: TensorSpec) -> str:
    if tensor.shape is None:
        return "of any shape"
    names = tensor.dimension_names or (None,) * len(tensor.shape)
    return f"[{', '.join(map(_dimension_text, tensor.shape, names))}]"


def _dimension_text(size: int, name: str | None) -> str:
    return name if size < 0 and name and len(name) <= DESCRIBED_CHARACTERS else str(size)


def _name_schema(tensors: Sequence[TensorSpec]) -> Schema:
    names = list(dict.fromkeys(tensor.name for tensor in tensors))
    return {"type": "string", **({"enum": names} if names else {})}

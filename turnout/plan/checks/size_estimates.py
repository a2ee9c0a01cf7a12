"""Estimates the size of an API's document and of a version's smallest request, without building either.

The constants were measured with the current document; a test keeps the estimate within 25% of its real size. API
Gateway passes a body to the function in base64, inside the event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from turnout.artifacts.example_request import EXAMPLE_BYTES, count_elements
from turnout.plan.values import Route, ServedGraph, ServedVersion
from turnout.protocol.tensors.datatypes import DATATYPES, Signature, TensorSpec

ROOT_BYTES = 24_000
"""Bytes of every document besides its models; the general router's operations are included."""

OPERATION_BYTES = 3_500
"""The operation of a route for the protocol, beside the model's or version's usual one."""

MODEL_BYTES = 5_200
"""A model's operation in a stage, and its two schemas."""

VERSION_BYTES = 4_700
"""A version's direct operation, and its two schemas."""

NAME_BYTES = 16
"""The approximate number of occurrences of a model's or version's name."""

EMPTY_SCHEMA_BYTES = 800
"""A schema without its tensors."""

TENSOR_BYTES = 25
"""A tensor's description in a schema, without its name."""

DESCRIBED_TENSORS = 30
"""Old exporters list hundreds of weights as inputs: only the first ones are described, but all are in the `enum`."""

EVENT_BYTES = 4096
"""Approximate size of an event without its body."""

REQUEST_TENSOR_BYTES = 80
"""Approximate size of a tensor's name, datatype and shape."""

JSON_BYTES = {
    "BOOL": 6,
    "UINT8": 4,
    "UINT16": 6,
    "UINT32": 11,
    "UINT64": 21,
    "INT8": 5,
    "INT16": 7,
    "INT32": 12,
    "INT64": 21,
    "FP16": 8,
    "BF16": 8,
    "FP32": 12,
    "FP64": 20,
    "BYTES": 3,
}
"""Approximate size of an element in JSON at full precision, with its comma; for BYTES, of the empty string."""


def estimate_document(
    versions: Sequence[ServedVersion], routes: Sequence[Route] = (), graphs: Sequence[ServedGraph] = ()
) -> int:
    """Return the bytes of a document that serves these versions and graphs by these routes."""
    names: dict[str, set[str]] = {}
    size = ROOT_BYTES + sum(OPERATION_BYTES for route in routes if route.model and route.kind == "open_inference")
    for version in versions:
        signature, model = version.signature, version.version.model
        size += VERSION_BYTES + NAME_BYTES * len(model + version.version.name)
        size += estimate_schemas(version) + 2 * _estimate_example(signature.inputs)
        names.setdefault(model, set()).update(tensor.name for tensor in (*signature.inputs, *signature.outputs))
    for model, tensors in names.items():
        size += MODEL_BYTES + NAME_BYTES * len(model) + sum(3 + len(name.encode()) for name in tensors)
    return size + sum(MODEL_BYTES + NAME_BYTES * len(graph.model) + estimate_schemas(graph) for graph in graphs)


def estimate_schemas(version: ServedVersion | ServedGraph) -> int:
    """Return the bytes of a version's tensors in its schemas.

    They are names in an `enum`, and descriptions of the first ones.
    """
    inputs, outputs = version.signature.inputs, version.signature.outputs
    named = sum(3 + len(tensor.name.encode()) for tensor in (*inputs, *outputs, *outputs))
    described = (*inputs[:DESCRIBED_TENSORS], *outputs[:DESCRIBED_TENSORS])
    return named + sum(TENSOR_BYTES + len(tensor.name.encode()) for tensor in described)


def _estimate_example(inputs: Sequence[TensorSpec]) -> int:
    """Return the size of an example, or 0 if it is too large to be part of its operations."""
    size = sum(50 + len(tensor.name) + 4 * count_elements(tensor) for tensor in inputs if tensor.required)
    return size if size <= EXAMPLE_BYTES else 0


@dataclass(frozen=True, slots=True)
class PayloadSizes:
    """The size of one request in bytes, in base64 and with the rest of its event."""

    json_bytes: int
    binary_bytes: int


def estimate_payload(signature: Signature) -> PayloadSizes:
    """Return the size of the smallest request: required inputs only, every free dimension 1."""
    json_bytes = binary_bytes = 0
    for tensor in signature.inputs:
        if tensor.required:
            elements = count_elements(tensor)
            json_bytes += REQUEST_TENSOR_BYTES + len(tensor.name) + elements * JSON_BYTES[tensor.datatype]
            # For BYTES only the length of four bytes: the smallest string is empty.
            binary_bytes += REQUEST_TENSOR_BYTES + len(tensor.name) + elements * (DATATYPES[tensor.datatype].size or 4)
    return PayloadSizes(_in_event(json_bytes), _in_event(binary_bytes))


def _in_event(body_bytes: int) -> int:
    return EVENT_BYTES + 4 * -(-body_bytes // 3)

"""About how large the document of an API gets, without building it.

The numbers were measured on the document of today; a test holds the estimate within a quarter of the truth.
"""

from __future__ import annotations

from collections.abc import Sequence

from turnout.artifacts.example_request import EXAMPLE_BYTES, count_elements
from turnout.plan.values import Route, ServedGraph, ServedVersion
from turnout.protocol.tensors.datatypes import TensorSpec

ROOT_BYTES = 16_000
"""What every document holds beside its models, the general router's operations among it."""

OPERATION_BYTES = 3_500
"""The operation of a route that the protocol has for a model or version, beside the usual one."""

MODEL_BYTES = 5_200
"""The operation that a stage turns, and its two schemas."""

VERSION_BYTES = 4_700
"""The direct operation, and its two schemas."""

NAME_BYTES = 16
"""How often a model's or a version's name is spelled, about."""

EMPTY_SCHEMA_BYTES = 800
"""A schema beside its tensors."""

TENSOR_BYTES = 25
"""What is told of a tensor beside its name."""


DESCRIBED_TENSORS = 30
"""Old exporters list hundreds of weights as inputs: the first ones are described, all are in the `enum`."""


def estimate_document(
    versions: Sequence[ServedVersion], routes: Sequence[Route] = (), graphs: Sequence[ServedGraph] = ()
) -> int:
    """Bytes of a document that serves these versions and graphs by these routes."""
    names: dict[str, set[str]] = {}
    size = ROOT_BYTES + sum(OPERATION_BYTES for route in routes if route.model and route.kind == "open_inference")
    for row in versions:
        signature, model = row.signature, row.version.model
        size += VERSION_BYTES + NAME_BYTES * len(model + row.version.name)
        size += estimate_schemas(row) + 2 * _estimate_example(signature.inputs)
        names.setdefault(model, set()).update(tensor.name for tensor in (*signature.inputs, *signature.outputs))
    for model, tensors in names.items():
        size += MODEL_BYTES + NAME_BYTES * len(model) + sum(3 + len(name.encode()) for name in tensors)
    return size + sum(MODEL_BYTES + NAME_BYTES * len(graph.model) + estimate_schemas(graph) for graph in graphs)


def estimate_schemas(row: ServedVersion | ServedGraph) -> int:
    """Bytes that a version's tensors take in its schemas: names in an `enum`, and the first ones in words."""
    inputs, outputs = row.signature.inputs, row.signature.outputs
    named = sum(3 + len(tensor.name.encode()) for tensor in (*inputs, *outputs, *outputs))
    told = (*inputs[:DESCRIBED_TENSORS], *outputs[:DESCRIBED_TENSORS])
    return named + sum(TENSOR_BYTES + len(tensor.name.encode()) for tensor in told)


def _estimate_example(inputs: Sequence[TensorSpec]) -> int:
    """An example stands at its version's operation and at its model's, where it is small enough."""
    size = sum(50 + len(tensor.name) + 4 * count_elements(tensor) for tensor in inputs if tensor.required)
    return size if size <= EXAMPLE_BYTES else 0

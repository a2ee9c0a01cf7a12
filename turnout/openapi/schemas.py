"""Builds `components.schemas`: two per version, two per model for its stage's route, and the errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from turnout.openapi.tensor_schemas import Schema, describe_tensors, join_signatures, request_schema, response_schema
from turnout.plan.values import ServedGraph, ServedVersion
from turnout.protocol.errors import STATUS_OF
from turnout.protocol.naming import GRAPH, schema_name

ERROR = "Error"
"""The schema of a function's errors."""

MESSAGE = "Message"
"""The schema of API Gateway's own errors."""


def served_name(model: str, kind: str) -> str:
    """Return the schema's name for the version that a stage serves: `IrisServedRequest`.

    No version's name has that `S`.
    """
    return "".join(word.capitalize() for word in model.split("-")) + f"Served{kind}"


def build_schemas(
    versions: Mapping[str, Sequence[ServedVersion]], graphs: Sequence[ServedGraph] = ()
) -> Iterator[tuple[str, Schema]]:
    """Return the schemas of every model, version and graph, and of the errors."""
    for model, planned in versions.items():
        yield from _of_model(model, planned)
        for served in planned:
            yield from _of_version(served)
    for graph in graphs:
        yield from _of_graph(graph)
    yield ERROR, error_schema()
    yield MESSAGE, message_schema()


def _of_version(served: ServedVersion) -> Iterator[tuple[str, Schema]]:
    model, version = served.version.model, served.version.name
    inputs = f"Inputs of {model} {version}: {describe_tensors(served.signature.inputs)}."
    outputs = f"Outputs of {model} {version}: {describe_tensors(served.signature.outputs)}."
    if served.version.transform and not (served.version.inputs or served.version.outputs):
        outputs += " The version's transform may read other inputs and return other outputs."
    yield schema_name(model, version, "Request"), request_schema(inputs, served.signature)
    yield schema_name(model, version, "Response"), response_schema(outputs, model, [version], served.signature)


def _of_model(model: str, planned: Sequence[ServedVersion]) -> Iterator[tuple[str, Schema]]:
    joined = join_signatures([version.signature for version in planned])
    names = [version.version.name for version in planned]
    subject = f"{model} {', '.join(names)}: the stage's choice; each version's own schema describes its tensors."
    yield served_name(model, "Request"), request_schema(f"Inputs of {subject}", joined)
    yield served_name(model, "Response"), response_schema(f"Outputs of {subject}", model, names, joined)


def _of_graph(served: ServedGraph) -> Iterator[tuple[str, Schema]]:
    model, signature = served.model, served.signature
    inputs = f"Inputs of {model}, a graph of other models: {describe_tensors(signature.inputs)}."
    outputs = f"Outputs of {model}: {describe_tensors(signature.outputs)}."
    yield served_name(model, "Request"), request_schema(inputs, signature)
    yield served_name(model, "Response"), response_schema(outputs, model, [GRAPH], signature)


def error_schema() -> Schema:
    """Return the schema of `{"error": sentence, "code": CODE, "details": {...}}`."""
    return {
        "type": "object",
        "description": "Error response of the function.",
        "required": ["error", "code"],
        "properties": {
            "error": {"type": "string", "description": "Names the tensor, the expected and the actual value."},
            "code": {"type": "string", "enum": list(STATUS_OF)},
            "details": {"type": "object"},
        },
    }


def message_schema() -> Schema:
    """Return the schema of `{"message": "Forbidden"}`."""
    return {
        "type": "object",
        "description": "Error response of API Gateway itself.",
        "properties": {"message": {"type": "string"}},
    }

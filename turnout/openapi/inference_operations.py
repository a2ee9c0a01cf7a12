"""Builds the operation of an inference: the request, the responses, and the function that answers.

Each operation has its own parameters and responses, since API Gateway supports neither a path's parameters (moto fails
on them) nor references to shared responses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from turnout.artifacts.example_request import EXAMPLE_BYTES, count_elements, make_request
from turnout.openapi.schemas import ERROR, MESSAGE, served_name
from turnout.plan.values import Route, ServedVersion
from turnout.protocol.errors import STATUS_OF
from turnout.protocol.naming import CANARY_HEADER, DIGEST_HEADER, MODEL_HEADER, VERSION_HEADER, schema_name

HEADER_LENGTH = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "required": False,
    "description": "For an application/octet-stream body: length of the JSON before the tensors, in bytes.",
    "schema": {"type": "integer"},
}

ANSWER_HEADERS = {
    name: {"description": description, "schema": {"type": "string"}}
    for name, description in (
        (MODEL_HEADER, "The model that answered."),
        (VERSION_HEADER, "The version that answered."),
        (DIGEST_HEADER, "First 12 hex digits of its artifact's SHA-256."),
        (CANARY_HEADER, "`true` from the canary's share of the stage, else `false`."),
    )
}

BINARY = {"schema": {"type": "string", "format": "binary"}}
"""A binary body. API Gateway does not validate it: the document has no request validator."""

BODY = """Open Inference Protocol JSON according to the schema, `data` flat or nested; or a short form: \
`{"inputs": {"NAME": nested list}}`, or `{"instances": [...]}` with one row (or one object of rows by input name) per \
instance. As application/octet-stream: that JSON, each input with `parameters.binary_data_size` instead of `data`, \
then the tensors' bytes, little-endian."""

VERBS = {"inference": "infer", "open_inference": "openInfer"}
"""Start of an operation's id, by the kind of its route. A version's two routes give the same answers."""

FORMS = "The response has the request's format; with `parameters.binary_data_output`, it is application/octet-stream."


def describe_codes(status: int) -> str:
    """Return a description of the possible codes of errors with this status."""
    return ", ".join(f"`{code}`" for code, of in STATUS_OF.items() if of == status)


def describe_error(description: str, schema: str) -> dict[str, Any]:
    """Return a response object; `schema` is the name of a component."""
    return {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }


ERRORS = {
    "400": describe_error(f"Invalid request: {describe_codes(400)}.", ERROR),
    "403": describe_error("Unknown route, or access denied.", MESSAGE),
    "413": describe_error(
        f"Request or response too large: {describe_codes(413)}, or API Gateway's own error above 10 MB.", ERROR
    ),
    "415": describe_error(f"Unsupported content type: {describe_codes(415)}.", ERROR),
    "422": describe_error(f"The values match the signature, but the model rejects them: {describe_codes(422)}.", ERROR),
    "429": describe_error("The throttle of the stage or of the API key.", MESSAGE),
    "500": describe_error(f"Server error: {describe_codes(500)}.", ERROR),
    "502": describe_error("The function failed or returned a malformed response.", MESSAGE),
    "504": describe_error("No response within 29 s.", MESSAGE),
}
"""The error responses of every inference, one shared object."""

GRAPH_ERRORS = {
    **ERRORS,
    "429": describe_error(
        f"The throttle of the stage, of the API key, or of a called model: {describe_codes(429)}.", ERROR
    ),
    "502": describe_error(f"A called model failed: {describe_codes(502)}.", ERROR),
    "504": describe_error(f"No response within 29 s, or a called model timed out: {describe_codes(504)}.", ERROR),
    "508": describe_error(f"The graph calls itself: {describe_codes(508)}.", ERROR),
}
"""The error responses of a graph."""


@dataclass(frozen=True, slots=True)
class ShownExample:
    """A version's example; None if it is too large to be shown or its signature is unknown."""

    example: Mapping[str, Any] | None

    @classmethod
    def of(cls, served: ServedVersion, given: Mapping[str, Any] | None) -> ShownExample:
        """Return the given example, or one made from the signature."""
        if given is None:
            tensors = [tensor for tensor in served.signature.inputs if tensor.required]
            # An element takes at least two bytes: a large tensor is not even built.
            if not served.signature.outputs or 2 * sum(map(count_elements, tensors)) > EXAMPLE_BYTES:
                return cls(None)
            given = make_request(served.signature)
        return cls(given if len(orjson.dumps(given)) <= EXAMPLE_BYTES else None)


def operation_id(model: str, version: str, verb: str = "infer") -> str:
    """Return `inferIrisVv1`, or `inferIrisServed` for a stage's route; it is unique, like the schemas' names."""
    return verb + (schema_name(model, version, "") if version else served_name(model, ""))


def build_operation(
    route: Route,
    requests: Mapping[str, ShownExample],
    *,
    description: str,
    security: list[dict[str, list[str]]],
    uri: str,
    credentials: str,
) -> dict[str, Any]:
    """Return the operation object of one route.

    Args:
        route: the planned route.
        requests: version -> its example, for each version that may answer; empty for a graph.
        description: description of the model and the version.
        security: the API's authentication.
        uri: URI of the integration.
        credentials: the role for the integration, or empty.
    """
    version = route.version or "the version that the stage serves"
    name = schema_name(route.model, route.version, "{}") if route.version else served_name(route.model, "{}")
    return {
        "operationId": operation_id(route.model, route.version, VERBS[route.kind]),
        "tags": [route.model],
        "summary": f"Inference with {route.model}, {version}",
        **({"description": description} if description else {}),
        "security": security,
        "parameters": [HEADER_LENGTH],
        "requestBody": {
            "required": True,
            "description": BODY,
            "content": {
                "application/json": {
                    "schema": {"$ref": f"#/components/schemas/{name.format('Request')}"},
                    **_examples(route, requests),
                },
                "application/octet-stream": BINARY,
            },
        },
        "responses": {
            "200": {
                "description": FORMS,
                "headers": ANSWER_HEADERS,
                "content": {
                    "application/json": {"schema": {"$ref": f"#/components/schemas/{name.format('Response')}"}},
                    "application/octet-stream": BINARY,
                },
            },
            **(ERRORS if requests else GRAPH_ERRORS),
        },
        "x-amazon-apigateway-integration": spell_integration(route, uri, credentials),
    }


def spell_integration(route: Route, uri: str, credentials: str) -> dict[str, Any]:
    """Return the integration that calls the route's function; `credentials` is its role, or empty."""
    return {
        "type": "aws_proxy",
        "httpMethod": "POST",
        "uri": uri,
        **({"credentials": credentials} if credentials else {}),
        "passthroughBehavior": "when_no_match",
        "timeoutInMillis": route.timeout_ms,
    }


def _examples(route: Route, requests: Mapping[str, ShownExample]) -> dict[str, Any]:
    """Return a version's example.

    For a model's route, return each version's example by the version's name, without duplicates.
    """
    if route.kind != "inference":
        return {}
    known = {version: request.example for version, request in requests.items() if request.example is not None}
    if route.version:
        return {"example": known[route.version]} if known else {}
    return {"examples": {version: {"value": value} for version, value in known.items()}} if known else {}

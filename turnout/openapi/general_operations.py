"""Builds the operations of the general router: the catalogue, health, the document, the Open Inference Protocol."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from turnout.openapi.inference_operations import ERRORS, describe_codes, describe_error, spell_integration
from turnout.openapi.schemas import ERROR
from turnout.openapi.tensor_schemas import Schema
from turnout.plan.values import Route
from turnout.protocol.requests.preferences import IDENTIFIER_RULE

ANY_METHOD = "x-amazon-apigateway-any-method"
"""API Gateway's key for a route that accepts every method."""


@dataclass(frozen=True, slots=True)
class Purpose:
    """The purpose of a path.

    Args:
        id: the operation's identifier.
        tag: the tag that groups it in documents.
        summary: one line.
        answer: the content of an answer of 200.
        schema: the schema of that answer, a key of `GENERAL_SCHEMAS`; empty for any object.
        errors: its statuses other than 200.
    """

    id: str
    tag: str
    summary: str
    answer: str
    schema: str = ""
    errors: tuple[str, ...] = ("403", "429")


PURPOSES: Mapping[str, Purpose] = {
    "/models": Purpose(
        "listModels", "Catalogue", "All models, and the versions that this stage serves", "The models.", "Catalogue"
    ),
    "/models/{model}": Purpose(
        "getModel",
        "Catalogue",
        "One model: the versions that this stage serves, and all versions with their tensors",
        "The model.",
        "Model",
        ("403", "404", "429"),
    ),
    "/models/{model}/{version}": Purpose(
        "getVersion",
        "Catalogue",
        "One version: tensors, digest, size, and examples with expected outputs",
        "The version.",
        "Version",
        ("403", "404", "405", "429"),
    ),
    "/models/{model}/inference": Purpose(
        "infer",
        "Inference",
        "Inference with the version of a model that the stage serves",
        "The response of the version.",
        "",
        tuple(ERRORS),
    ),
    "/models/{model}/{version}/inference": Purpose(
        "inferVersion",
        "Inference",
        "Inference with a version of a model",
        "The response of the version.",
        "",
        tuple(ERRORS),
    ),
    "/health/live": Purpose(
        "getLive", "Health", "Liveness: whether the server receives requests", "`live` is true.", "Live", ()
    ),
    "/health/ready": Purpose(
        "getReady",
        "Health",
        "Whether every version that this stage serves answers. Calls each of them, which starts idle functions",
        "`ready` is true.",
        "Ready",
        ("503",),
    ),
    "/openapi.json": Purpose(
        "getDocument", "Catalogue", "This document, with the stage's address", "OpenAPI 3.0.", "", ("403", "413", "429")
    ),
    "/v2": Purpose(
        "openInferenceServer",
        "Open Inference Protocol",
        "The Open Inference Protocol: the server's metadata",
        "Its metadata.",
    ),
    "/v2/health/{check}": Purpose(
        "openInferenceHealth",
        "Open Inference Protocol",
        "The Open Inference Protocol: `health/live` and `health/ready`",
        "`live` or `ready` is true.",
        "",
        ("404", "503"),
    ),
    "/v2/{proxy+}": Purpose(
        "openInference",
        "Open Inference Protocol",
        "The Open Inference Protocol: below `models/{model}`, with or without `/versions/{version}`, the metadata, "
        "`ready` and `infer`",
        "The protocol's response, with the binary tensor extension if requested.",
        "",
        tuple(sorted({*ERRORS, "404", "405", "503"})),
    ),
}
"""The purpose of each path."""

PARAMETERS = {
    "model": "A model's name.",
    "version": "One of its versions.",
    "check": "`live` or `ready`.",
    "proxy": "The rest of the path, as the protocol spells it.",
    "id": f"The request's identifier: {IDENTIFIER_RULE}.",
}

_PARAMETER = re.compile(r"\{(\w+)\+?\}")

OWN_ERRORS = {
    "404": describe_error(f"Not found: {describe_codes(404)}.", ERROR),
    "405": describe_error(f"Method not allowed; `Allow` names the allowed ones: {describe_codes(405)}.", ERROR),
    "503": describe_error(
        "Some versions do not answer, and `details.not_ready` lists them, or the table with the served versions cannot "
        f"be read: {describe_codes(503)}.",
        ERROR,
    ),
}
"""Errors of the general router besides those of an inference."""


def build_general_operation(
    route: Route, *, security: list[dict[str, list[str]]], uri: str, credentials: str
) -> dict[str, Any]:
    """Return the operation object of one route; health requires no key and no signature."""
    purpose = PURPOSES[route.path]
    schema = {"schema": {"$ref": f"#/components/schemas/{purpose.schema}"}} if purpose.schema else {}
    errors = ERRORS | OWN_ERRORS
    return {
        "operationId": purpose.id,
        "tags": [purpose.tag],
        "summary": purpose.summary,
        "security": [] if route.kind == "health" else security,
        "parameters": path_parameters(route.path),
        "responses": {
            "200": {"description": purpose.answer, "content": {"application/json": schema}},
            **{status: errors[status] for status in purpose.errors},
        },
        "x-amazon-apigateway-integration": spell_integration(route, uri, credentials),
    }


def path_parameters(path: str) -> list[dict[str, Any]]:
    """Return the parameter names in a path's braces."""
    return [
        {"name": name, "in": "path", "required": True, "description": PARAMETERS[name], "schema": {"type": "string"}}
        for name in _PARAMETER.findall(path)
    ]


def _object(description: str, required: str, properties: Mapping[str, Schema]) -> Schema:
    return {
        "type": "object",
        "description": description,
        "required": required.split(),
        "properties": dict(properties),
    }


def _list_of(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


_TEXT: Schema = {"type": "string"}
_TENSOR = _object(
    "An input or an output.",
    "name datatype",
    {
        "name": _TEXT,
        "datatype": _TEXT,
        "shape": {
            "type": "array",
            "items": {"type": "integer"},
            "description": "-1 for a free dimension; null for any rank.",
        },
    },
)
_SHARE = _object(
    "A version that answers the model's calls.", "version percent", {"version": _TEXT, "percent": {"type": "number"}}
)
_PLACE: Mapping[str, Schema] = {
    "stage": {"type": "string", "description": "The stage."},
    "canary": {"type": "boolean", "description": "Whether the stage's canary answered."},
}
_MODEL: Mapping[str, Schema] = {
    "name": _TEXT,
    "description": _TEXT,
    "endpoint": {"type": "string", "description": "Path of inference with the version that the stage serves."},
    "serves": _list_of(_SHARE),
    "graph": {"type": "boolean", "description": "Whether it is a graph of other models, without versions."},
}
_SOURCE = _object(
    "Where the version came from: what `turnout add` fetched or converted.",
    "address",
    {
        "address": {"type": "string", "description": "A file or an address, without secrets."},
        "revision": {"type": "string", "description": "What the address referred to: a version or a commit."},
        "sha256": {"type": "string", "description": "Of the original."},
        "converter": {"type": "string", "description": "The converter that made the ONNX file."},
        "packages": {
            "type": "object",
            "description": "The packages that converted it: name to version.",
        },
        "date": {"type": "string", "description": "In UTC."},
        "report": {"type": "string", "description": "Path of the conversion report in the project."},
    },
)
_VERSION: Mapping[str, Schema] = {
    "name": _TEXT,
    "description": _TEXT,
    "endpoint": {"type": "string", "description": "Path of inference with this version."},
    "percent": {"type": "number", "description": "Its share of the model's calls."},
    "sha256": {"type": "string", "description": "Of its artifact."},
    "size_bytes": {"type": "integer"},
    "source": _SOURCE,
    "inputs": _list_of(_TENSOR),
    "outputs": _list_of(_TENSOR),
    "metadata": {"type": "object", "description": "Metadata of the ONNX file."},
}

GENERAL_SCHEMAS: Mapping[str, Schema] = {
    "Catalogue": _object(
        "All models.",
        "models",
        {
            "platform": _TEXT,
            **_PLACE,
            "models": _list_of(_object("A model.", "name endpoint", {**_MODEL, "versions": _list_of(_TEXT)})),
        },
    ),
    "Model": _object(
        "A model.",
        "name endpoint",
        {
            **_PLACE,
            **_MODEL,
            "routing": {"type": "object", "description": "Sticky, shadow and fallback, as models.yaml has them."},
            "versions": _list_of(_object("A version.", "name endpoint", _VERSION)),
            "calls": _list_of(_object("A call of a graph.", "model", {"model": _TEXT, "version": _TEXT})),
        },
    ),
    "Version": _object(
        "A version of a model.",
        "model name endpoint",
        {**_PLACE, "model": _TEXT, **_VERSION, "examples": _list_of({"type": "object"})},
    ),
    "Live": _object("The liveness response.", "live", {"live": {"type": "boolean"}}),
    "Ready": _object("All answer.", "ready", {"ready": {"type": "boolean"}}),
}
"""The response schemas of the general router."""

"""The document for those who call the API: without what concerns API Gateway and its account.

Comes in: a document as `build_document` makes it. Goes out: one that any tool reads. Called by the catalogue, which
answers it at `/openapi.json`.

API Gateway has one route for all paths of the Open Inference Protocol; here each of them is told by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from turnout.openapi_general import ANY_METHOD, path_parameters
from turnout.openapi_operations import BODY, HEADER_LENGTH

EXTENSION = "x-amazon-apigateway-"
KEPT = frozenset({f"{EXTENSION}authtype"})
"""Tells a client how to sign."""

PROTOCOL_ROOT = "/v2"
PROTOCOL_REST = "/v2/{proxy+}"

MODEL, VERSION = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"

PROTOCOL_PATHS = (
    ("get", PROTOCOL_ROOT, "openServer", "The server's name, version and extensions"),
    ("get", "/v2/health/live", "openLive", "Whether requests arrive"),
    ("get", "/v2/health/ready", "openReady", "Whether every version that this stage serves answers"),
    ("get", MODEL, "openModel", "Metadata of the version that the stage serves"),
    ("get", f"{MODEL}/ready", "openModelReady", "Whether the version that the stage serves answers"),
    ("post", f"{MODEL}/infer", "openInfer", "Inference with the version that the stage serves"),
    ("get", VERSION, "openVersion", "Metadata of a version"),
    ("get", f"{VERSION}/ready", "openVersionReady", "Whether a version answers"),
    ("post", f"{VERSION}/infer", "openInferVersion", "Inference with a version"),
)
"""Method, path, id and summary of what the general router answers below `/v2`."""

CONTENT: Mapping[str, Any] = {"application/json": {"schema": {"type": "object"}}, "application/octet-stream": {}}


def publish_document(document: Mapping[str, Any]) -> dict[str, Any]:
    """The same API as its callers see it; `servers` is left to whoever knows the address."""
    return {
        key: _publish_paths(value) if key == "paths" else _without_extensions(value)
        for key, value in document.items()
        if not key.startswith(EXTENSION)
    }


def _publish_paths(paths: Mapping[str, Any]) -> dict[str, Any]:
    published: dict[str, Any] = {}
    for path, item in paths.items():
        if path == PROTOCOL_REST:
            published |= _protocol_paths(_without_extensions(item[ANY_METHOD]))
        elif path != PROTOCOL_ROOT:
            published[path] = _without_extensions(item)
    return published


def _protocol_paths(operation: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """One path after the other; what all of them share is taken from the route that answers them."""
    for method, path, name, summary in PROTOCOL_PATHS:
        told: dict[str, Any] = {"operationId": name, "summary": summary, "parameters": path_parameters(path)}
        if method == "post":
            told["parameters"].append(HEADER_LENGTH)
            told["requestBody"] = {"required": True, "description": BODY, "content": CONTENT}
        yield path, {method: {**operation, **told}}


def _without_extensions(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            key: _without_extensions(inner)
            for key, inner in value.items()
            if key in KEPT or not key.startswith(EXTENSION)
        }
    return [_without_extensions(inner) for inner in value] if isinstance(value, list) else value

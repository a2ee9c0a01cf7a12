"""Makes the document for an API's callers, without the parts for API Gateway and its account.

API Gateway has one route for all paths of the Open Inference Protocol; here each path has its own operation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from turnout.openapi.cors import PREFLIGHT
from turnout.openapi.general_operations import ANY_METHOD, path_parameters
from turnout.openapi.inference_operations import BINARY, BODY, HEADER_LENGTH

EXTENSION = "x-amazon-apigateway-"
KEPT = frozenset({f"{EXTENSION}authtype"})
"""Extensions that clients need to sign requests."""

PROTOCOL_ROOT = "/v2"
PROTOCOL_HEALTH = "/v2/health/{check}"
PROTOCOL_REST = "/v2/{proxy+}"

MODEL, VERSION = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"

PROTOCOL_PATHS = (
    ("get", PROTOCOL_ROOT, "openServer", "The server's name, version and extensions"),
    ("get", MODEL, "openModel", "Metadata of the version that the stage serves"),
    ("get", f"{MODEL}/ready", "openModelReady", "Whether the version that the stage serves answers"),
    ("post", f"{MODEL}/infer", "openInfer", "Inference with the version that the stage serves"),
    ("get", VERSION, "openVersion", "Metadata of a version"),
    ("get", f"{VERSION}/ready", "openVersionReady", "Whether a version answers"),
    ("post", f"{VERSION}/infer", "openInferVersion", "Inference with a version"),
)
"""Method, path, id and summary of the paths below `/v2` that the general router answers, except health."""

HEALTH_PATHS = (
    ("get", "/v2/health/live", "openLive", "Liveness: whether the server receives requests"),
    ("get", "/v2/health/ready", "openReady", "Whether every version that this stage serves answers"),
)
"""The same for health, which has its own route."""

CONTENT: Mapping[str, Any] = {"application/json": {"schema": {"type": "object"}}, "application/octet-stream": BINARY}


def publish_document(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the API as its callers see it; the caller of this function adds `servers`, since it knows the address.

    Extensions are removed from the root, operations and security schemes; deeper objects are shared with the document.
    """
    components = dict(document["components"])
    if "securitySchemes" in components:
        components["securitySchemes"] = _each_published(components["securitySchemes"])
    return {**_published(document), "paths": _publish_paths(document["paths"]), "components": components}


def _publish_paths(paths: Mapping[str, Any]) -> dict[str, Any]:
    published: dict[str, Any] = {}
    for path, item in paths.items():
        if path == PROTOCOL_REST:
            published |= _protocol_paths(PROTOCOL_PATHS, _published(item[ANY_METHOD]))
        elif path == PROTOCOL_HEALTH:
            published |= _protocol_paths(HEALTH_PATHS, _published(item["get"]))
        elif path != PROTOCOL_ROOT:
            # HEAD returns what GET returns without the body, and browsers send preflights themselves.
            shown = {method: operation for method, operation in item.items() if method not in {"head", PREFLIGHT}}
            published[path] = _each_published(shown)
    return published


def _protocol_paths(
    paths: Sequence[tuple[str, str, str, str]], operation: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Yield one path after the other; their common parts are copied from the route that answers them."""
    for method, path, name, summary in paths:
        fields: dict[str, Any] = {"operationId": name, "summary": summary, "parameters": path_parameters(path)}
        if method == "post":
            fields["parameters"].append(HEADER_LENGTH)
            fields["requestBody"] = {"required": True, "description": BODY, "content": CONTENT}
        yield path, {method: {**operation, **fields}}


def _each_published(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _published(member) for name, member in members.items()}


def _published(node: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key in KEPT or not key.startswith(EXTENSION)}

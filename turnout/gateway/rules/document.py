"""Reads one API's OpenAPI document once: its operations, and everything else that the gateway implements."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from turnout.gateway.rules.authorize import Access, access_of, token_rules_of
from turnout.gateway.rules.gateway_responses import GatewayResponses, parse_gateway_responses
from turnout.gateway.rules.matching import ANY, PathError, Routes
from turnout.gateway.rules.media_types import BinaryMediaTypes
from turnout.gateway.rules.mock import Mock, parse_mock
from turnout.gateway.rules.tokens import TokenRules
from turnout.gateway.rules.validate import Validator, validator_of

METHODS: Mapping[str, str] = {
    **{name: name.upper() for name in ("get", "put", "post", "delete", "options", "head", "patch")},
    "x-amazon-apigateway-any-method": ANY,
}
"""The keys of a path item that are operations."""

_EXTENSION = "x-amazon-apigateway-"
_OBEYED = frozenset(
    {
        "api-key-source",
        "binary-media-types",
        "documentation",
        "endpoint-configuration",
        "gateway-responses",
        "importexport-version",
        "minimum-compression-size",
        "request-validator",
        "request-validators",
    }
)
_TIMEOUT_MS = range(50, 300_001)


class DocumentError(ValueError):
    """The document uses features that this gateway does not support; `problems` lists all of them."""

    def __init__(self, api: str, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__("\n".join(f"{api}: {problem}" for problem in problems))


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One method of one resource.

    Args:
        index: its index among the document's operations.
        method: `POST`, or `ANY`.
        resource: the path template, `/models/iris/{version}`.
        resource_id: six letters and digits, the same for the same template.
        function: function and alias with stage variables in them: `turnout-local_iris_${stageVariables.iris}:live`.
        timeout_ms: the integration's timeout.
        is_misconfigured: whether the integration's own method is not POST, which AWS imports and then fails to call.
        access: how callers are authenticated.
        validator: the request validator, or None.
        mock: the mock response instead of a function, or None.
        tokens: which tokens it accepts, or None.
    """

    index: int
    method: str
    resource: str
    resource_id: str
    function: str
    timeout_ms: int
    is_misconfigured: bool
    access: Access
    validator: Validator | None
    mock: Mock | None = None
    tokens: TokenRules | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ApiDocument:
    """A compiled document. `notes` are sentences for the user."""

    operations: tuple[Operation, ...]
    routes: Routes[Operation]
    binary_media_types: BinaryMediaTypes
    gateway_responses: GatewayResponses
    notes: tuple[str, ...]


def compile_document(name: str, document: Mapping[str, Any]) -> ApiDocument:
    """Read a document; `name` is the API's name, for messages.

    Raises:
        DocumentError: it contains something that is not supported here.
    """
    responses, response_problems = parse_gateway_responses(document.get(f"{_EXTENSION}gateway-responses", {}))
    problems = [f"{_EXTENSION}gateway-responses.{problem}" for problem in response_problems]
    problems += [
        f"{key}: not supported here"
        for key in document
        if key.startswith(_EXTENSION) and key.removeprefix(_EXTENSION) not in _OBEYED
    ]
    if str(document.get(f"{_EXTENSION}api-key-source", "HEADER")).upper() != "HEADER":
        problems.append(f"{_EXTENSION}api-key-source: only HEADER is supported here")
    operations, notes = _read_operations(document, problems)
    if f"{_EXTENSION}minimum-compression-size" in document:
        notes.append("answers are not compressed here")
    routes: Routes[Operation] = Routes(())
    try:
        routes = Routes((operation.method, operation.resource, operation) for operation in operations)
    except PathError as error:
        problems.append(str(error))
    if problems:
        raise DocumentError(name, tuple(problems))
    binary = BinaryMediaTypes(document.get(f"{_EXTENSION}binary-media-types", ()))
    return ApiDocument(tuple(operations), routes, binary, responses, tuple(notes))


def _read_operations(document: Mapping[str, Any], problems: list[str]) -> tuple[list[Operation], list[str]]:
    """Return all operations in the document's order; add to `problems`."""
    operations: list[Operation] = []
    unchecked: dict[str, list[str]] = {}
    schemes = document.get("components", {}).get("securitySchemes", {})
    for path, item in document.get("paths", {}).items():
        for key, method in METHODS.items():
            if key not in item:
                continue
            # A path's own parameters belong to each of its operations.
            operation = {**item[key], "parameters": [*item.get("parameters", ()), *item[key].get("parameters", ())]}
            access, scheme = access_of(operation, schemes)
            if scheme:
                unchecked.setdefault(scheme, []).append(f"{method} {path}")
            try:
                operations.append(_read_operation(document, len(operations), method, path, operation, access))
            except (ValueError, KeyError) as error:
                problems.append(f"{method} {path}: {error.args[0]}")
    notes = [
        f"{scheme!r} cannot be checked on this machine: every request to {routes[0]}"
        f"{f' and {len(routes) - 1} more' if len(routes) > 1 else ''} is refused"
        for scheme, routes in unchecked.items()
    ]
    return operations, notes


def _read_operation(
    document: Mapping[str, Any], index: int, method: str, path: str, operation: Mapping[str, Any], access: Access
) -> Operation:
    integration = operation.get(f"{_EXTENSION}integration")
    if not isinstance(integration, Mapping):
        raise ValueError(f"has no {_EXTENSION}integration")  # noqa: TRY004 - one kind of error for all
    kind = str(integration.get("type", "")).lower()
    if kind not in {"aws_proxy", "mock"}:
        raise ValueError(f"integrations of type {kind!r} are not supported here, only 'aws_proxy' and 'mock'")
    if str(integration.get("responseTransferMode", "BUFFERED")).upper() != "BUFFERED":
        raise ValueError("streamed responses are not supported here")
    timeout_ms = integration.get("timeoutInMillis", 29_000)
    if timeout_ms not in _TIMEOUT_MS:
        raise ValueError(f"timeoutInMillis must be 50-300000, got {timeout_ms!r}")
    try:
        validator = validator_of(document, operation)
    except KeyError as error:
        raise ValueError(f"request validator or reference {error.args[0]!r} is not in the document") from None
    return Operation(
        index=index,
        method=method,
        resource=path,
        resource_id=hashlib.sha256(path.encode()).hexdigest()[:6],
        function="" if kind == "mock" else function_of_uri(integration.get("uri")),
        timeout_ms=timeout_ms,
        is_misconfigured=kind != "mock" and str(integration.get("httpMethod", "")).upper() != "POST",
        access=access,
        validator=validator,
        mock=parse_mock(integration) if kind == "mock" else None,
        tokens=token_rules_of(operation, document.get("components", {}).get("securitySchemes", {})),
    )


def function_of_uri(uri: object) -> str:
    """Return function name and alias in an integration's URI, including stage variables.

    Raises:
        ValueError: the URI is invalid; the message is API Gateway's.
    """
    if not isinstance(uri, str) or not uri.startswith("arn:"):
        raise ValueError("Invalid ARN specified in the request")
    service, _, path = uri.partition("/")
    if not service.endswith((":path", ":action")) or not path:
        raise ValueError("AWS ARN for integration must contain path or action")
    before, separator, function = path.partition(":function:")
    if (
        not service.endswith(":lambda:path")
        or not before.startswith("2015-03-31/functions/arn:")
        or not separator
        or not function.endswith("/invocations")
        or function == "/invocations"
    ):
        raise ValueError(
            "Integrations of type 'AWS_PROXY' currently only supports Lambda function and Firehose stream invocations."
        )
    return function.removesuffix("/invocations")

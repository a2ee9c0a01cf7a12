"""The document's own gateway responses, `x-amazon-apigateway-gateway-responses`, compiled.

Supported: `statusCode`, headers as constants in single quotes, the request's origin as `Access-Control-Allow-Origin`,
and an `application/json` template with `$context.x` and `$stageVariables.x` (API Gateway runs no VTL in these).
Everything else is rejected when the document is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from turnout.gateway.rules.errors import STATUS_OF_KIND, GatewayError
from turnout.protocol.aws.cors import ANY_ORIGIN, allows_origin

CONTEXT_NAMES = frozenset(
    {
        "accountId",
        "apiId",
        "deploymentId",
        "domainName",
        "domainPrefix",
        "error.message",
        "error.messageString",
        "error.responseType",
        "extendedRequestId",
        "httpMethod",
        "identity.sourceIp",
        "identity.userAgent",
        "path",
        "protocol",
        "requestId",
        "requestTime",
        "requestTimeEpoch",
        "resourceId",
        "resourcePath",
        "stage",
    }
)
"""The `$context` names that a template may use here."""

_VARIABLE = re.compile(r"\$(context|stageVariables)\.([A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*)")
_HEADER = "gatewayresponse.header."
_ALLOW_ORIGIN = "access-control-allow-origin"
_REQUESTED_ORIGIN = "method.request.header.origin"
_CONSTANT = re.compile(r"'([\t\x20-\x7e]*)'")
_JSON = "application/json"
_KEYS = frozenset({"statusCode", "responseParameters", "responseTemplates"})


@dataclass(frozen=True, slots=True)
class GatewayResponse:
    """One customized response: status 0 keeps the error's own, template None keeps AWS's body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    template: str | None


class GatewayResponses:
    """An API's customized responses by type.

    Args:
        responses: gateway response type -> response.
    """

    __slots__ = ("_responses",)

    def __init__(self, responses: Mapping[str, GatewayResponse]) -> None:
        self._responses = responses

    def render(
        self, error: GatewayError, context: Mapping[str, Any], variables: Mapping[str, str] | None
    ) -> tuple[int, tuple[tuple[str, str], ...], bytes]:
        """Return status, further headers and body of one error.

        `context` contains the request's values by `$context` name.
        """
        response = self._responses.get(error.kind)
        if response is None:
            response = self._responses.get("DEFAULT_5XX" if error.status >= 500 else "DEFAULT_4XX")
        message = orjson.dumps(error.message).decode()
        default = f'{{"message":{" " if error.spaced else ""}{message}}}'.encode()
        if response is None:
            return error.status, (), default
        status = response.status or error.status
        headers = tuple(_allowed_headers(response.headers, str(context.get("request.origin", "")), variables or {}))
        if response.template is None:
            return status, headers, default
        known = {
            **context,
            "error.message": error.message,
            "error.messageString": message,
            "error.responseType": error.kind,
        }

        def value(variable: re.Match[str]) -> str:
            source: Mapping[str, Any] = known if variable[1] == "context" else variables or {}
            return str(source.get(variable[2], ""))

        return status, headers, _VARIABLE.sub(value, response.template).encode()


def _allowed_headers(
    headers: tuple[tuple[str, str], ...], origin: str, variables: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Return the headers of an error for a page of this origin.

    AWS sends a constant origin to every caller, and the browser compares it; with several origins, it returns the
    requesting one. Here only an origin that the stage allows is ever returned, as in the answers of functions.
    """
    for name, value in headers:
        if name.lower() != _ALLOW_ORIGIN or value == ANY_ORIGIN:
            yield name, value
        elif origin and (value == origin or (value == _REQUESTED_ORIGIN and allows_origin(variables, origin))):
            yield name, origin


def parse_gateway_responses(extension: object) -> tuple[GatewayResponses, list[str]]:
    """Read the extension; return what could be read, and a sentence for everything that is not supported here."""
    responses: dict[str, GatewayResponse] = {}
    problems: list[str] = []
    if not isinstance(extension, Mapping):
        return GatewayResponses({}), ["must be an object"]
    for kind, response in extension.items():
        if kind not in STATUS_OF_KIND:
            problems.append(f"{kind}: no such type, the types are {', '.join(sorted(STATUS_OF_KIND))}")
        elif not isinstance(response, Mapping):
            problems.append(f"{kind}: must be an object")
        else:
            problems.extend(f"{kind}.{key}: not supported here" for key in response if key not in _KEYS)
            responses[kind] = GatewayResponse(
                _status(kind, response.get("statusCode"), problems),
                _headers(kind, response.get("responseParameters") or {}, problems),
                _template(kind, response.get("responseTemplates") or {}, problems),
            )
    return GatewayResponses(responses), problems


def _status(kind: str, value: object, problems: list[str]) -> int:
    if value is None:
        return 0
    text = str(value)
    if re.fullmatch(r"[1-5]\d\d", text) is None:
        problems.append(f"{kind}.statusCode: must be 100-599, got {value!r}")
        return 0
    return int(text)


def _headers(kind: str, parameters: Mapping[str, Any], problems: list[str]) -> tuple[tuple[str, str], ...]:
    headers = []
    for name, value in parameters.items():
        constant = _CONSTANT.fullmatch(value) if isinstance(value, str) else None
        if not name.startswith(_HEADER):
            problems.append(f"{kind}.responseParameters: {name} is not supported here, only {_HEADER}*")
        elif name.lower() == f"{_HEADER}{_ALLOW_ORIGIN}" and str(value).lower() == _REQUESTED_ORIGIN:
            headers.append((name.removeprefix(_HEADER), _REQUESTED_ORIGIN))
        elif constant is None:
            problems.append(f"{kind}.responseParameters: {name} must be a constant in single quotes, got {value!r}")
        else:
            headers.append((name.removeprefix(_HEADER), constant[1]))
    return tuple(headers)


def _template(kind: str, templates: Mapping[str, Any], problems: list[str]) -> str | None:
    problems.extend(
        f"{kind}.responseTemplates: {content_type} is not supported here, only {_JSON}"
        for content_type in templates
        if content_type != _JSON
    )
    template = templates.get(_JSON)
    if template is None:
        return None
    if not isinstance(template, str):
        problems.append(f"{kind}.responseTemplates: must be text, got {template!r}")
        return None
    for source, name in _VARIABLE.findall(template):
        if source == "context" and name not in CONTEXT_NAMES:
            problems.append(f"{kind}.responseTemplates: $context.{name} is not supported here")
    if "$" in _VARIABLE.sub("", template):
        problems.append(f"{kind}.responseTemplates: only $context.x and $stageVariables.x are supported")
    return template

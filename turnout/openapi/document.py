"""Builds one OpenAPI 3.0 document with API Gateway's extensions, which AWS imports and the local gateway follows.

Source: OpenAPI 3.0.3; API Gateway Developer Guide, "OpenAPI extensions" and "Important notes for REST APIs".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from turnout.openapi.cors import PREFLIGHT, build_preflight, customize_errors
from turnout.openapi.general_operations import ANY_METHOD, GENERAL_SCHEMAS, build_general_operation, path_parameters
from turnout.openapi.inference_operations import ShownExample, build_operation
from turnout.openapi.request_operations import REQUEST_SCHEMAS, build_request_operation, with_async
from turnout.openapi.schemas import build_schemas
from turnout.plan.auth import CALLERS, build_callers_scheme, build_schemes, find_auth_type
from turnout.plan.checks.quotas import DOCUMENT_BYTES, FEWER_INPUTS, SCHEMA_BYTES, SPLIT, spell_use
from turnout.plan.values import Api, Plan, Quota, ServedVersion
from turnout.problems import Problem, ProblemsError
from turnout.protocol.naming import LIVE, function_prefix

Document = dict[str, Any]
UriOf = Callable[[str], str]
"""From `turnout-local_iris_${stageVariables.iris}:${stageVariables.alias}` to the integration's `uri`."""

BINARY_MEDIA_TYPES = ("*/*",)
"""Every body is binary to API Gateway, so a function's base64 answers reach every client decoded."""

GATEWAY_RESPONSES = {
    "THROTTLED": {
        "responseParameters": {"gatewayresponse.header.Retry-After": "'1'"},
        "responseTemplates": {"application/json": '{"message":$context.error.messageString}'},
    }
}
"""API Gateway's own responses stay as they are; a throttled caller also gets `Retry-After`."""

CALLERS_RESPONSES = {
    kind: {"statusCode": "403", "responseTemplates": {"application/json": '{"message":"Forbidden"}'}}
    for kind in ("ACCESS_DENIED", "UNAUTHORIZED")
}
"""An authorizer's refusal has the format of a wrong API key's refusal, as has a request without a key."""

INFO = """Inference with ONNX models, each in many versions.

`POST /models/{model}/{version}/inference` calls one version, `POST /models/{model}/inference` the one that the stage \
serves; `GET /models` lists models and versions. Paths start with the stage's name unless a domain is mapped to it.

A request is the Open Inference Protocol's JSON, `{"inputs": [{"name", "shape", "datatype", "data"}]}`, `data` flat or \
nested; or its binary tensor extension, `application/octet-stream` with `Inference-Header-Content-Length`; or a short \
form, `{"inputs": {"x": [[1.0]]}}` or `{"instances": [[1.0]]}`. The response has the request's format. NaN \
and the infinities are the strings "NaN", "Infinity" and "-Infinity"."""


def lambda_uri(partition: str, region: str, account: str) -> UriOf:
    """Return the URI of a function's Lambda, `arn:aws:apigateway:REGION:lambda:path/.../invocations`."""
    root = f"arn:{partition}:apigateway:{region}:lambda:path/2015-03-31/functions"
    functions = f"arn:{partition}:lambda:{region}:{account}:function"

    def uri_of(function: str) -> str:
        return f"{root}/{functions}:{function}/invocations"

    return uri_of


local_uri = lambda_uri("aws", "us-east-1", "000000000000")
"""Return an ARN for the local gateway, in AWS's format with an account that does not exist."""


def build_document(
    plan: Plan,
    api: Api,
    uri_of: UriOf = local_uri,
    *,
    examples: Mapping[tuple[str, str], Mapping[str, Any]] | None = None,
    credentials: str = "",
) -> Document:
    """Return the document of one API. Parts of it are shared: do not change it.

    Args:
        plan: the whole plan. Models that share their routes do not appear in the document, so a new one changes nothing
            in it; callers get the document of `plan.as_called(api)`.
        api: one of `plan.apis`.
        uri_of: binds the integrations.
        examples: (model, version) -> a valid request; versions without one get one made from their signature.
        credentials: the role with which API Gateway invokes the functions; omitted if empty.
    """
    auth = find_auth_type(api.auth)
    security = [{name: [] for name in (auth.name, CALLERS)}] if api.has_consumers else auth.security
    schemes = build_schemes(auth, api.jwt)
    if api.has_consumers:
        schemes[CALLERS] = build_callers_scheme(uri_of(authorizer_name(plan)), credentials)
    own = {route.model for route in api.routes}
    versions = {model: rows for model, rows in versions_by_model(plan).items() if model in own}
    graphs = [graph for graph in plan.graphs if graph.model in own]
    served = {(version.version.model, version.version.name): version for rows in versions.values() for version in rows}
    requests = {key: ShownExample.of(version, (examples or {}).get(key)) for key, version in served.items()}
    asynchronous = any(route.kind == "request" for route in api.routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in api.routes:
        uri = uri_of(f"{route.function}:${{stageVariables.alias}}")
        if route.model:
            chosen = [served[route.model, route.version]] if route.version else versions.get(route.model, [])
            operation = build_operation(
                route,
                {version.version.name: requests[route.model, version.version.name] for version in chosen},
                description=_describe(plan, route.model, chosen if route.version else []),
                security=security,
                uri=uri,
                credentials=credentials,
            )
            if asynchronous:
                operation = with_async(operation)
        elif route.kind == "request":
            operation = build_request_operation(route, security=security, uri=uri, credentials=credentials)
        else:
            operation = build_general_operation(route, security=security, uri=uri, credentials=credentials)
        item = paths.setdefault(route.path, {})
        item[ANY_METHOD if route.method == "ANY" else route.method.lower()] = operation
        if route.method == "GET":
            item["head"] = {**operation, "operationId": f"{operation['operationId']}Head"}
        if api.cors is not None and PREFLIGHT not in item:
            preflight = build_preflight(api.cors, f"{operation['operationId']}Preflight")
            if parameters := path_parameters(route.path):
                preflight["parameters"] = parameters
            item[PREFLIGHT] = preflight
    return {
        "openapi": "3.0.3",
        "info": {"title": api.name, "version": "1", "description": INFO},
        "x-amazon-apigateway-binary-media-types": list(BINARY_MEDIA_TYPES),
        **dict(auth.extensions),
        "x-amazon-apigateway-gateway-responses": customize_errors(
            {**GATEWAY_RESPONSES, **(CALLERS_RESPONSES if api.has_consumers else {})}, api.cors
        ),
        "tags": [_tag(plan, model) for model in (*versions, *(graph.model for graph in graphs))],
        "paths": paths,
        "components": {
            "schemas": {
                **dict(build_schemas(versions, graphs)),
                **GENERAL_SCHEMAS,
                **(REQUEST_SCHEMAS if asynchronous else {}),
            },
            **({"securitySchemes": schemes} if schemes else {}),
        },
    }


def authorizer_name(plan: Plan) -> str:
    """Return the name of the authorizer of stages with consumers: `turnout-prod_callers:live`."""
    return f"{function_prefix(plan.platform, plan.stack)}_{CALLERS}:{LIVE}"


def versions_by_model(plan: Plan) -> dict[str, list[ServedVersion]]:
    """Return each model's versions, in the file's order."""
    versions: dict[str, list[ServedVersion]] = {}
    for version in plan.versions:
        versions.setdefault(version.version.model, []).append(version)
    return versions


def render_document(document: Document, *, indent: bool = False) -> bytes:
    """Return the document's bytes, compact for AWS or indented for readers."""
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 if indent else 0)


def check_document(document: Document) -> tuple[Quota, ...]:
    """Check the sizes of the document and its largest schema, which API Gateway could refuse to import.

    Raises:
        ProblemsError: one of them is too large.
    """
    schemas = document["components"]["schemas"]
    sizes = {name: len(orjson.dumps(schema)) for name, schema in schemas.items()}
    largest = max(sizes, key=sizes.__getitem__)
    whole = Quota("document", document["info"]["title"], len(render_document(document)), DOCUMENT_BYTES, "bytes")
    schema = Quota("largest schema", largest, sizes[largest], SCHEMA_BYTES, "bytes")
    remedies = ((whole, SPLIT), (schema, FEWER_INPUTS))
    problems = tuple(
        Problem(spell_use(quota), ("models",), hint=remedy) for quota, remedy in remedies if quota.exceeded
    )
    if problems:
        raise ProblemsError(problems)
    return whole, schema


def _describe(plan: Plan, model: str, versions: list[ServedVersion]) -> str:
    """Return the model's description, followed by the version's."""
    texts = [plan.descriptions.get(model, ""), *(version.version.description for version in versions)]
    return "\n\n".join(text for text in texts if text)


def _tag(plan: Plan, model: str) -> dict[str, str]:
    description = plan.descriptions.get(model)
    return {"name": model, **({"description": description} if description else {})}

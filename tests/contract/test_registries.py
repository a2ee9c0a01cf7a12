"""Promises of the registries: a new entry is served everywhere, or rejected everywhere."""

from __future__ import annotations

import orjson
import pytest

from tests.builders.general_router import ask, route_event
from tests.builders.manifests import artifacts_of, manifest, model, stage
from turnout.artifacts.example_request import make_request
from turnout.gateway.rules.authorize import Access
from turnout.gateway.rules.document import compile_document
from turnout.gateway.rules.errors import GatewayError
from turnout.manifest.parser import CallNode, Jwt, Model, SequenceNode
from turnout.manifest.schema import manifest_schema
from turnout.openapi.document import build_document
from turnout.openapi.general_operations import PURPOSES, path_parameters
from turnout.openapi.tensor_schemas import JSON_TYPES
from turnout.plan.auth import AUTH_TYPES, AuthType
from turnout.plan.checks.size_estimates import JSON_BYTES
from turnout.plan.planner import make_plan
from turnout.plan.routes import GENERAL_ROUTES, OPEN_INFERENCE_ROUTES
from turnout.protocol.errors import STATUS_OF
from turnout.protocol.tensors.datatypes import DATATYPES, Signature, TensorSpec

ACCESS_OF = {"none": Access.OPEN, "api_key": Access.API_KEY, "iam": Access.IAM, "jwt": Access.JWT}
"""How the gateway authorizes callers, or why it rejects all of them."""

every_type = pytest.mark.parametrize("auth", AUTH_TYPES.values(), ids=lambda entry: entry.name)


@every_type
def test_auth_type_has_a_scheme_that_api_gateway_accepts(auth: AuthType) -> None:
    if auth.name == "none":
        assert auth.scheme is None
    else:
        assert auth.scheme is not None
        assert auth.scheme["type"] == "apiKey"


@every_type
def test_auth_type_is_part_of_the_document_and_enforced_by_the_gateway(auth: AuthType) -> None:
    jwt = Jwt("https://login.example", ("app",)) if auth.name == "jwt" else None
    of = manifest(stages=(stage(auth=auth.name, jwt=jwt),))
    plan = make_plan(of, artifacts_of(of))
    compiled = compile_document(plan.apis[0].name, build_document(plan, plan.apis[0]))
    for operation in compiled.operations:
        is_health = operation.resource.startswith(("/health/", "/v2/health/"))
        assert operation.access is (Access.OPEN if is_health else ACCESS_OF[auth.name])
    # Authentication that cannot be checked locally is rejected, and both the gateway and the plan say so.
    assert bool(compiled.notes) == (not auth.local)
    assert bool(plan.notes) == (not auth.local)


def test_manifest_schema_lists_exactly_the_auth_types() -> None:
    assert set(manifest_schema()["$defs"]["stage"]["properties"]["auth"]["enum"]) == set(AUTH_TYPES)


@pytest.mark.parametrize("name", sorted(DATATYPES))
def test_datatype_has_an_element_type_a_size_and_an_example(name: str) -> None:
    tensors = Signature((TensorSpec("x", name, (2,)),), (TensorSpec("y", name, (2,)),))
    assert DATATYPES[name].kind in JSON_TYPES
    assert JSON_BYTES[name] > 0
    assert len(make_request(tensors)["inputs"][0]["data"]) == 2
    of = manifest((model(versions=("v1",)),))
    plan = make_plan(of, artifacts_of(of, {("iris", "v1"): tensors}))
    schema = build_document(plan, plan.apis[0])["components"]["schemas"]["IrisVv1Request"]
    assert schema["properties"]["inputs"]["items"]["properties"]["datatype"]["enum"] == [name]


@pytest.mark.parametrize("code", sorted(STATUS_OF))
def test_error_code_is_documented_with_its_status(code: str) -> None:
    of = manifest((model(), Model("chain", (), graph=SequenceNode((CallNode("iris", "v1"),)))))
    plan = make_plan(of, artifacts_of(of))
    document = build_document(plan, plan.apis[0])
    assert code in document["components"]["schemas"]["Error"]["properties"]["code"]["enum"]
    responses = [operation["responses"] for item in document["paths"].values() for operation in item.values()]
    descriptions = [
        response[str(STATUS_OF[code])]["description"] for response in responses if str(STATUS_OF[code]) in response
    ]
    assert any(f"`{code}`" in description for description in descriptions)


@pytest.mark.parametrize(("method", "path", "kind"), [*GENERAL_ROUTES, *OPEN_INFERENCE_ROUTES])
def test_general_route_is_documented_and_answered(method: str, path: str, kind: str) -> None:
    parameters = {"model": "iris", "version": "v1", "proxy": "models/iris", "check": "live"}
    named = {parameter["name"]: parameters[parameter["name"]] for parameter in path_parameters(path)}
    assert path in PURPOSES
    assert ask(route_event(path, "GET" if method == "ANY" else method, **named)).status == 200


def test_gateway_obeys_every_gateway_response_of_the_document() -> None:
    of = manifest()
    plan = make_plan(of, artifacts_of(of))
    document = build_document(plan, plan.apis[0])
    compiled = compile_document(plan.apis[0].name, document)
    for kind, response in document["x-amazon-apigateway-gateway-responses"].items():
        error = GatewayError(kind, 429, "TooManyRequestsException", "Too Many Requests")
        status, headers, body = compiled.gateway_responses.render(error, {}, None)
        assert status == 429
        assert dict(headers) == {"Retry-After": "1"}
        assert orjson.loads(body) == {"message": "Too Many Requests"}
        assert set(response) == {"responseParameters", "responseTemplates"}

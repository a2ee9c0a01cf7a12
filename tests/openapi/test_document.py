"""The document: valid OpenAPI 3.0, with everything that both servers need on every operation."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from openapi_spec_validator import OpenAPIV30SpecValidator

from tests.builders.manifests import artifacts_of, manifest, manifests_with_access, model, stage
from turnout.manifest.parser import (
    AccountQuotas,
    Asynchronous,
    CallNode,
    Cors,
    Manifest,
    Model,
    Routing,
    SequenceNode,
    Version,
)
from turnout.openapi.document import Document, build_document, lambda_uri, local_uri, render_document
from turnout.openapi.general_operations import ANY_METHOD, PURPOSES
from turnout.openapi.inference_operations import ERRORS
from turnout.openapi.public_document import publish_document
from turnout.plan.auth import AUTH_TYPES
from turnout.plan.planner import make_plan
from turnout.plan.routes import SHARED_PATHS
from turnout.protocol.tensors.datatypes import Signature, TensorSpec


def document_of(of: Manifest, tensors: dict[tuple[str, str], Signature] | None = None, **options: Any) -> Document:
    plan = make_plan(of, artifacts_of(of, tensors), enforce=False)
    return build_document(plan, plan.apis[0], **options)


def operations(document: Document) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for operation in item.values():
            yield path, operation


def inferences(document: Document) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, operation in operations(document):
        if path.startswith("/models/") and path.endswith("/inference"):
            yield path, operation


def body(document: Document, path: str) -> dict[str, Any]:
    media_type: dict[str, Any] = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    return media_type


def test_document_is_valid_openapi() -> None:
    OpenAPIV30SpecValidator(document_of(manifest())).validate()  # type: ignore[no-untyped-call]


@settings(max_examples=15, deadline=None)
@given(manifests_with_access())
def test_document_of_any_manifest_is_valid_openapi(of: Manifest) -> None:
    plan = make_plan(of, artifacts_of(of), enforce=False)
    for api in plan.apis:
        document = build_document(plan, api)
        # `{proxy+}` is API Gateway's spelling of a parameter that its operations call `proxy`.
        plain = {path: item for path, item in document["paths"].items() if "+" not in path}
        OpenAPIV30SpecValidator({**document, "paths": plain}).validate()  # type: ignore[no-untyped-call]


def test_document_contains_every_route() -> None:
    assert list(document_of(manifest())["paths"]) == [
        "/models/iris/inference",
        "/models/iris/v1/inference",
        "/models/iris/v2/inference",
        "/models",
        "/models/{model}",
        "/models/{model}/{version}",
        "/health/live",
        "/health/ready",
        "/openapi.json",
        "/v2",
        "/v2/health/{check}",
        "/v2/{proxy+}",
    ]


def test_integration_uri_comes_from_the_argument() -> None:
    document = document_of(manifest(), uri_of=lambda function: f"<{function}>")
    bound = {path: operation["x-amazon-apigateway-integration"]["uri"] for path, operation in operations(document)}
    general = {path: uri for path, uri in bound.items() if uri == "<turnout-local_router:${stageVariables.alias}>"}
    assert set(general) == set(PURPOSES) - set(SHARED_PATHS)
    assert {path: uri for path, uri in bound.items() if path not in general} == {
        "/models/iris/inference": "<turnout-local_iris_${stageVariables.iris}:${stageVariables.alias}>",
        "/models/iris/v1/inference": "<turnout-local_iris_v1:${stageVariables.alias}>",
        "/models/iris/v2/inference": "<turnout-local_iris_v2:${stageVariables.alias}>",
    }


@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov"])
def test_lambda_uri_has_the_format_of_aws(partition: str) -> None:
    assert lambda_uri(partition, "eu-central-1", "123456789012")("f:live") == (
        f"arn:{partition}:apigateway:eu-central-1:lambda:path/2015-03-31/functions/"
        f"arn:{partition}:lambda:eu-central-1:123456789012:function:f:live/invocations"
    )


def test_integration_is_a_proxy_with_a_timeout_of_29_seconds() -> None:
    for _, operation in operations(document_of(manifest())):
        assert operation["x-amazon-apigateway-integration"] == {
            "type": "aws_proxy",
            "httpMethod": "POST",
            "uri": operation["x-amazon-apigateway-integration"]["uri"],
            "passthroughBehavior": "when_no_match",
            "timeoutInMillis": 29_000,
        }


def test_raised_timeout_is_written_for_every_integration() -> None:
    """Also with shared routes, routers, graphs, asynchronous requests and the paths of the general router."""
    calls = SequenceNode((CallNode("iris", "", {}, {"y": "x"}), CallNode("digits", "")))
    models = (model(routing=Routing(fallback="v1")), model("digits"), replace(model("flow", ()), graph=calls))
    access: dict[str, Any] = {"asynchronous": Asynchronous(), "cors": Cors(("https://a.example",))}
    of = manifest(models, (stage(serve={"iris": "v1", "digits": "v1"}, **access),), routes="shared")
    for one in (of, replace(of, routes="direct", open_inference="proxy")):
        assert timeouts_of(one) == {29_000}
        assert timeouts_of(replace(one, quotas=AccountQuotas(integration_timeout_s=60))) == {60_000}


def timeouts_of(of: Manifest) -> set[int | None]:
    """Return the timeouts of all integrations; mocks, which answer preflights, call nothing."""
    integrations = [entry["x-amazon-apigateway-integration"] for _, entry in operations(document_of(of))]
    assert len(integrations) > 10
    return {entry.get("timeoutInMillis") for entry in integrations if entry["type"] != "mock"}


def test_credentials_are_written_if_given() -> None:
    role = "arn:aws:iam::123456789012:role/turnout"
    for _, operation in operations(document_of(manifest(), credentials=role)):
        assert operation["x-amazon-apigateway-integration"]["credentials"] == role


@pytest.mark.parametrize("auth", list(AUTH_TYPES))
def test_security_is_on_every_operation_and_never_at_the_root(auth: str) -> None:
    document = document_of(manifest(stages=(stage(auth=auth),)))
    schemes = document["components"].get("securitySchemes", {})
    assert "security" not in document
    assert set(schemes) == (set() if auth == "none" else {auth})
    for path, operation in operations(document):
        is_open = auth == "none" or "/health/" in path
        assert operation["security"] == ([] if is_open else [{auth: []}])


def test_apis_differ_only_in_their_authentication() -> None:
    of = manifest(stages=(stage("dev"), stage("prod", auth="api_key")))
    plan = make_plan(of, artifacts_of(of))
    one, other = (build_document(plan, api) for api in plan.apis)
    assert list(one["paths"]) == list(other["paths"])
    assert one["components"]["schemas"] == other["components"]["schemas"]
    for (path, left), (_, right) in zip(operations(one), operations(other), strict=True):
        differ = set() if "/health/" in path else {"security"}
        assert {key for key in left if left[key] != right[key]} == differ


def test_head_is_described_like_get() -> None:
    for item in document_of(manifest())["paths"].values():
        assert ("get" in item) == ("head" in item)
        if "get" in item:
            assert item["head"] == {**item["get"], "operationId": f"{item['get']['operationId']}Head"}


def test_parameters_are_on_operations_not_on_paths() -> None:
    for path, item in document_of(manifest())["paths"].items():
        assert len(item.keys() & {"get", "post", ANY_METHOD}) == 1
        assert item.keys() <= {"get", "head", "post", ANY_METHOD}
        operation = next(iter(item.values()))
        named = [(parameter["in"], parameter["name"]) for parameter in operation["parameters"]]
        in_path = [("path", name.removesuffix("+")) for name in re.findall(r"{([^}]+)}", path)]
        in_header = [("header", "Inference-Header-Content-Length")] if path.endswith("/inference") else []
        assert named == in_path + in_header


@settings(max_examples=30, deadline=None)
@given(manifests_with_access())
def test_operation_ids_are_unique(of: Manifest) -> None:
    ids = [operation["operationId"] for _, operation in operations(document_of(of))]
    assert len(set(ids)) == len(ids)
    assert all(name.isalnum() for name in ids)


def test_error_responses_are_written_out_at_every_operation() -> None:
    statuses = {"400", "403", "413", "415", "422", "429", "500", "502", "504"}
    assert set(ERRORS) == statuses
    for path, operation in operations(document_of(manifest())):
        assert set(operation["responses"]) == {"200", *(PURPOSES[path].errors if path in PURPOSES else statuses)}
        # API Gateway does not follow references to shared responses.
        assert all("$ref" not in response for response in operation["responses"].values())


def test_tags_and_descriptions_are_those_of_the_manifest() -> None:
    version = Version("iris", "v1", "a.onnx", description="Logistic regression.")
    document = document_of(manifest((Model("iris", (version,), "Iris species."),)))
    assert document["tags"] == [{"name": "iris", "description": "Iris species."}]
    described = {path: (operation["tags"], operation["description"]) for path, operation in inferences(document)}
    assert described["/models/iris/inference"] == (["iris"], "Iris species.")
    assert described["/models/iris/v1/inference"] == (["iris"], "Iris species.\n\nLogistic regression.")


def test_api_gateway_treats_every_body_as_binary() -> None:
    assert document_of(manifest())["x-amazon-apigateway-binary-media-types"] == ["*/*"]


def test_request_may_be_json_or_binary_and_the_short_forms_are_described() -> None:
    for _, operation in inferences(document_of(manifest())):
        assert set(operation["requestBody"]["content"]) == {"application/json", "application/octet-stream"}
        assert set(operation["responses"]["200"]["content"]) == {"application/json", "application/octet-stream"}
        assert '{"instances": [...]}' in operation["requestBody"]["description"]


def test_body_is_not_validated_by_api_gateway() -> None:
    document = document_of(manifest())
    assert b"request-validator" not in render_document(document)


def test_response_headers_are_described() -> None:
    for _, operation in inferences(document_of(manifest())):
        assert set(operation["responses"]["200"]["headers"]) == {
            "x-turnout-model",
            "x-turnout-version",
            "x-turnout-digest",
            "x-turnout-canary",
        }


def test_example_is_the_given_one_or_made_from_the_signature() -> None:
    given_request = {"instances": [[5.1, 3.5, 1.4, 0.2]]}
    document = document_of(manifest(), examples={("iris", "v1"): given_request})
    made = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0.5] * 4}]}
    assert body(document, "/models/iris/v1/inference")["example"] == given_request
    assert body(document, "/models/iris/v2/inference")["example"] == made
    assert body(document, "/models/iris/inference")["examples"] == {
        "v1": {"value": given_request},
        "v2": {"value": made},
    }


def test_example_that_would_fill_the_document_is_left_out() -> None:
    huge = Signature((TensorSpec("x", "FP32", (1, 3, 4096, 4096)),), (TensorSpec("y", "FP32", (1,)),))
    document = document_of(manifest((model(versions=("v1",)),)), {("iris", "v1"): huge})
    assert "example" not in body(document, "/models/iris/v1/inference")
    assert "examples" not in body(document, "/models/iris/inference")
    assert len(render_document(document)) < 40_000


def test_example_of_a_version_in_s3_is_not_generated() -> None:
    version = Version("iris", "v1", "s3://bucket/key", "a" * 64)
    of = manifest((Model("iris", (version,)),))
    plan = make_plan(of, {})
    document = build_document(plan, plan.apis[0])
    assert "example" not in body(document, "/models/iris/v1/inference")
    OpenAPIV30SpecValidator(document).validate()  # type: ignore[no-untyped-call]


def test_bytes_are_json_in_either_form() -> None:
    document = document_of(manifest())
    assert orjson.loads(render_document(document)) == orjson.loads(render_document(document, indent=True)) == document


def test_local_uri_has_an_account_that_does_not_exist() -> None:
    assert ":000000000000:function:f:live/" in local_uri("f:live")


def media_types(value: Any, name: str) -> Iterator[Any]:
    """Return every description of a body with that media type, at any place."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == name:
                yield inner
            yield from media_types(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from media_types(inner, name)


@pytest.mark.parametrize("open_inference", ["proxy", "direct", "off"])
def test_every_binary_body_has_a_schema_that_accepts_everything(open_inference: str) -> None:
    of = replace(manifest(), open_inference=open_inference)
    plan = make_plan(of, artifacts_of(of), enforce=False)
    document = build_document(plan, plan.apis[0])
    for described in (document, publish_document(document)):
        result = list(media_types(described["paths"], "application/octet-stream"))
        assert len(result) >= 2
        assert all(entry["schema"] == {"type": "string", "format": "binary"} for entry in result)
    # With a validator API Gateway would read binary bodies as JSON and reject them.
    assert not [key for key in document if "request-validator" in key]
    assert "request-validator" not in json.dumps(document["paths"])

"""CORS in the document that API Gateway imports."""

from __future__ import annotations

from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV30SpecValidator

from tests.builders.manifests import artifacts_of, manifest, stage
from turnout.manifest.access import Cors
from turnout.openapi.document import build_document
from turnout.plan.planner import make_plan

ONE = Cors(("https://a.example",))
TWO = Cors(("https://a.example", "https://b.example"), credentials=True)


def document_of(cors: Cors | None) -> dict[str, Any]:
    of = manifest(stages=(stage(cors=cors),))
    plan = make_plan(of, artifacts_of(of))
    return build_document(plan, plan.apis[0])


@pytest.mark.parametrize("cors", [ONE, TWO, Cors(("*",)), Cors(("*",), headers=())])
def test_every_path_has_a_preflight_that_calls_no_function(cors: Cors) -> None:
    document = document_of(cors)
    # `{proxy+}` is API Gateway's spelling of a parameter that its operations call `proxy`.
    plain = {path: item for path, item in document["paths"].items() if "+" not in path}
    OpenAPIV30SpecValidator({**document, "paths": plain}).validate()  # type: ignore[no-untyped-call]
    for item in document["paths"].values():
        operation = item["options"]
        integration = operation["x-amazon-apigateway-integration"]
        assert operation["security"] == []
        assert (integration["type"], integration["contentHandling"]) == ("mock", "CONVERT_TO_TEXT")
        assert "uri" not in integration
        parameters = integration["responses"]["default"]["responseParameters"]
        declared = operation["responses"]["204"]["headers"]
        # API Gateway rejects a mapping to a header that the method response does not declare.
        assert {name.removeprefix("method.response.header.") for name in parameters} <= declared.keys()


def test_without_cors_nothing_is_added() -> None:
    document = document_of(None)
    assert [path for path, item in document["paths"].items() if "options" in item] == []
    assert document["x-amazon-apigateway-gateway-responses"].keys() == {"THROTTLED"}


def test_errors_of_api_gateway_itself_allow_one_origin_as_a_constant() -> None:
    responses = document_of(ONE)["x-amazon-apigateway-gateway-responses"]
    assert responses.keys() == {"THROTTLED", "DEFAULT_4XX", "DEFAULT_5XX"}
    for response in responses.values():
        assert response["responseParameters"]["gatewayresponse.header.Access-Control-Allow-Origin"] == (
            "'https://a.example'"
        )
    assert responses["THROTTLED"]["responseParameters"]["gatewayresponse.header.Retry-After"] == "'1'"
    assert "responseTemplates" in responses["THROTTLED"]


def test_errors_of_api_gateway_itself_never_allow_credentials_to_an_origin_that_it_cannot_compare() -> None:
    for response in document_of(TWO)["x-amazon-apigateway-gateway-responses"].values():
        parameters = response["responseParameters"]
        assert parameters["gatewayresponse.header.Access-Control-Allow-Origin"] == "method.request.header.Origin"
        assert "gatewayresponse.header.Access-Control-Allow-Credentials" not in parameters


def test_stage_with_cors_has_its_own_api() -> None:
    of = manifest(stages=(stage("dev"), stage("web", cors=ONE), stage("shop", cors=ONE)))
    plan = make_plan(of, artifacts_of(of))
    assert {api.name: [entry.name for entry in api.stages] for api in plan.apis} == {
        "turnout-local_none": ["dev"],
        "turnout-local_none_web": ["web"],
        "turnout-local_none_shop": ["shop"],
    }

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.builders.documents import FakeFunctions, document, gateway, operation, request, respond, stage
from turnout.gateway.rules.document import DocumentError, compile_document
from turnout.http_server.messages import Response


@pytest.mark.parametrize(
    ("one", "says"),
    [
        ({}, "POST /x: has no x-amazon-apigateway-integration"),
        (operation(integration={"type": "http"}), "POST /x: integrations of type 'http' are not supported here"),
        (operation(integration={"responseTransferMode": "STREAM"}), "POST /x: streamed responses"),
        (operation(integration={"timeoutInMillis": 10}), "POST /x: timeoutInMillis must be 50-300000, got 10"),
        (operation(integration={"timeoutInMillis": "10"}), "POST /x: timeoutInMillis must be 50-300000, got '10'"),
        (operation(integration={"uri": None}), "POST /x: Invalid ARN"),
        (
            operation(**{"x-amazon-apigateway-request-validator": "none"}),
            "POST /x: request validator or reference 'none' is not in the document",
        ),
    ],
)
def test_unsupported_operation_is_rejected(one: Any, says: str) -> None:
    with pytest.raises(DocumentError, match=says):
        compile_document("iris", document({"/x": {"post": one}}))


@pytest.mark.parametrize(
    ("root", "says"),
    [
        ({"policy": {}}, "x-amazon-apigateway-policy: not supported here"),
        ({"cors": {}}, "x-amazon-apigateway-cors: not supported here"),
        ({"api_key_source": "AUTHORIZER"}, "api-key-source: only HEADER"),
        ({"gateway_responses": []}, "gateway-responses.must be an object"),
        ({"gateway_responses": {"NOPE": {}}}, "gateway-responses.NOPE: no such type"),
        ({"gateway_responses": {"THROTTLED": 1}}, "THROTTLED: must be an object"),
        ({"gateway_responses": {"THROTTLED": {"extra": 1}}}, "THROTTLED.extra: not supported here"),
        ({"gateway_responses": {"THROTTLED": {"statusCode": "9"}}}, "THROTTLED.statusCode: must be 100-599, got '9'"),
        (
            {"gateway_responses": {"THROTTLED": {"responseParameters": {"gatewayresponse.header.A": "method.x"}}}},
            "must be a constant in single quotes, got 'method.x'",
        ),
        (
            {"gateway_responses": {"THROTTLED": {"responseParameters": {"gatewayresponse.header.A": "'a\r\nb'"}}}},
            "must be a constant",
        ),
        (
            {"gateway_responses": {"THROTTLED": {"responseParameters": {"gatewayresponse.body": "'a'"}}}},
            "gatewayresponse.body is not supported here",
        ),
        ({"gateway_responses": {"THROTTLED": {"responseTemplates": {"text/html": "x"}}}}, "text/html is not supported"),
        ({"gateway_responses": {"THROTTLED": {"responseTemplates": {"application/json": 1}}}}, "must be text, got 1"),
        (
            {"gateway_responses": {"THROTTLED": {"responseTemplates": {"application/json": "$context.authorizer.x"}}}},
            r"\$context.authorizer.x is not supported here",
        ),
        (
            {"gateway_responses": {"THROTTLED": {"responseTemplates": {"application/json": "$input.body"}}}},
            r"only \$context.x and \$stageVariables.x",
        ),
    ],
)
def test_unsupported_document_is_rejected(root: dict[str, Any], says: str) -> None:
    with pytest.raises(DocumentError, match=says):
        compile_document("iris", document({}, **root))


def test_all_problems_are_reported_together() -> None:
    paths = {"/a b": {"post": operation()}, "/y": {"get": {}, "post": operation(integration={"type": "http"})}}

    with pytest.raises(DocumentError) as raised:
        compile_document("iris", document(paths, policy={}))

    assert len(raised.value.problems) == 4
    assert str(raised.value).splitlines()[0] == "iris: x-amazon-apigateway-policy: not supported here"


def test_settings_without_local_effect_are_accepted() -> None:
    one = document(
        {"/x": {"summary": "text", "parameters": [], "post": operation(integration={"credentials": "arn:x"})}},
        endpoint_configuration={},
        documentation={},
        minimum_compression_size=0,
        api_key_source="HEADER",
    )

    compiled = compile_document("iris", one)

    assert compiled.notes == ("answers are not compressed here",)
    assert [result.function for result in compiled.operations] == ["fn:live"]


def test_resource_id_is_the_same_for_the_same_path() -> None:
    paths = {"/x": {"get": operation(), "post": operation()}, "/y": {"get": operation()}}

    one, two, other = compile_document("iris", document(paths)).operations

    assert one.resource_id == two.resource_id != other.resource_id
    assert len(one.resource_id) == 6


def customised(path: str = "/dev/unknown", **responses: Any) -> Response:
    under_test = gateway(
        {"/x": {"post": operation("${stageVariables.gone}")}},
        FakeFunctions(),
        stage(variables={"color": "blue"}),
        gateway_responses=responses,
        clock=lambda: 1428582896.789,
    )
    return respond(under_test, request(path, headers={"User-Agent": "test/1"}))


def test_customized_response_replaces_status_headers_and_body() -> None:
    template = """{"message": $context.error.messageString, "plain": "$context.error.message",
        "kind": "$context.error.responseType", "at": "$context.stage $context.path $context.requestTimeEpoch",
        "color": "$stageVariables.color", "none": "$stageVariables.none", "agent": "$context.identity.userAgent"}"""

    response = customised(
        MISSING_AUTHENTICATION_TOKEN={
            "statusCode": 404,
            "responseParameters": {"gatewayresponse.header.X-A": "'it, is'"},
            "responseTemplates": {"application/json": template},
        }
    )

    assert response.status == 404
    assert dict(response.headers)["X-A"] == "it, is"
    assert json.loads(response.body) == {
        "message": "Missing Authentication Token",
        "plain": "Missing Authentication Token",
        "kind": "MISSING_AUTHENTICATION_TOKEN",
        "at": "dev /dev/unknown 1428582896789",
        "color": "blue",
        "none": "",
        "agent": "test/1",
    }


def test_default_response_replaces_its_class_of_errors_and_keeps_their_status() -> None:
    headers = {"responseParameters": {"gatewayresponse.header.X-A": "'4xx'"}}
    server = {"responseParameters": {"gatewayresponse.header.X-A": "'5xx'"}}

    client_error = customised(DEFAULT_4XX=headers, DEFAULT_5XX=server)
    server_error = customised("/dev/x", DEFAULT_4XX=headers, DEFAULT_5XX=server)
    own = customised(DEFAULT_4XX=headers, MISSING_AUTHENTICATION_TOKEN={"statusCode": "405"})

    assert (client_error.status, dict(client_error.headers)["X-A"]) == (403, "4xx")
    assert client_error.body == b'{"message":"Missing Authentication Token"}'
    assert (server_error.status, dict(server_error.headers)["X-A"]) == (500, "5xx")
    assert (own.status, "X-A" in dict(own.headers)) == (405, False)

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.builders.documents import API_KEY_SCHEME, IAM_SCHEME, FakeFunctions, gateway, operation, request, respond
from turnout.gateway.rules.authorize import Access, ApiKey, ApiKeys, access_of

SCHEMES = {
    "key": API_KEY_SCHEME,
    "iam": IAM_SCHEME,
    "jwt": {
        "type": "apiKey",
        "name": "Authorization",
        "in": "header",
        "x-amazon-apigateway-authorizer": {"type": "jwt"},
    },
    "sneaky": {**API_KEY_SCHEME, "x-amazon-apigateway-authorizer": {"type": "token"}},
    "query": {"type": "apiKey", "name": "x-api-key", "in": "query"},
    "oauth": {"type": "oauth2"},
}


@pytest.mark.parametrize(
    ("security", "access", "scheme"),
    [
        (None, Access.OPEN, ""),
        ([], Access.OPEN, ""),
        ([{}], Access.OPEN, ""),
        ([{"key": []}], Access.API_KEY, ""),
        ([{}, {"key": []}], Access.API_KEY, ""),  # an alternative without a scheme gives no access
        ([{"iam": []}], Access.IAM, ""),
        ([{"key": [], "iam": []}], Access.IAM, ""),
        ([{"key": []}, {"jwt": []}], Access.AUTHORIZER, "jwt"),
        ([{"sneaky": []}], Access.AUTHORIZER, "sneaky"),
        ([{"query": []}], Access.AUTHORIZER, "query"),
        ([{"oauth": ["read"]}], Access.AUTHORIZER, "oauth"),
        ([{"nowhere": []}], Access.AUTHORIZER, "nowhere"),
    ],
)
def test_access_is_read_from_the_operation(security: Any, access: Access, scheme: str) -> None:
    assert access_of({} if security is None else {"security": security}, SCHEMES) == (access, scheme)


@pytest.mark.parametrize("others", [0, 1, 2, 50])  # a few keys are compared, many are looked up
def test_key_is_found_by_its_value_only(others: int) -> None:
    one, two = ApiKey("id1", "secret-one"), ApiKey("id2", "sécret-two")
    keys = ApiKeys([one, *(ApiKey(str(number), f"other-{number}") for number in range(others)), two])

    assert len(keys) == 2 + others
    assert keys.find("secret-one") == one
    assert keys.find("sécret-two") == two
    for wrong in (None, "", "secret-on", "secret-one ", "Secret-one", "id1"):
        assert keys.find(wrong) is None


def secured(scheme: str, **more: Any) -> Any:
    paths = {"/x": {"post": operation(security=[{scheme: []}])}}
    return gateway(paths, FakeFunctions(), components={"securitySchemes": SCHEMES}, **more)


@pytest.mark.parametrize(
    ("scheme", "headers", "status", "message", "error"),
    [
        ("key", {}, 403, "Forbidden", "ForbiddenException"),
        ("key", {"x-api-key": "wrong"}, 403, "Forbidden", "ForbiddenException"),
        ("iam", {}, 403, "Missing Authentication Token", "MissingAuthenticationTokenException"),
        ("iam", {"x-api-key": "right"}, 403, "Missing Authentication Token", "MissingAuthenticationTokenException"),
        ("jwt", {"Authorization": "Bearer x"}, 401, "Unauthorized", "UnauthorizedException"),
        ("nowhere", {}, 401, "Unauthorized", "UnauthorizedException"),
    ],
)
def test_request_without_credentials_is_rejected(
    scheme: str, headers: dict[str, str], status: int, message: str, error: str
) -> None:
    under_test = secured(scheme, api_keys={"dev": [ApiKey("id1", "right")]})

    response = respond(under_test, request("/dev/x", headers=headers))

    assert (response.status, json.loads(response.body)) == (status, {"message": message})
    assert dict(response.headers)["x-amzn-ErrorType"] == error


def test_valid_key_passes_and_the_function_sees_it() -> None:
    functions = FakeFunctions()
    under_test = gateway(
        {"/x": {"post": operation(security=[{"key": []}])}},
        functions,
        components={"securitySchemes": SCHEMES},
        api_keys={"dev": [ApiKey("id1", "right")]},
    )

    assert respond(under_test, request("/dev/x", headers={"X-API-Key": "right"})).status == 200
    identity = functions.events[0]["requestContext"]["identity"]
    assert (identity["apiKey"], identity["apiKeyId"]) == ("right", "id1")


def test_key_of_another_stage_is_rejected() -> None:
    under_test = secured("key", api_keys={"prod": [ApiKey("id1", "right")]})

    assert respond(under_test, request("/dev/x", headers={"x-api-key": "right"})).status == 403


def test_gateway_reports_what_it_cannot_check() -> None:
    assert secured("jwt").notes == ("'jwt' cannot be checked on this machine: every request to POST /x is refused",)
    assert secured("iam").notes == (
        "stage 'dev' requires signatures and no access key is known: every request is rejected",
    )
    assert secured("key").notes == ("stage 'dev' requires an API key and has none: every request is rejected",)
    assert secured("key", api_keys={"dev": [ApiKey("id1", "right")]}).notes == ()


def test_security_of_the_root_is_ignored() -> None:
    under_test = gateway({"/x": {"post": operation()}}, FakeFunctions(), components={"securitySchemes": SCHEMES})

    assert respond(under_test, request("/dev/x")).status == 200

"""The document for callers: any tool can read it, and it reveals nothing about the AWS account."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from openapi_spec_validator import OpenAPIV30SpecValidator

from router_lambda.general.open_inference import METHOD_OF, parse_path
from tests.builders.manifests import artifacts_of, manifest, manifests, stage
from turnout.manifest.parser import Manifest
from turnout.openapi.document import Document, build_document, lambda_uri, render_document
from turnout.openapi.public_document import HEALTH_PATHS, PROTOCOL_PATHS, publish_document
from turnout.plan.auth import AUTH_TYPES
from turnout.plan.planner import make_plan

ACCOUNT = "123456789012"


def published(of: Manifest) -> tuple[Document, Document]:
    """The document for AWS, and the one for callers."""
    plan = make_plan(of, artifacts_of(of), enforce=False)
    uri_of = lambda_uri("aws", "eu-central-1", ACCOUNT)
    document = build_document(plan, plan.apis[0], uri_of, credentials=f"arn:aws:iam::{ACCOUNT}:role/turnout")
    return document, publish_document(document)


@settings(max_examples=15, deadline=None)
@given(manifests())
def test_document_of_any_manifest_is_valid_and_without_account(of: Manifest) -> None:
    document, public = published(of)
    OpenAPIV30SpecValidator(public).validate()  # type: ignore[no-untyped-call]
    text = render_document(public)
    assert ACCOUNT.encode() not in text
    assert b"arn:" not in text
    assert set(re.findall(rb"x-amazon-apigateway-[a-z-]+", text)) <= {b"x-amazon-apigateway-authtype"}
    assert ACCOUNT.encode() in render_document(document)  # the original was not changed


def test_operations_are_unchanged_except_for_the_integration() -> None:
    document, public = published(manifest())
    for path in ("/models/iris/v1/inference", "/models", "/health/ready"):
        [(method, operation), *_] = document["paths"][path].items()
        expected = {key: value for key, value in operation.items() if key != "x-amazon-apigateway-integration"}
        assert public["paths"][path] == {method: expected}


@pytest.mark.parametrize("auth", sorted(AUTH_TYPES))
def test_authentication_is_described(auth: str) -> None:
    document, public = published(manifest(stages=(stage(auth=auth),)))
    for path in ("/models/iris/inference", "/v2", "/v2/models/{model}/infer"):
        [operation] = public["paths"][path].values()
        assert operation["security"] == ([] if auth == "none" else [{auth: []}])
    assert set(public["components"].get("securitySchemes", {})) == set(
        document["components"].get("securitySchemes", {})
    )


def test_every_path_of_the_protocol_is_described_and_answered() -> None:
    _, public = published(manifest())
    described = {(method, path) for path, item in public["paths"].items() if path.startswith("/v2") for method in item}
    assert described == {(method, path) for method, path, *_ in (*PROTOCOL_PATHS, *HEALTH_PATHS)}
    for method, path in described:
        asked = parse_path(path.removeprefix("/v2").strip("/"))
        assert asked is not None
        assert METHOD_OF[asked.what].lower() == method
        [operation] = public["paths"][path].values()
        assert ("requestBody" in operation) == (method == "post")


@pytest.mark.parametrize(
    ("choice", "expected"),
    [("off", set()), ("direct", {"/v2/models/iris/infer", "/v2/models/iris/versions/v1/infer"})],
)
def test_paths_of_the_protocol_follow_the_setting_of_the_manifest(choice: str, expected: set[str]) -> None:
    _, public = published(replace(manifest(), open_inference=choice))
    paths: dict[str, Any] = public["paths"]
    assert expected <= paths.keys()
    assert any(path.startswith("/v2") for path in paths) == (choice != "off")

"""The document can be imported: by moto's put_rest_api and import_rest_api, with warnings as failures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from moto import mock_aws

from tests.builders.manifests import artifacts_of, large_manifest, manifests
from turnout.manifest.parser import Manifest
from turnout.openapi.document import build_document, render_document
from turnout.plan.checks.quotas import count_resources
from turnout.plan.planner import make_plan
from turnout.plan.values import Api, Plan
from turnout.project.project import load_project


@pytest.fixture(scope="module")
def gateway() -> Iterator[Any]:
    with mock_aws():
        yield boto3.client(
            "apigateway", region_name="eu-central-1", aws_access_key_id="none", aws_secret_access_key="none"
        )


METHOD_OF_MOTO = {"ANY": "X-AMAZON-APIGATEWAY-ANY-METHOD"}
"""moto uses API Gateway's key as the name of the method."""


def resources_of(gateway: Any, api_id: str) -> dict[str, Any]:
    return {item["path"]: item for item in gateway.get_resources(restApiId=api_id, limit=500)["items"]}


def check_imported(gateway: Any, api_id: str, api: Api) -> None:
    """Check that every route exists with its integration, and as many resources as the plan counts."""
    resources = resources_of(gateway, api_id)
    assert len(resources) == count_resources(api.routes)
    for route in api.routes:
        method = resources[route.path]["resourceMethods"][METHOD_OF_MOTO.get(route.method, route.method)]
        integration = method["methodIntegration"]
        assert integration["type"] == "aws_proxy"
        assert integration["httpMethod"] == "POST"
        assert integration["uri"].endswith(f":function:{route.function}:${{stageVariables.alias}}/invocations")
        assert integration["timeoutInMillis"] == route.timeout_ms
        assert "200" in method["methodResponses"]
    posted = {path for path, resource in resources.items() if "resourceMethods" in resource}
    assert posted == {route.path for route in api.routes}


def import_all(gateway: Any, plan: Plan, examples: dict[tuple[str, str], Any]) -> None:
    for api in plan.apis:
        data = render_document(build_document(plan, api, examples=examples))
        imported = gateway.import_rest_api(body=data, failOnWarnings=True)
        assert imported["name"] == api.name
        check_imported(gateway, imported["id"], api)
        put = gateway.create_rest_api(name="put")
        for _ in range(2):  # the second import over the first
            gateway.put_rest_api(restApiId=put["id"], mode="overwrite", body=data, failOnWarnings=True)
            check_imported(gateway, put["id"], api)


def plan_of(of: Manifest) -> Plan:
    return make_plan(of, artifacts_of(of), enforce=False)


def test_sample_document_can_be_imported(gateway: Any, root: Path) -> None:
    project = load_project(root / "models.yaml", cache=False)
    import_all(gateway, make_plan(project.manifest, project.artifacts), project.first_requests)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(manifests())
def test_generated_documents_can_be_imported(gateway: Any, of: Manifest) -> None:
    import_all(gateway, plan_of(of), {})


def test_document_with_the_maximum_number_of_resources_can_be_imported(gateway: Any) -> None:
    plan = plan_of(large_manifest(48, 2))
    assert count_resources(plan.apis[0].routes) == 300
    body = render_document(build_document(plan, plan.apis[0]))
    check_imported(gateway, gateway.import_rest_api(body=body, failOnWarnings=True)["id"], plan.apis[0])


def test_removed_version_is_gone_after_an_overwriting_import(gateway: Any) -> None:
    before, after = plan_of(large_manifest(2, 2)), plan_of(large_manifest(2, 1))
    api = gateway.create_rest_api(name="api")
    for plan in (before, after):
        body = render_document(build_document(plan, plan.apis[0]))
        gateway.put_rest_api(restApiId=api["id"], mode="overwrite", body=body, failOnWarnings=True)
        check_imported(gateway, api["id"], plan.apis[0])

"""The guard rail's function, with boto3's own client."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from infra.guard_rail_function import handler, remove_canary

EVENT = {"rest_api_id": "abc123", "stage": "prod", "alarm": "turnout-prod_iris_v2_errors"}
WHERE = {"restApiId": "abc123", "stageName": "prod"}


@pytest.fixture
def client() -> Any:
    return boto3.client("apigateway", region_name="eu-west-1", aws_access_key_id="local", aws_secret_access_key="local")


def test_canary_is_removed_and_told(client: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with Stubber(client) as stub:
        stub.add_response("get_stage", {"canarySettings": {"percentTraffic": 10.0}}, WHERE)
        operations = [{"op": "remove", "path": "/canarySettings"}]
        stub.add_response("update_stage", {}, {**WHERE, "patchOperations": operations})
        done = remove_canary(client, EVENT)
        stub.assert_no_pending_responses()
    assert done == {"stage": "prod", "alarm": "turnout-prod_iris_v2_errors", "removed": True}
    assert json.loads(capsys.readouterr().out) == done


def test_stage_without_a_canary_is_left_alone(client: Any) -> None:
    with Stubber(client) as stub:
        stub.add_response("get_stage", {"stageName": "prod"}, WHERE)
        assert remove_canary(client, EVENT)["removed"] is False


def test_lambda_calls_it_with_boto3s_own_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with mock_aws():
        aws = boto3.client("apigateway")
        api = aws.create_rest_api(name="api")["id"]
        root = aws.get_resources(restApiId=api)["items"][0]["id"]
        aws.put_method(restApiId=api, resourceId=root, httpMethod="GET", authorizationType="NONE")
        called = {"type": "HTTP", "uri": "https://example.com", "integrationHttpMethod": "GET"}
        aws.put_integration(restApiId=api, resourceId=root, httpMethod="GET", **called)
        aws.create_deployment(restApiId=api, stageName="prod")
        assert handler({"rest_api_id": api, "stage": "prod", "alarm": "a"}, None)["removed"] is False


def test_refusal_is_raised_so_that_lambda_tries_again(client: Any) -> None:
    with Stubber(client) as stub:
        stub.add_client_error("get_stage", "TooManyRequestsException", http_status_code=429)
        with pytest.raises(client.exceptions.TooManyRequestsException):
            remove_canary(client, EVENT)

"""A stage behind boto3: found by its API's name, read, changed; errors are reported as sentences."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from turnout.canary.rollout.stage_control import (
    ApiGatewayStage,
    BucketTables,
    LambdaFunctions,
    LiveCanary,
    StageControlError,
    StageState,
    StageTarget,
    make_client,
    stage_state,
)
from turnout.protocol.routing.choice_tables import make_table

KEYS = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "eu-west-1"}


@pytest.fixture
def client() -> Iterator[Any]:
    """moto's API Gateway with one stage; a stub answers what moto does not support."""
    with mock_aws():
        client = boto3.client("apigateway", **KEYS)
        api = client.create_rest_api(name="shop-prod_none")["id"]
        root = client.get_resources(restApiId=api)["items"][0]["id"]
        client.put_method(restApiId=api, resourceId=root, httpMethod="GET", authorizationType="NONE")
        client.put_integration(
            restApiId=api, resourceId=root, httpMethod="GET", type="HTTP", uri="http://a.b", integrationHttpMethod="GET"
        )
        client.create_deployment(restApiId=api, stageName="prod", variables={"iris": "v1"})
        yield client


def test_stage_is_found_by_its_api_s_name_and_changed(client: Any) -> None:
    stage = ApiGatewayStage(client, "shop-prod_none", "prod", "stack prod")
    before = stage.read()
    assert (before.variables, before.canary) == ({"iris": "v1"}, None)
    stage.update([{"op": "replace", "path": "/variables/iris", "value": "v2"}])
    assert stage.read() == StageState(before.deployment_id, {"iris": "v2"})


def test_stage_is_called_at_its_api_s_own_endpoint(client: Any) -> None:
    (api,) = client.get_rest_apis()["items"]
    url = ApiGatewayStage(client, "shop-prod_none", "prod", "stack prod").url()
    assert url == f"https://{api['id']}.execute-api.eu-west-1.amazonaws.com"


def test_unknown_api_is_reported_with_the_existing_ones(client: Any) -> None:
    with pytest.raises(StageControlError, match="stack dev has no REST API called shop-dev_none") as caught:
        ApiGatewayStage(client, "shop-dev_none", "prod", "stack dev").read()
    assert "Existing APIs: shop-prod_none." in caught.value.hint


def test_two_apis_of_the_same_name_are_reported(client: Any) -> None:
    client.create_rest_api(name="shop-prod_none")
    with pytest.raises(StageControlError, match="has 2 REST APIs called shop-prod_none"):
        ApiGatewayStage(client, "shop-prod_none", "prod", "stack prod").read()


def test_an_error_of_aws_is_reported_in_its_words(client: Any) -> None:
    with pytest.raises(StageControlError, match="rejected the change of stage dev: NotFoundException: Invalid stage"):
        ApiGatewayStage(client, "shop-prod_none", "dev", "stack prod").read()


def test_an_unreachable_endpoint_is_reported() -> None:
    target = StageTarget(endpoint_url="http://127.0.0.1:9")
    with pytest.raises(StageControlError, match=r"http://127\.0\.0\.1:9 cannot be reached"):
        ApiGatewayStage(make_client("apigateway", target), "a", "b", str(target)).read()


def test_a_missing_region_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    with pytest.raises(StageControlError, match="stack prod cannot be reached: You must specify a region") as caught:
        make_client("apigateway", StageTarget("prod"))
    assert "AWS_REGION" in caught.value.hint


def test_the_region_is_the_one_that_pulumi_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    client = make_client("apigateway", StageTarget("prod"))
    assert client.meta.region_name == "eu-north-1"
    client.close()


def test_an_invalid_address_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    with pytest.raises(StageControlError, match="nonsense cannot be reached: Invalid endpoint"):
        make_client("apigateway", StageTarget(endpoint_url="nonsense", stack="prod"))


def test_defaults_that_aws_leaves_out_of_a_canary_are_filled_in() -> None:
    assert stage_state(
        {"deploymentId": "a", "canarySettings": {"deploymentId": "b", "percentTraffic": 5}}
    ) == StageState("a", {}, LiveCanary(5.0, {}, "b"))


@pytest.mark.parametrize(
    ("code", "expected"), [("", True), ("ResourceNotFoundException", False), ("AccessDeniedException", True)]
)
def test_the_existence_of_a_function_is_checked_without_running_it(code: str, expected: bool) -> None:
    client = boto3.client("lambda", **KEYS)
    asked = {"FunctionName": "shop-prod_iris_v2", "Qualifier": "live", "InvocationType": "DryRun"}
    with Stubber(client) as stub:
        if code:
            stub.add_client_error("invoke", code, expected_params=asked)
        else:
            stub.add_response("invoke", {"StatusCode": 204}, asked)
        assert LambdaFunctions(client).has("shop-prod_iris_v2:live") is expected
        stub.assert_no_pending_responses()


def test_a_function_is_assumed_to_exist_if_lambda_cannot_be_reached() -> None:
    assert LambdaFunctions(make_client("lambda", StageTarget(endpoint_url="http://127.0.0.1:9"))).has("a:live")


def test_pool_is_pinged_for_the_version() -> None:
    client = boto3.client("lambda", **KEYS)
    pools = {"shop-prod_iris_v1": "shop-prod_small_pool", "shop-prod_iris_v9": "shop-prod_small_pool"}
    asked = {"FunctionName": "shop-prod_small_pool", "Qualifier": "live"}

    def payload(version: str) -> bytes:
        return json.dumps({"turnout": {"ping": True, "pooled": ["iris", version]}}).encode()

    def body(fields: dict[str, Any]) -> io.BytesIO:
        return io.BytesIO(json.dumps(fields).encode())

    error = "the pool has no version `iris v9`: small"
    with Stubber(client) as stubber:
        stubber.add_response(
            "invoke", {"StatusCode": 200, "Payload": body({"statusCode": 200})}, {**asked, "Payload": payload("v1")}
        )
        stubber.add_response(
            "invoke",
            {"StatusCode": 200, "FunctionError": "Unhandled", "Payload": body({"errorMessage": error})},
            {**asked, "Payload": payload("v9")},
        )
        stubber.add_client_error("invoke", "ResourceNotFoundException", http_status_code=404)
        stubber.add_client_error("invoke", "AccessDeniedException", http_status_code=403)
        functions = LambdaFunctions(client, pools)
        assert [functions.has(f"shop-prod_iris_{version}:live") for version in ("v1", "v9", "v9", "v9")] == [
            True,
            False,
            False,
            True,
        ]


def test_tables_are_in_the_bucket_of_the_stack(client: Any) -> None:
    bucket = "shop-prod-123456789012-eu-west-1"
    s3 = boto3.client("s3", **KEYS)
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    tables = BucketTables(lambda service: boto3.client(service, **KEYS), "shop-prod", "stack prod")
    stage = ApiGatewayStage(client, "shop-prod_none", "prod", "stack prod", tables)
    name, text = make_table("prod", {"iris": "v2"})
    stage.store({name: text})
    stage.update([{"op": "replace", "path": "/variables/ChoiceTable", "value": name}])
    (kept,) = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert kept["Key"] == f"choices/{name}.json"
    # Another process reads what the stage names.
    again = BucketTables(lambda service: boto3.client(service, **KEYS), "shop-prod", "stack prod")
    assert ApiGatewayStage(client, "shop-prod_none", "prod", "stack prod", again).read().tables == {name: text}
    s3.put_object(Bucket=bucket, Key=kept["Key"], Body=b"{}")
    assert stage.read().tables == {name: text}
    strict = BucketTables(lambda service: boto3.client(service, **KEYS), "shop-prod", "stack prod")
    with pytest.raises(StageControlError, match="is damaged"):
        strict.read(name)
    s3.delete_object(Bucket=bucket, Key=kept["Key"])
    with pytest.raises(
        StageControlError, match=f"stack prod: the table choices/{name}.json of bucket {bucket}: "
    ) as caught:
        strict.read(name)
    assert "s3:PutObject" in caught.value.hint
    with pytest.raises(StageControlError, match="from a table"):
        ApiGatewayStage(client, "shop-prod_none", "prod", "stack prod").read()

"""The guard rail's function, with a real boto3 client."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from moto import mock_aws

from infra.observability.guard_rail_function import (
    ATTEMPTS,
    check_alarms,
    end_canary,
    end_routed,
    handler,
    is_split,
    retry_denied,
)
from tests.builders.alarms import put_alarms

EVENT = {"rest_api_id": "abc123", "stage": "prod", "alarm": "turnout-prod_iris_v2_errors"}
WHERE = {"restApiId": "abc123", "stageName": "prod"}
NAMED = {"names": ["iris_errors", "sales"], "prefix": "", "suffix": "_errors"}
EVERY = {"names": [], "prefix": "turnout-prod_", "suffix": "_errors"}


@pytest.fixture
def client() -> Any:
    return boto3.client("apigateway", region_name="eu-west-1", aws_access_key_id="local", aws_secret_access_key="local")


def test_canary_gets_no_more_requests_and_keeps_its_overrides(client: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with Stubber(client) as stub:
        stub.add_response("get_stage", {"canarySettings": {"percentTraffic": 10.0}}, WHERE)
        operations = [{"op": "replace", "path": "/canarySettings/percentTraffic", "value": "0.0"}]
        stub.add_response("update_stage", {}, {**WHERE, "patchOperations": operations})
        done = end_canary(client, EVENT, EVENT["alarm"])
        stub.assert_no_pending_responses()
    assert done == {"stage": "prod", "alarm": "turnout-prod_iris_v2_errors", "ended": True}
    assert json.loads(capsys.readouterr().out) == done


@pytest.mark.parametrize("settings", [{}, {"canarySettings": {"percentTraffic": 0.0}}])
def test_stage_whose_canary_gets_no_requests_is_not_changed(client: Any, settings: dict[str, Any]) -> None:
    with Stubber(client) as stub:
        stub.add_response("get_stage", {"stageName": "prod", **settings}, WHERE)
        assert end_canary(client, EVENT, "a")["ended"] is False


def test_lambda_calls_it_with_a_boto3_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with mock_aws():
        aws = boto3.client("apigateway")
        api = aws.create_rest_api(name="api")["id"]
        root = aws.get_resources(restApiId=api)["items"][0]["id"]
        aws.put_method(restApiId=api, resourceId=root, httpMethod="GET", authorizationType="NONE")
        called = {"type": "HTTP", "uri": "https://example.com", "integrationHttpMethod": "GET"}
        aws.put_integration(restApiId=api, resourceId=root, httpMethod="GET", **called)
        aws.create_deployment(restApiId=api, stageName="prod")
        assert handler({"rest_api_id": api, "stage": "prod", "alarm": "a"}, None)["ended"] is False
        assert handler({"rest_api_id": api, "stage": "prod", "alarms": NAMED}, None)["ended"] is False


def test_an_error_of_aws_is_raised_so_that_lambda_retries(client: Any) -> None:
    with Stubber(client) as stub:
        stub.add_client_error("get_stage", "TooManyRequestsException", http_status_code=429)
        with pytest.raises(client.exceptions.TooManyRequestsException):
            end_canary(client, EVENT, "a")


class FakeGateway:
    def __init__(self, percent: float) -> None:
        self.percent = percent

    def get_stage(self, **_where: str) -> dict[str, Any]:
        return {"canarySettings": {"percentTraffic": self.percent}}

    def update_stage(self, *, patchOperations: list[dict[str, str]], **_where: str) -> None:  # noqa: N803 - boto3's
        self.percent = float(patchOperations[0]["value"])


@pytest.mark.parametrize(
    ("alarms", "ringing", "is_ended"),
    [
        (NAMED, [], False),
        (NAMED, ["sales"], True),
        (NAMED, ["another"], False),
        (EVERY, ["turnout-prod_iris_v2_errors"], True),
        (EVERY, ["turnout-prod_iris_v2_throttles"], False),
        (EVERY, ["turnout-prod-eu_iris_v2_errors"], False),
    ],
)
def test_alarm_that_is_already_in_alarm_ends_the_canary(
    alarms: dict[str, Any], ringing: list[str], *, is_ended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    gateway = FakeGateway(10.0)
    with mock_aws():
        cloudwatch = boto3.client("cloudwatch")
        put_alarms(cloudwatch, ("iris_errors", "sales", *ringing), ringing)
        done = check_alarms(gateway, cloudwatch, {**EVENT, "alarms": alarms})
    assert done["ended"] is is_ended
    assert gateway.percent == (0.0 if is_ended else 10.0)


def test_denied_calls_of_a_new_role_are_retried(client: Any) -> None:
    denied = ClientError({"Error": {"Code": "AccessDeniedException"}}, "GetStage")
    answers: list[Any] = [denied, denied, {"ended": False}]
    slept: list[float] = []

    def call() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert retry_denied(call, slept.append) == {"ended": False}
    assert len(slept) == 2
    answers.extend([denied] * ATTEMPTS)
    with pytest.raises(ClientError):
        retry_denied(call, slept.append)


IRIS = {
    "model": "iris",
    "variable": "irisRoute",
    "version": "v2",
    "deployed": "v1.75,v2.25",
    "baseline": "v1.100",
    "alarms": ["iris_v2_errors", "sales"],
}
DIGITS = {**IRIS, "model": "digits", "variable": "digitsRoute", "alarms": ["digits_v2_errors", "sales"]}
ROUTED = {"rest_api_id": "abc123", "stage": "prod", "routed": [IRIS, DIGITS]}


@pytest.mark.parametrize(
    ("alarm", "digits", "ended"),
    [
        ("iris_v2_errors", "v1.75,v2.25", ["iris"]),
        ("sales", "v1.75,v2.25", ["iris", "digits"]),
        ("sales", "v1.100", ["iris"]),
        ("digits_v2_errors", "v2.100", []),
    ],
)
def test_routed_canaries_of_an_alarm_end_in_one_call(
    client: Any, capsys: pytest.CaptureFixture[str], alarm: str, digits: str, ended: list[str]
) -> None:
    with Stubber(client) as stub:
        stub.add_response("get_stage", {"variables": {"irisRoute": "v1.75,v2.25", "digitsRoute": digits}}, WHERE)
        if ended:
            operations = [{"op": "replace", "path": f"/variables/{model}Route", "value": "v1.100"} for model in ended]
            stub.add_response("update_stage", {}, {**WHERE, "patchOperations": operations})
        done = end_routed(client, ROUTED, [alarm])
        stub.assert_no_pending_responses()
    assert done == {"stage": "prod", "alarms": [alarm], "models": ended, "ended": bool(ended)}
    assert json.loads(capsys.readouterr().out) == done


@pytest.mark.parametrize(
    ("route", "deployed", "expected"),
    [
        ("v1.75,v2.25", "v1.75,v2.25", True),
        ("v1.99.5,v2.0.5", "v1.75,v2.25", True),
        ("v1.100,v2.0", "v1.100,v2.0", False),
        ("v1.100", "v1.75,v2.25", False),
        ("v1.0,v2.100", "v1.0,v2.100", True),
        ("v1.0,v2.100", "v1.75,v2.25", False),
        ("v2.100", "v1.75,v2.25", False),
        ("v1.50,v3.50", "v1.75,v2.25", False),
        ("", "v1.75,v2.25", False),
        ("graph", "v1.75,v2.25", False),
    ],
)
def test_only_a_routed_canary_that_gets_requests_is_ended(route: str, deployed: str, *, expected: bool) -> None:
    assert is_split(route, {**IRIS, "deployed": deployed}) is expected


def test_routed_canary_whose_alarm_is_already_in_alarm_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    variables = {"irisRoute": "v1.75,v2.25", "digitsRoute": "v1.75,v2.25"}
    with mock_aws():
        cloudwatch = boto3.client("cloudwatch")
        names = ("iris_v2_errors", "digits_v2_errors", "sales", "another")
        put_alarms(cloudwatch, names, ("digits_v2_errors", "another"))
        ending = FakeStage(variables)
        assert check_alarms(ending, cloudwatch, ROUTED)["models"] == ["digits"]
        assert ending.variables == {"irisRoute": "v1.75,v2.25", "digitsRoute": "v1.100"}
        assert check_alarms(ending, cloudwatch, ROUTED)["ended"] is False


class FakeStage:
    def __init__(self, variables: dict[str, str]) -> None:
        self.variables = variables

    def get_stage(self, **_where: str) -> dict[str, Any]:
        return {"variables": self.variables}

    def update_stage(self, *, patchOperations: list[dict[str, str]], **_where: str) -> None:  # noqa: N803 - boto3's
        self.variables |= {entry["path"].rpartition("/")[2]: entry["value"] for entry in patchOperations}

"""Stages of every kind, and functions with all settings of the manifest: the resulting state of the account."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest
from pulumi.automation import ConfigValue

from tests.engine.life import LEAVES_LOOPS, Life, functions, touched

pytestmark = LEAVES_LOOPS


def configuration(function: str) -> dict[str, Any]:
    result: dict[str, Any] = boto3.client("lambda").get_function_configuration(FunctionName=function)
    return result


@pytest.fixture
def varied(life: Life) -> Life:
    """Stages of every kind of authentication, a routed model, a graph, and functions that are kept warm."""
    tree = life.project.tree
    iris = {
        "v1": {
            "artifact": "models/iris/v1/model.onnx",
            "warm": {"provisioned": 2},
            "tracing": True,
            "environment": {"MODE": "fast"},
            "memory_mb": 2048,
            "reserved_concurrency": 7,
        },
        "v2": {
            "artifact": "models/iris/v2/model.onnx",
            "warm": {"snap_start": True},
            "ephemeral_storage_mb": 512,
            "slo": {"p99_ms": 200, "error_percent": 1},
        },
    }
    tree["models"]["iris"] = {"versions": iris, "routing": {"sticky": {"header": "x-user-id"}, "fallback": "v1"}}
    vote = [{"model": "iris", "version": name} for name in ("v1", "v2")]
    tree["models"]["vote"] = {"graph": {"ensemble": vote, "combine": "concatenate"}}
    serve = {"iris": "v1", "digits": "v1"}
    issuer = {"issuer": "https://issuer.example.com", "audience": ["turnout"]}
    tree["stages"] = {
        "dev": {"serve": serve},
        "prod": {"serve": serve, "auth": "api_key", "throttle": {"rate": 100, "burst": 200}},
        "ops": {"serve": serve, "auth": "iam"},
        "app": {
            "serve": {"digits": "v1"},
            "weights": {"iris": {"v1": 90, "v2": 10}},
            "auth": "jwt",
            "jwt": issuer,
        },
    }
    return life


def test_stages_and_functions_have_the_settings_of_the_manifest(varied: Life) -> None:
    varied.up()

    # One API for each kind of authentication, and each stage in its own.
    apis = {item["name"]: item["id"] for item in boto3.client("apigateway").get_rest_apis()["items"]}
    assert apis.keys() == {"turnout-test_none", "turnout-test_api_key", "turnout-test_iam", "turnout-test_jwt_app"}
    assert {name: varied.stage_named(name).api for name in ("dev", "prod", "ops", "app")} == {
        "dev": apis["turnout-test_none"],
        "prod": apis["turnout-test_api_key"],
        "ops": apis["turnout-test_iam"],
        "app": apis["turnout-test_jwt_app"],
    }
    assert varied.result.outputs["api_keys"].value.keys() == {"prod"}
    settings = boto3.client("apigateway").get_stage(restApiId=apis["turnout-test_api_key"], stageName="prod")
    throttle = settings["methodSettings"]["*/*"]
    assert (throttle["throttlingRateLimit"], throttle["throttlingBurstLimit"]) == (100.0, 200)

    # Weights, stickiness and graphs use the model's router.
    assert varied.stage_named("app").variables["iris"] == "router"
    assert varied.stage_named("app").variables["irisRoute"] == "v1.90,v2.10"
    assert varied.stage_named("dev").variables["vote"] == "router"
    assert {"turnout-test_iris_router", "turnout-test_vote_router"} <= functions()

    # What keeps a function warm, and what it may use.
    first = configuration("turnout-test_iris_v1")
    assert varied.world.aws.provisioned == {"turnout-test_iris_v1:live": 2}
    assert (first["MemorySize"], first["TracingConfig"]["Mode"]) == (2048, "Active")
    assert first["Environment"]["Variables"]["MODE"] == "fast"
    assert varied.world.aws.snap_start["turnout-test_iris_v1"] == "None"
    assert varied.world.aws.snap_start["turnout-test_iris_v2"] == "PublishedVersions"
    client = boto3.client("lambda")
    assert client.get_function_concurrency(FunctionName="turnout-test_iris_v1")["ReservedConcurrentExecutions"] == 7
    assert "ReservedConcurrentExecutions" not in client.get_function_concurrency(FunctionName="turnout-test_iris_v2")
    alarms = {
        metric_alarm["AlarmName"]: metric_alarm
        for metric_alarm in boto3.client("cloudwatch").describe_alarms()["MetricAlarms"]
    }
    assert alarms["turnout-test_iris_v2_p99"]["Threshold"] == 200
    assert "turnout-test_iris_v1_p99" not in alarms

    # A second update changes nothing.
    assert varied.up() == []

    # Removed settings are reset; a setting alone makes a version, to which the aliases move.
    prod, iris = varied.project.prod, varied.project.tree["models"]["iris"]["versions"]
    del prod["throttle"], iris["v1"]["warm"], iris["v1"]["reserved_concurrency"]
    iris["v1"]["memory_mb"] = 1024
    company = make_company()
    for name, value in company.items():
        varied.stack.set_config(f"turnout:{name}", ConfigValue(value))
    done = touched(varied.up())
    assert ("delete", "MethodSettings", "prod") in done
    assert varied.world.aws.provisioned == {}
    assert "ReservedConcurrentExecutions" not in client.get_function_concurrency(FunctionName="turnout-test_iris_v1")
    assert varied.world.aws.sent == []
    assert varied.alias("turnout-test_iris_v1", "live") == "2"
    check_company(varied, company)


def make_company() -> dict[str, str]:
    """Make a network, an endpoint, keys and a web ACL; return the stack's configuration that names them."""
    ec2, kms, waf = boto3.client("ec2"), boto3.client("kms"), boto3.client("wafv2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    group = ec2.create_security_group(GroupName="models", Description="models", VpcId=vpc)["GroupId"]
    service = "com.amazonaws.eu-central-1.execute-api"
    endpoint = ec2.create_vpc_endpoint(VpcId=vpc, ServiceName=service, VpcEndpointType="Interface", SubnetIds=[subnet])[
        "VpcEndpoint"
    ]["VpcEndpointId"]
    logs = json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": "logs.eu-central-1.amazonaws.com"},
                    "Action": ["kms:Encrypt*", "kms:Decrypt*", "kms:GenerateDataKey*"],
                    "Resource": "*",
                }
            ],
        }
    )
    acl = waf.create_web_acl(
        Name="models",
        Scope="REGIONAL",
        DefaultAction={"Allow": {}},
        VisibilityConfig={"SampledRequestsEnabled": False, "CloudWatchMetricsEnabled": False, "MetricName": "models"},
        Rules=[],
    )["Summary"]["ARN"]
    return {
        "subnet_ids": json.dumps([subnet]),
        "security_group_ids": json.dumps([group]),
        "vpc_endpoint_ids": json.dumps([endpoint]),
        "web_acl_arn": acl,
        "log_kms_key_arn": kms.create_key(Policy=logs)["KeyMetadata"]["Arn"],
        "environment_kms_key_arn": kms.create_key()["KeyMetadata"]["Arn"],
    }


def check_company(life: Life, company: dict[str, str]) -> None:
    """Check that the stack uses the company's network, keys and web ACL, and that AWS's rejections are reported."""
    first = configuration("turnout-test_iris_v1")
    assert first["VpcConfig"]["SubnetIds"] == json.loads(company["subnet_ids"])
    assert life.world.aws.environment_keys["turnout-test_iris_v1"] == company["environment_kms_key_arn"]
    waf = boto3.client("wafv2")
    for name in ("dev", "prod", "ops", "app"):
        arn = f"arn:aws:apigateway:eu-central-1::/restapis/{life.stage_named(name).api}/stages/{name}"
        assert waf.get_web_acl_for_resource(ResourceArn=arn)["WebACL"]["ARN"] == company["web_acl_arn"]

    life.check_deployer_policy()

    # A key that CloudWatch Logs may not use ends the deployment with AWS's message.
    life.stack.set_config("turnout:log_kms_key_arn", ConfigValue(company["environment_kms_key_arn"]))
    assert "is not allowed to be used by logs.eu-central-1.amazonaws.com" in life.fail()


def test_only_a_stage_with_another_authentication_moves_to_another_api(life: Life) -> None:
    life.project.tree["stages"]["dev"] = {"serve": {"iris": "v1", "digits": "v1"}}
    life.project.prod["consumers"] = {
        "web-app": {
            "models": ["iris"],
            "throttle": {"rate": 10, "burst": 20},
            "quota": {"requests": 9, "period": "day"},
        }
    }
    life.project.prod["cors"] = {"origins": ["https://app.example.com"]}
    life.project.prod["async"] = {}
    certificate = "arn:aws:acm:eu-central-1:123456789012:certificate/1"
    life.project.tree["domain"] = {"name": "ml.example.com", "certificate_arn": certificate, "hosted_zone_id": "Z1"}
    life.up()
    domains, addresses = life.world.aws.domains, life.result.outputs["domain"].value
    prod_api = life.stage_named("prod").api
    assert domains.paths == {
        ("ml.example.com", "prod"): (prod_api, "prod"),
        ("ml.example.com", "dev"): (life.stage_named("dev").api, "dev"),
        ("ml.example.com", ""): (prod_api, "prod"),
    }
    assert domains.records == {"ml.example.com": addresses["target"]}
    check_consumers(life)
    before = {name: life.stage_named(name) for name in ("dev", "prod")}
    key = life.result.outputs["api_keys"].value["prod"]

    life.project.tree["stages"]["dev"]["auth"] = "iam"
    done = touched(life.up())

    assert life.stage_named("dev").api != before["dev"].api
    assert life.stage_named("prod") == before["prod"]
    assert life.result.outputs["api_keys"].value["prod"] == key
    assert not [entry for entry in done if entry[1] == "Function" or entry[2] == "prod"]
    apis = {item["name"] for item in boto3.client("apigateway").get_rest_apis()["items"]}
    assert apis == {"turnout-test_iam", "turnout-test_api_key_prod"}

    # The address stays: its path leads to the other API, and did so before the old one was deleted.
    assert life.result.outputs["domain"].value == addresses
    assert domains.changes == [("ml.example.com", "dev")]
    assert domains.paths["ml.example.com", "dev"] == (life.stage_named("dev").api, "dev")

    # A second key keeps the first one, and the authorizer's table contains both.
    old = life.result.outputs["consumer_keys"].value["prod"]["web-app"]
    life.project.prod["consumers"]["web-app"]["keys"] = ["k1", "k2"]
    life.project.tree["domain"]["base_path"] = "team"
    life.up()
    new = life.result.outputs["consumer_keys"].value["prod"]["web-app"]
    assert (new["k1"], set(new)) == (old["k1"], {"k1", "k2"})
    assert (life.alias("turnout-test_callers", "live"), life.up()) == ("2", [])

    # A path of several levels is free for a moment when its stage moves, after the new stage is ready.
    assert {path for _, path in domains.paths} == {"team", "team/dev", "team/prod"}
    life.project.tree["stages"]["dev"]["auth"] = "none"
    moved = [f"{verb} {kind.rpartition(':')[2]}" for verb, kind, _, _ in life.up()]
    steps = [step for step in moved if step.endswith(("ApiMapping", "Stage"))]
    assert steps == ["create Stage", "delete ApiMapping", "create ApiMapping", "delete Stage"]
    assert domains.paths["ml.example.com", "team/dev"] == (life.stage_named("dev").api, "dev")
    life.check_deployer_policy()


def check_consumers(life: Life) -> None:
    """Check what the consumers' usage plan allows, and that the authorizer can be called."""
    client = boto3.client("apigateway")
    plans = {item["name"]: item for item in client.get_usage_plans()["items"]}
    plan = plans["turnout-test_api_key_prod_prod_web-app"]
    assert (plan["throttle"]["rateLimit"], plan["throttle"]["burstLimit"]) == (10.0, 20)
    assert (plan["quota"]["limit"], plan["quota"]["period"]) == (9, "DAY")
    (key,) = client.get_usage_plan_keys(usagePlanId=plan["id"])["items"]
    value = client.get_api_key(apiKey=key["id"], includeValue=True)["value"]
    output = life.result.outputs["consumer_keys"]
    assert (output.value, output.secret) == ({"prod": {"web-app": {"k1": value}}}, True)
    assert life.alias("turnout-test_callers", "live") == "1"

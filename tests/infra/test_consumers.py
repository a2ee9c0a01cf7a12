"""Consumers on AWS: usage plans, keys, and the authorizer that API Gateway calls."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from tests.builders.deployed import deployed
from tests.builders.manifests import artifacts_of, manifest, stage
from tests.builders.pulumi_program import Program
from turnout.manifest.access import Consumer, Cors, RequestQuota
from turnout.plan.planner import make_plan
from turnout.plan.values import Plan
from turnout.protocol.aws.callers import TABLE, digest_key

CONSUMERS = (
    Consumer("web-app", ("iris",), 10.0, 20, RequestQuota(1000, "day"), "2027-01-31", ("k1", "k2")),
    Consumer("batch"),
)


@pytest.fixture(scope="module")
def program() -> Program:
    return deployed(manifest(stages=(stage("dev"), stage(auth="api_key", consumers=CONSUMERS))))


def test_each_consumer_has_a_usage_plan_with_its_limits(program: Program) -> None:
    plans = program.of("apigateway/usagePlan:UsagePlan")
    assert plans.keys() == {f"turnout-test_api_key_prod_prod{suffix}" for suffix in ("", "_web-app", "_batch")}
    web = plans["turnout-test_api_key_prod_prod_web-app"].inputs
    assert web["throttleSettings"] == {"rateLimit": 10.0, "burstLimit": 20}
    assert web["quotaSettings"] == {"limit": 1000, "period": "DAY"}
    assert web["apiStages"] == [{"apiId": "turnout-test_api_key_prod-id", "stage": "prod"}]
    batch = plans["turnout-test_api_key_prod_prod_batch"].inputs
    assert "throttleSettings" not in batch
    assert "quotaSettings" not in batch


def test_each_key_belongs_to_the_plan_of_its_consumer_and_is_a_secret_output(program: Program) -> None:
    links = program.of("apigateway/usagePlanKey:UsagePlanKey")
    assert {name: link.inputs["usagePlanId"] for name, link in links.items()} == {
        "turnout-test_api_key_prod_prod": "turnout-test_api_key_prod_prod-id",
        "turnout-test_api_key_prod_prod_web-app_k1": "turnout-test_api_key_prod_prod_web-app-id",
        "turnout-test_api_key_prod_prod_web-app_k2": "turnout-test_api_key_prod_prod_web-app-id",
        "turnout-test_api_key_prod_prod_batch_k1": "turnout-test_api_key_prod_prod_batch-id",
    }
    assert program.outputs["consumer_keys"] == {
        "prod": {
            "web-app": {key: f"secret-turnout-test_api_key_prod_prod_web-app_{key}" for key in ("k1", "k2")},
            "batch": {"k1": "secret-turnout-test_api_key_prod_prod_batch_k1"},
        }
    }


def test_authorizer_has_a_table_of_digests_and_no_key(program: Program) -> None:
    function = program.of("lambda/function:Function")["callers"].inputs
    assert function["name"] == "turnout-test_callers"
    assert function["handler"] == "callers.handler"
    assets = function["code"].assets
    assert assets.keys() == {"callers.py", TABLE}
    table = json.loads(assets[TABLE].text)
    prefix = "secret-turnout-test_api_key_prod_prod"
    web = {"caller": "web-app", "models": ["iris"], "expires": "2027-01-31"}
    assert table == {
        "prod": {
            digest_key(prefix): {"caller": "owner", "models": None, "expires": ""},
            digest_key(f"{prefix}_web-app_k1"): web,
            digest_key(f"{prefix}_web-app_k2"): web,
            digest_key(f"{prefix}_batch_k1"): {"caller": "batch", "models": None, "expires": ""},
        }
    }
    assert "secret-" not in assets[TABLE].text


def test_document_names_the_authorizer_in_addition_to_the_key(program: Program) -> None:
    documents = {
        resource.inputs["name"]: orjson.loads(resource.inputs["body"])
        for resource in program.of("apigateway/restApi:RestApi").values()
    }
    document = documents["turnout-test_api_key_prod"]
    scheme: dict[str, Any] = document["components"]["securitySchemes"]["callers"]
    authorizer = scheme["x-amazon-apigateway-authorizer"]
    assert authorizer["authorizerUri"].endswith(":function:turnout-test_callers:live/invocations")
    assert authorizer["authorizerCredentials"].endswith(":role/turnout-test_integration")
    assert authorizer["identitySource"] == "method.request.header.x-api-key, context.path, context.httpMethod"
    for path, item in document["paths"].items():
        for operation in item.values():
            is_health = "health" in path
            assert operation["security"] == ([] if is_health else [{"api_key": [], "callers": []}]), path
    assert "callers" not in documents["turnout-test_none"].get("components", {}).get("securitySchemes", {})
    alias = program.of("lambda/alias:Alias")["callers"].inputs
    assert (alias["name"], alias["functionName"]) == ("live", "turnout-test_callers")


def test_access_log_names_the_caller_if_there_are_consumers(program: Program) -> None:
    stages = program.of("apigateway/stage:Stage")
    formats = {name: json.loads(stage.inputs["accessLogSettings"]["format"]) for name, stage in stages.items()}
    assert formats["prod"]["caller"] == "$context.authorizer.caller"
    assert formats["dev"]["caller"] == "-"


def test_stack_without_consumers_has_no_authorizer() -> None:
    program = deployed(manifest(stages=(stage(auth="api_key"),)))
    assert "callers" not in program.of("lambda/function:Function")
    assert "consumer_keys" not in program.outputs


def test_preflights_bypass_the_authorizer() -> None:
    of = manifest(stages=(stage(auth="api_key", consumers=CONSUMERS, cors=Cors(("https://a.example",))),))
    document = orjson.loads(deployed(of).one("apigateway/restApi:RestApi").inputs["body"])
    assert all(item["options"]["security"] == [] for item in document["paths"].values())
    denied = document["x-amazon-apigateway-gateway-responses"]["ACCESS_DENIED"]
    assert denied["statusCode"] == "403"
    assert "gatewayresponse.header.Access-Control-Allow-Origin" in denied["responseParameters"]


def test_plan_counts_usage_plans_and_notes_too_many() -> None:
    def plan_of(count: int) -> Plan:
        of = manifest(stages=(stage(auth="api_key", consumers=tuple(Consumer(f"c{n}") for n in range(count))),))
        return make_plan(of, artifacts_of(of))

    (quota,) = (entry for entry in plan_of(2).quotas if entry.name == "usage plans")
    assert (quota.used, quota.allowed) == (3, 300)
    assert [note.path for note in plan_of(300).notes] == ["stages.prod.consumers"]
    assert plan_of(299).notes == ()
    assert not [entry for entry in plan_of(0).quotas if entry.name == "usage plans"]

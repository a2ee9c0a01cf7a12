"""A stage as API Gateway gets it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from tests.builders.deployed import deployed
from tests.builders.manifests import manifest, stage
from tests.builders.pulumi_program import Program
from turnout.manifest.parser import Canary, Jwt, Throttle


def deployed_stage(**fields: Any) -> Program:
    return deployed(manifest(stages=(stage(**fields),)))


def test_stage_without_a_canary_uses_the_newest_deployment() -> None:
    made = deployed_stage().one("apigateway/stage:Stage")
    assert made.inputs["variables"] == {"iris": "v1", "alias": "live", "canary": "false"}
    assert made.inputs["deployment"] == "turnout-test_none-id"
    assert "canarySettings" not in made.inputs
    assert made.ignored == ()


def test_version_canary_overrides_a_variable_of_the_same_deployment() -> None:
    made = deployed_stage(canary=Canary(12.5, {"iris": "v2"})).one("apigateway/stage:Stage")
    assert made.inputs["canarySettings"] == {
        "deploymentId": made.inputs["deployment"],
        "percentTraffic": 12.5,
        "stageVariableOverrides": {"iris": "v2", "canary": "true"},
        "useStageCache": False,
    }
    assert made.ignored == ("deployment",), "API Gateway refuses another deployment while the canary is on"


def test_release_canary_keeps_the_deployment_of_the_baseline() -> None:
    made = deployed_stage(canary=Canary(5.0, {}, release=True)).one("apigateway/stage:Stage")
    assert made.inputs["canarySettings"]["stageVariableOverrides"]["alias"] == "next"
    assert made.ignored == ("deployment",)


def test_throttle_applies_to_every_method() -> None:
    made = deployed_stage(throttle=Throttle(100.0, 200)).of("apigateway/methodSettings:MethodSettings")
    (inputs,) = (resource.inputs for resource in made.values() if resource.inputs["methodPath"] == "*/*")
    assert inputs["settings"] == {"throttlingRateLimit": 100, "throttlingBurstLimit": 200}


def test_health_routes_have_separate_settings_next_to_a_throttle() -> None:
    made = deployed_stage(throttle=Throttle(1.0, 1)).of("apigateway/methodSettings:MethodSettings")
    settings = {resource.inputs["methodPath"]: resource.inputs["settings"] for resource in made.values()}
    del settings["*/*"]
    assert settings.keys() == {
        f"{path}/{method}"
        for path in ("health/live", "health/ready", "v2/health/{check}")
        for method in ("GET", "HEAD")
    }
    assert all(
        setting == {"throttlingRateLimit": 10_000, "throttlingBurstLimit": 5_000} for setting in settings.values()
    )


def test_only_existing_health_routes_get_settings() -> None:
    of = replace(manifest(stages=(stage(throttle=Throttle(1.0, 1)),)), open_inference="off")
    made = deployed(of).of("apigateway/methodSettings:MethodSettings")
    assert {resource.inputs["methodPath"].partition("/")[0] for resource in made.values()} == {"*", "health"}


def test_stage_without_a_throttle_has_no_settings() -> None:
    assert deployed_stage().of("apigateway/methodSettings:MethodSettings") == {}


CLIENT_CHOOSES = {
    "authorizer",
    "customDomain",
    "domainName",
    "domainPrefix",
    "error.message",
    "error.messageString",
    "error.validationErrorString",
    "identity.apiKey",
    "identity.userAgent",
    "integration.error",
    "integrationErrorMessage",
    "path",
    "protocol",
}
"""Names below `$context` whose values contain, or may contain, what a client sends."""

HOSTILE = 'curl", "status": "200", "x": "\n{"status": "200"}'


def test_access_log_contains_no_text_that_a_client_chooses() -> None:
    form = deployed_stage().one("apigateway/stage:Stage").inputs["accessLogSettings"]["format"]
    names = set(re.findall(r"\$context\.([A-Za-z0-9_.]+)", form))
    assert not {name for name in names if name in CLIENT_CHOOSES or name.partition(".")[0] in CLIENT_CHOOSES}
    assert {"requestId", "extendedRequestId"} <= names

    # API Gateway replaces each variable by its value, without escaping.
    line = re.sub(r"\$context\.([A-Za-z0-9_.]+)", lambda match: HOSTILE if match[1] in CLIENT_CHOOSES else "502", form)
    assert json.loads(line)["status"] == "502"
    assert "\n" not in line


def test_access_log_is_json_and_reports_the_canary() -> None:
    program = deployed_stage()
    logged = program.one("apigateway/stage:Stage").inputs["accessLogSettings"]
    form = json.loads(logged["format"])
    assert form["canary"] == "$context.isCanaryRequest"
    assert form["time"] == "$context.requestTime"
    assert form["function_request_id"] == "$context.integration.requestId"
    assert len(logged["format"]) < 3 * 1024
    names = {resource.inputs["name"] for resource in program.of("cloudwatch/logGroup:LogGroup").values()}
    group = "/aws/apigateway/turnout-test_none/prod"
    assert {group, f"{group}/Canary"} <= names


def test_api_key_has_a_usage_plan_for_its_stage() -> None:
    program = deployed_stage(auth="api_key")
    plan = program.one("apigateway/usagePlan:UsagePlan").inputs
    assert plan["apiStages"] == [{"apiId": "turnout-test_api_key-id", "stage": "prod"}]
    key = program.one("apigateway/usagePlanKey:UsagePlanKey").inputs
    assert key["keyType"] == "API_KEY"
    assert program.outputs["api_keys"] == {"prod": "secret-turnout-test_api_key_prod"}


@pytest.mark.parametrize(
    "asked", [{"auth": "none"}, {"auth": "iam"}, {"auth": "jwt", "jwt": Jwt("https://issuer.example", ("us",))}]
)
def test_other_authentication_is_only_in_the_document(asked: dict[str, Any]) -> None:
    program = deployed_stage(**asked)
    assert program.of("apigateway/apiKey:ApiKey") == {}
    assert program.outputs["api_keys"] == {}

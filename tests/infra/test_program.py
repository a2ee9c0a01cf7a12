"""The whole program: what it makes of the sample, and how it reports problems before anything is made."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pulumi
import pytest

from tests.builders.deployed import deployed
from tests.builders.manifests import manifest, model, stage
from tests.builders.pulumi_program import ACCOUNT, REGION, Program, run_program
from turnout.manifest.parser import AccountQuotas, Canary, Model, Routing, Version
from turnout.packaging.layer import LayerError


@pytest.fixture(scope="module")
def sample(root: Path) -> Program:
    """The repository's own models.yaml."""
    return deployed(root, stack="prod")


def test_sample_has_a_function_a_log_group_and_an_alias_for_each_version(sample: Program) -> None:
    served = {"iris_v1", "iris_v2", "digits_v1", "digits_v2", "spam_v1", "credit_v1", "router"}
    functions = sample.of("lambda/function:Function")
    assert functions.keys() == served | {"guard-rail"}
    assert {functions[name].inputs["name"] for name in served} == {f"turnout-prod_{name}" for name in served}
    assert sample.of("lambda/alias:Alias").keys() == {f"{name}_live" for name in served}
    logs = {entry.inputs["name"] for entry in sample.of("cloudwatch/logGroup:LogGroup").values()}
    assert {f"/aws/lambda/turnout-prod_{name}" for name in served} <= logs


def test_sample_has_an_api_for_each_kind_of_authentication(sample: Program) -> None:
    assert sample.of("apigateway/restApi:RestApi").keys() == {"turnout-prod_none", "turnout-prod_api_key"}
    stages = sample.of("apigateway/stage:Stage")
    assert {name: stage.inputs["restApi"] for name, stage in stages.items()} == {
        "dev": "turnout-prod_none-id",
        "prod": "turnout-prod_api_key-id",
    }


def test_sample_exports_its_addresses_and_keys(sample: Program) -> None:
    assert sample.outputs["endpoints"] == {"dev": "https://dev.example", "prod": "https://prod.example"}
    assert sample.outputs["api_keys"] == {"prod": "secret-turnout-prod_api_key_prod"}
    assert sample.outputs["stages"]["prod"]["variables"]["iris"] == "v1"
    assert sample.outputs["stages"]["prod"]["canary"] == {
        "percent": 10.0,
        "overrides": {"iris": "v2", "canary": "true"},
    }
    assert sample.outputs["stages"]["dev"]["canary"] is None
    assert sample.outputs["rest_apis"] == {"dev": "turnout-prod_none-id", "prod": "turnout-prod_api_key-id"}
    assert "turnout-prod_iris_v2" in sample.outputs["functions"]
    assert sample.outputs["dashboard"] == "turnout-prod"


def test_every_resource_except_the_dashboard_is_part_of_a_component(sample: Program) -> None:
    rootless = [resource.urn.split("::")[2] for resource in sample.resources if resource.type.startswith("aws:")]
    assert [kinds for kinds in rootless if "turnout:infra:" not in kinds] == [
        "pulumi:pulumi:Stack$aws:cloudwatch/dashboard:Dashboard"
    ]


def test_documents_contain_the_literal_account_region_and_partition() -> None:
    answers = {
        "aws:index/getCallerIdentity:getCallerIdentity": {"accountId": "999999999999"},
        "aws:index/getPartition:getPartition": {"partition": "aws-us-gov"},
        "aws:index/getRegion:getRegion": {"region": "us-gov-west-1"},
    }
    program = deployed(manifest(), preview=True, answers=answers)
    document = program.one("apigateway/restApi:RestApi").inputs["body"]
    operation = orjson.loads(document)["paths"]["/models/iris/v1/inference"]["post"]
    assert operation["x-amazon-apigateway-integration"]["uri"] == (
        "arn:aws-us-gov:apigateway:us-gov-west-1:lambda:path/2015-03-31/functions/"
        "arn:aws-us-gov:lambda:us-gov-west-1:999999999999:function:turnout-test_iris_v1:${stageVariables.alias}/invocations"
    )
    texts = json.dumps([dict(resource.inputs) for resource in program.resources], default=vars)
    assert "arn:aws:" not in texts


def test_stages_wait_for_the_functions_that_they_call(sample: Program) -> None:
    for entry in sample.of("apigateway/stage:Stage").values():
        kinds = Counter(urn.split("::")[2].rpartition("$")[2] for urn in entry.after)
        assert kinds["aws:lambda/alias:Alias"] == 7
        assert kinds["aws:apigateway/account:Account"] == 1


def test_account_wide_setting_is_not_changed_if_so_configured() -> None:
    program = deployed(manifest(), account_logging="false")
    assert program.of("apigateway/account:Account") == {}


OWN = f"arn:aws:iam::{ACCOUNT}:role/turnout-test-logs-{REGION}"
OTHERS = f"arn:aws:iam::{ACCOUNT}:role/somebody-elses"


@pytest.mark.parametrize(
    ("role", "before", "makes", "says"),
    [
        ("", {}, True, "this stack sets"),
        (OTHERS, {}, False, f"as {OTHERS}, which was set elsewhere"),
        (OWN, {}, False, "which an earlier deployment of this stack set"),  # destroyed since then, and created again
        (OWN, {"account_logging": True}, True, ""),
        (OTHERS, {"account_logging": True}, False, "was set elsewhere"),
        (OWN, {"endpoints": {}}, True, ""),  # deployed by an older version, which has no such output
        # removing it would reset the setting; with this version it no longer does
        (OTHERS, {"endpoints": {}}, True, ""),
        (None, {}, False, "cannot be read"),
        (None, {"account_logging": True}, True, ""),
        (None, {"account_logging": False}, False, "cannot be read"),
        ("", {"account_logging": True}, True, "this stack sets"),
    ],
)
def test_account_wide_setting_is_made_if_none_is_set_and_stays_when_the_stack_is_destroyed(
    role: str | None, before: dict[str, Any], *, makes: bool, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    program = deployed(manifest(), logs_role=role, before=before)
    assert len(program.of("apigateway/account:Account")) == makes
    assert program.outputs["account_logging"] is makes
    kept = [
        resource for resource in program.resources if resource.name == "api-logs" and resource.type.startswith("aws:")
    ]
    assert all(entry.retained for entry in kept)
    assert {entry.type.rpartition(":")[2] for entry in kept} == (
        {"Account", "Role", "RolePolicyAttachment"} if makes else set()
    )
    results = [line for line in caplog.messages if "turnout:account_logging: " in line]
    assert (says in "".join(results)) if says else results == []


def test_open_stages_and_routes_that_only_the_canary_has_are_reported_in_the_preview(
    caplog: pytest.LogCaptureFixture,
) -> None:
    of = manifest(stages=(stage(canary=Canary(10.0, {"iris": "v2"})),))
    before = {"functions": ["turnout-test_iris_v1"], "stages": {"prod": {}}}
    program = deployed(of, before=before)
    assert "stages.prod.auth: with `none`, anyone who knows the address can call the stage" in caplog.text
    assert "stages.prod.canary: only the canary's share sees POST /models/iris/v2/inference" in caplog.text
    assert program.outputs["canary_routes"] == {"prod": ["POST /models/iris/v2/inference"]}


def test_deployment_changes_with_the_document_and_old_ones_are_kept() -> None:
    first, other = deployed(manifest()), deployed(manifest((model(versions=("v1", "v2", "v3")),)))
    triggers = [entry.one("apigateway/deployment:Deployment").inputs["triggers"] for entry in (first, other)]
    assert triggers[0] != triggers[1]
    assert first.one("apigateway/deployment:Deployment").retained


def test_import_makes_no_documentation_parts() -> None:
    assert deployed(manifest()).one("apigateway/restApi:RestApi").inputs["parameters"] == {"ignore": "documentation"}


MANIFEST = """
models:
  iris:
    versions:
      v1: {artifact: missing.onnx, memory_mb: 64}
stages:
  prod: {serve: {iris: v1}}
"""


def test_invalid_manifest_is_reported_as_by_validate_before_any_resource(tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text(MANIFEST)
    with pytest.raises(pulumi.RunError) as raised:
        deployed(tmp_path)
    validated = subprocess.run(
        [sys.executable, "-m", "turnout.cli", "validate", "--manifest", str(tmp_path / "models.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "missing.onnx" in str(raised.value)
    assert str(raised.value) in validated.stderr


def test_too_long_name_is_reported_before_any_resource() -> None:
    with pytest.raises(pulumi.RunError, match=r"function's name: 7\d characters used, 64 characters allowed"):
        deployed(manifest(platform="p" * 60))


def test_layer_without_wheels_is_reported_before_any_resource() -> None:
    made: list[Any] = []

    def build(project: Any, plan: Any) -> Any:
        made.append(plan)
        raise LayerError("no wheel of onnxruntime for arm64")

    with pytest.raises(pulumi.RunError, match="cannot build the layer: no wheel of onnxruntime for arm64"):
        deployed(manifest(), build=build)
    assert made


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ({"log_retention_days": "8"}, "turnout:log_retention_days: must be one of 1, 3, 5, 7, 14, .*, got 8"),
        ({"log_retention_days": "many"}, "log_retention_days"),
        ({"alarm_topic_arn": "alerts"}, "turnout:alarm_topic_arn: expected the ARN of an SNS topic, got 'alerts'"),
    ],
)
def test_invalid_configuration_is_reported_by_its_key(configuration: dict[str, str], message: str) -> None:
    with pytest.raises(pulumi.RunError, match=message):
        deployed(manifest(), **configuration)


def test_configuration_applies_to_every_log_and_alarm() -> None:
    topic = f"arn:aws:sns:{REGION}:{ACCOUNT}:alerts"
    guarded = manifest(stages=(stage(canary=Canary(10.0, {"iris": "v2"})),))
    program = deployed(guarded, log_retention_days="90", alarm_topic_arn=topic)
    assert {resource.inputs["retentionInDays"] for resource in program.of("cloudwatch/logGroup:LogGroup").values()} == {
        90
    }
    alarms = program.of("cloudwatch/metricAlarm:MetricAlarm").values()
    assert {tuple(alarm.inputs["alarmActions"]) for alarm in alarms} == {(topic,)}


def test_routed_model_has_a_router_that_may_be_called() -> None:
    of = manifest((replace(model(), routing=Routing(fallback="v1")),))
    program = deployed(of)
    router = program.of("lambda/function:Function")["iris_router"].inputs
    assert router["name"] == "turnout-test_iris_router"
    assert router["handler"] == "router_lambda.entry.handler"
    assert "layers" not in router or router["layers"] == []


def test_main_deploys_the_manifest_next_to_its_folder(root: Path, tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text(MANIFEST)
    shutil.copytree(root / "infra", tmp_path / "infra")
    with pytest.raises(pulumi.RunError, match=f"{tmp_path}/models.yaml"):
        run_program(lambda: runpy.run_path(str(tmp_path / "infra"), run_name="__main__"))


def test_exceeding_a_raisable_quota_is_rejected_until_the_manifest_says_that_it_was_raised() -> None:
    names = [f"model-{number}" for number in range(60)]
    of = manifest(
        tuple(model(name) for name in names), stages=(stage(serve=dict.fromkeys(names, "v1")),), routes="direct"
    )
    with pytest.raises(pulumi.RunError, match=r"resources: 372 used, 300 allowed\n.*`quotas: {resources: 372}`"):
        deployed(of)
    deployed(replace(of, quotas=AccountQuotas(resources=372)))


def test_exceeding_a_quota_of_new_accounts_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    deployed(manifest((Model("iris", (Version("iris", "v1", "a.onnx", memory_mb=4096),)),)))
    assert "3,008 MB allowed" in caplog.text

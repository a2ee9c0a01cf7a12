"""Pools on AWS: one function for many versions, their models in S3, one role, alarms while a canary moves them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pulumi
import pytest

from infra.observability.alarms import version_queries
from infra.roles import POLICY_CHARACTERS
from tests.builders.deployed import deployed, may_invoke, packages_of, policy_of
from tests.builders.manifests import manifest, model, stage
from tests.builders.pulumi_program import Program
from turnout.manifest.parser import Canary, Manifest, Model, Routing
from turnout.packaging.build import BuiltPackage
from turnout.packaging.contents import StoredFile
from turnout.plan.values import Plan
from turnout.project.project import Project

BUCKET = "turnout-test-123456789012-eu-west-1"
SERVE = {"iris": "v1", "digits": "v1"}
POOL = "turnout-test_small_pool"


def pooled(of: Model, **settings: Any) -> Model:
    return replace(of, versions=tuple(replace(version, pool="small", **settings) for version in of.versions))


def build(project: Project, plan: Plan) -> Sequence[BuiltPackage]:
    """Return packages without files; a pool's package has a file of each version."""
    files = {
        key: (StoredFile(artifact.path.name, artifact.path, 10, artifact.sha256),)
        for key, artifact in project.artifacts.items()
        if project.manifest.model(key[0]).version(key[1]).pool
    }
    return [replace(entry, pooled=files if entry.name == "small_pool" else {}) for entry in packages_of(plan)]


def deployed_pools(of: Manifest, **run: Any) -> Program:
    return deployed(of, build=build, **run)


MODELS = (pooled(model()), model("digits", ("v1",)))


@pytest.fixture(scope="module")
def program() -> Program:
    return deployed_pools(manifest(MODELS, (stage(serve=SERVE),)))


def test_versions_of_a_pool_share_one_function(program: Program) -> None:
    functions = program.of("lambda/function:Function")
    assert functions.keys() == {"digits_v1", "small_pool", "router"}
    pool = functions["small_pool"].inputs
    assert (pool["name"], pool["handler"]) == (POOL, "model_lambdas.function.entry.handler")
    assert pool["environment"]["variables"] == {
        "ORT_DISABLE_TELEMETRY": "1",
        "TURNOUT_MODELS": f"s3://{BUCKET}/pooled",
    }
    assert pool["layers"]


def test_models_are_objects_named_by_their_digests(program: Program) -> None:
    objects = program.of("s3/bucketObjectv2:BucketObjectv2")
    keys = [sent.inputs["key"] for sent in objects.values()]
    assert len(keys) == 2
    assert all(key.startswith("pooled/") and len(key.split("/")[1]) == 64 for key in keys)
    assert all(name == sent.inputs["key"] for name, sent in objects.items())
    after = {urn.rpartition("::")[2] for urn in program.of("lambda/function:Function")["small_pool"].after}
    assert {*keys, "small_pool"} <= after


def test_equal_models_of_two_versions_are_one_object() -> None:
    same = pooled(model())
    same = replace(same, versions=tuple(replace(version, artifact="models/same.onnx") for version in same.versions))
    objects = deployed_pools(manifest((same,))).of("s3/bucketObjectv2:BucketObjectv2")
    assert len(objects) == 1


def test_pool_reads_its_models_and_writes_its_own_log(program: Program) -> None:
    logs, read = policy_of(program.of("iam/rolePolicy:RolePolicy")["small_pool"])
    assert read == {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": [f"arn:aws:s3:::{BUCKET}/pooled/*"]}
    assert logs["Resource"][0].endswith(f":log-group:/aws/lambda/{POOL}:log-stream:*")
    assert program.of("lambda/function:Function")["small_pool"].inputs["role"].endswith("/turnout-test_small_pool")


def test_models_in_other_buckets_are_read_there() -> None:
    remote = pooled(model())
    key = "arn:aws:kms:eu-west-1:123456789012:key/1234"
    versions = [
        replace(version, artifact=f"s3://ours/iris/{version.name}.onnx", sha256="c" * 64, kms_key_arn=key)
        for version in remote.versions
    ]
    program = deployed_pools(manifest((replace(remote, versions=tuple(versions)),)))
    assert program.of("s3/bucketObjectv2:BucketObjectv2") == {}
    assert program.of("lambda/function:Function")["small_pool"].inputs["environment"]["variables"] == {
        "ORT_DISABLE_TELEMETRY": "1"
    }
    _, read, decrypt = policy_of(program.of("iam/rolePolicy:RolePolicy")["small_pool"])
    assert all(arn.startswith("arn:aws:s3:::ours/iris/") for arn in read["Resource"])
    assert (decrypt["Action"], decrypt["Resource"]) == (["kms:Decrypt"], [key])


def test_policy_of_a_pool_with_many_buckets_fits() -> None:
    versions = tuple(f"v{number}" for number in range(300))
    many = pooled(model(versions=versions))
    rows = [replace(each, artifact=f"s3://ours/iris/{each.name}/model.onnx", sha256="c" * 64) for each in many.versions]
    program = deployed_pools(manifest((replace(many, versions=tuple(rows)),)))
    policy = program.of("iam/rolePolicy:RolePolicy")["small_pool"]
    assert len(policy.inputs["policy"]) <= POLICY_CHARACTERS
    assert policy_of(policy)[1]["Resource"] == ["arn:aws:s3:::ours/*"]


def test_routers_may_call_the_pools_of_their_models() -> None:
    routed = pooled(model(routing=Routing(fallback="v1")))
    program = deployed_pools(manifest((routed, model("digits", ("v1",))), (stage(serve=SERVE),)))
    policies = program.of("iam/rolePolicy:RolePolicy")
    arn = f"arn:aws:lambda:eu-west-1:123456789012:function:{POOL}:live"
    assert may_invoke(policy_of(policies["iris_router"]), arn)
    assert may_invoke(policy_of(policies["router"]), arn)
    assert not may_invoke(policy_of(policies["iris_router"]), arn.replace("small_pool", "digits_v1"))


def test_idle_versions_of_a_pool_have_no_alarms(program: Program) -> None:
    names = set(program.of("cloudwatch/metricAlarm:MetricAlarm"))
    assert "small_pool_errors" in names
    assert not any(name.startswith("iris_") for name in names)


CANARY = manifest(MODELS, (stage(serve=SERVE, canary=Canary(10, {"iris": "v2"})),))


def test_version_that_a_canary_moves_has_an_alarm_of_its_own_metrics() -> None:
    program = deployed_pools(CANARY)
    alarms = program.of("cloudwatch/metricAlarm:MetricAlarm")
    assert [name for name in alarms if name.startswith("iris_")] == ["iris_v2_errors"]
    alarm = alarms["iris_v2_errors"].inputs
    assert alarm["name"] == "turnout-test_iris_v2_errors"
    measured = [query["metric"] for query in alarm["metricQueries"] if "metric" in query]
    assert {metric["namespace"] for metric in measured} == {"Turnout"}
    assert all(metric["dimensions"]["Version"] == "v2" for metric in measured)
    rules = json.dumps([rule.inputs for rule in program.of("cloudwatch/eventRule:EventRule").values()])
    assert "turnout-test_iris_v2_errors" in rules
    assert "turnout-test_small_pool_errors" in rules  # calls that end the process
    stage_of = program.of("apigateway/stage:Stage")["prod"].inputs
    assert stage_of["variables"]["PoolMetrics"] == "iris"


def test_dashboard_compares_pooled_versions_by_their_own_metrics() -> None:
    body = json.loads(deployed_pools(CANARY).one("cloudwatch/dashboard:Dashboard").inputs["dashboardBody"])
    metrics = [entry for widget in body["widgets"] for entry in widget["properties"].get("metrics", ())]
    own = [entry for entry in metrics if entry[0] == "Turnout"]
    assert {(entry[1], entry[9]) for entry in own} == {
        (metric, version) for metric in ("Requests", "FailedAnswers", "Duration") for version in ("v1", "v2")
    }
    assert own[0][2:6] == ["FunctionName", POOL, "Resource", f"{POOL}:live"]


def test_queries_count_both_aliases() -> None:
    queries = version_queries("turnout-test_iris_v2", POOL)
    resources = {query["metric"]["dimensions"]["Resource"] for query in queries if "metric" in query}
    assert resources == {f"{POOL}:live", f"{POOL}:next"}
    assert [query["id"] for query in queries if query.get("return_data")] == ["percent"]


BEFORE = {
    "functions": ["turnout-test_iris_v1", "turnout-test_iris_v2"],
    "stages": {"prod": {"variables": {"iris": "v1"}, "canary": None}},
    "shared_models": {"prod": []},
    "next_alias": False,
}


def test_move_into_a_pool_during_a_canary_is_rejected() -> None:
    with pytest.raises(pulumi.RunError, match=r"1 models, such as iris, would move into or out of a pool"):
        deployed_pools(CANARY, before=BEFORE)
    without = replace(CANARY, stages=(stage(serve=SERVE),))
    assert deployed_pools(without, before=BEFORE).of("lambda/function:Function")


def test_large_pool_has_a_few_resources_and_an_object_for_each_model() -> None:
    versions = tuple(f"v{number}" for number in range(50))
    program = deployed_pools(manifest((pooled(model(versions=versions)),), (stage(serve={"iris": "v0"}),)))
    counts: dict[str, int] = {}
    for resource in program.resources:
        counts[resource.type] = counts.get(resource.type, 0) + 1
    objects = counts.pop("aws:s3/bucketObjectv2:BucketObjectv2")
    assert objects == 50
    assert sum(counts.values()) < 50

"""A function as Lambda gets it, with the settings of the manifest."""

from __future__ import annotations

import fnmatch
from dataclasses import replace

import pulumi
import pytest

from tests.builders.deployed import deployed, packages_of, policy_of
from tests.builders.manifests import manifest, model, stage
from tests.builders.pulumi_program import ACCOUNT, REGION, Program
from turnout.manifest.parser import Canary, Manifest, Model, Routing, Warm
from turnout.protocol.routing.graph_nodes import build_node


def with_version(**fields: object) -> Manifest:
    """Return a manifest in which `iris` v1 has these settings."""
    only = model(versions=("v1",))
    return manifest((replace(only, versions=(replace(only.versions[0], **fields),)),))


def function_of(program: Program) -> dict[str, object]:
    return dict(program.of("lambda/function:Function")["iris_v1"].inputs)


def test_function_has_the_settings_of_the_manifest() -> None:
    made = function_of(
        deployed(
            with_version(
                architecture="x86_64",
                memory_mb=2048,
                timeout_s=20,
                ephemeral_storage_mb=2048,
                reserved_concurrency=5,
                environment={"THRESHOLD": "0.5"},
                tracing=True,
            )
        )
    )
    for key in ("code", "role", "layers"):
        del made[key]
    assert made == {
        "name": "turnout-test_iris_v1",
        "runtime": "python3.13",
        "handler": "model_lambdas.function.entry.handler",
        "architectures": ["x86_64"],
        "memorySize": 2048,
        "timeout": 20,
        "publish": True,
        "environment": {"variables": {"ORT_DISABLE_TELEMETRY": "1", "THRESHOLD": "0.5"}},
        "ephemeralStorage": {"size": 2048},
        "loggingConfig": {"logFormat": "JSON", "logGroup": "/aws/lambda/turnout-test_iris_v1"},
        "tracingConfig": {"mode": "Active"},
        "reservedConcurrentExecutions": 5,
    }


def test_function_uses_its_own_zip_and_the_layer_of_its_architecture() -> None:
    program = deployed(with_version(architecture="x86_64"))
    made = function_of(program)
    assert made["code"].path == "/iris_v1.zip"  # type: ignore[attr-defined]
    layers = program.of("lambda/layerVersion:LayerVersion")
    name = f"layer_x86_64_python3-13-{'d' * 16}"
    assert layers[name].inputs["layerName"] == "turnout-test_layer_x86_64_python3-13"
    assert layers[name].inputs["description"] == f"sha256 {'d' * 64}"
    assert made["layers"] == [f"arn:aws:made:eu-west-1:123456789012:LayerVersion/{name}"]


def test_limit_removed_from_the_manifest_is_removed_from_the_function() -> None:
    assert function_of(deployed(with_version()))["reservedConcurrentExecutions"] == -1


def test_router_without_variables_has_no_empty_environment_block() -> None:
    program = deployed(with_version())
    assert function_of(program)["environment"] == {"variables": {"ORT_DISABLE_TELEMETRY": "1"}}
    assert "environment" not in program.of("lambda/function:Function")["router"].inputs


def test_snap_start_applies_to_published_versions() -> None:
    made = function_of(deployed(with_version(warm=Warm(snap_start=True))))
    assert made["snapStart"] == {"applyOn": "PublishedVersions"}


def test_provisioned_concurrency_belongs_to_the_alias_live() -> None:
    program = deployed(with_version(warm=Warm(provisioned=2)))
    inputs = program.one("lambda/provisionedConcurrencyConfig:ProvisionedConcurrencyConfig").inputs
    assert (inputs["qualifier"], inputs["provisionedConcurrentExecutions"]) == ("live", 2)


@pytest.mark.parametrize("release", [True, False])
def test_live_stays_unchanged_while_a_release_canary_is_on(release: bool) -> None:
    program = deployed(manifest(stages=(stage(canary=Canary(10.0, {"iris": "v2"}, release)),)))
    aliases = program.of("lambda/alias:Alias")
    assert aliases["iris_v1_live"].ignored == (("functionVersion",) if release else ())
    assert ("iris_v1_next" in aliases) == release
    assert not release or aliases["iris_v1_next"].ignored == ()


NEXT_ON = {"functions": ["turnout-test_iris_v1"], "next_alias": True}


@pytest.mark.parametrize(
    ("before", "calling", "asked", "has"),
    [
        ({}, (), "", False),
        ({}, None, "", False),
        ({}, (), "true", True),
        (NEXT_ON, ("prod",), "", True),
        (NEXT_ON, (), "", False),
        (NEXT_ON, None, "", True),
        (NEXT_ON, ("prod",), "false", False),
        ({"functions": ["turnout-test_iris_v1"]}, ("prod",), "", True),
        ({"functions": ["turnout-test_iris_v1"]}, (), "", False),
        ({"functions": ["turnout-test_iris_v1"], "next_alias": False}, None, "", False),
    ],
    ids=[
        "new stack",
        "new stack that cannot be read",
        "asked for",
        "release that just ended",
        "release that ended one update ago",
        "stages that cannot be read",
        "asked to remove it",
        "older Turnout, stage on next",
        "older Turnout",
        "no release before",
    ],
)
def test_next_stays_as_long_as_a_deployed_stage_calls_it(
    before: dict[str, object], calling: tuple[str, ...] | None, asked: str, *, has: bool
) -> None:
    settings = {"next_alias": asked} if asked else {}
    program = deployed(manifest(), before=before, calling=calling, **settings)
    assert {name for name in program.of("lambda/alias:Alias") if name.endswith("_next")} == (
        {f"{name}_next" for name in ("iris_v1", "iris_v2", "router")} if has else set()
    )
    assert program.outputs["next_alias"] is has


def test_unused_version_has_three_resources() -> None:
    larger = manifest((model(versions=("v1", "v2", "v3", "v4")),))
    before, after = deployed(manifest()), deployed(larger)
    added = [entry for entry in after.resources if entry.urn not in {known.urn for known in before.resources}]
    kinds = ["LogGroup", "Function", "Alias"]
    assert sorted(entry.type.rpartition(":")[2] for entry in added) == sorted(2 * kinds)


def test_resources_of_a_model_are_in_one_component_whose_digest_changes_with_them() -> None:
    other = model("digits", ("v1",))
    stages = (stage(serve={"iris": "v1", "digits": "v1"}),)
    first = deployed(manifest((model(), other), stages))
    models = first.of("turnout:infra:ServedModel")
    assert models.keys() == {"iris", "digits", "router_"}
    for kind in ("lambda/function:Function", "lambda/alias:Alias", "cloudwatch/logGroup:LogGroup"):
        for name, made in first.of(kind).items():
            if name.startswith(("iris", "digits")):
                assert "turnout:infra:ServedModel$" in made.urn
                # Stacks of earlier releases keep the resource.
                assert made.aliases == (
                    f"urn:pulumi:test::turnout::turnout:infra:ServedFunction${made.type}::{made.name}",
                )
    slower = tuple(replace(version, timeout_s=9) for version in model().versions)
    second = deployed(manifest((replace(model(), versions=slower), other), stages))
    before, after = (
        {name: of.registered[made.urn]["inputs"] for name, made in of.of("turnout:infra:ServedModel").items()}
        for of in (first, second)
    )
    assert {name for name in before if before[name] != after[name]} == {"iris"}


def test_versions_with_traffic_and_routers_have_alarms() -> None:
    versions = ("served", "tested", "shadow", "rescue", "stepped", "idle")
    weighed = model("digits", ("served", "weighed", "idle"))
    shadowed = model("iris", versions, routing=Routing(shadow_version="shadow", shadow_percent=1, fallback="rescue"))
    graph = build_node({"sequence": [{"model": "iris", "version": "stepped"}]})
    one = stage(
        serve={"iris": "served"},
        weights={"digits": {"served": 100.0, "weighed": 0.0}},
        canary=Canary(5.0, {"iris": "tested"}),
    )
    program = deployed(manifest((weighed, shadowed, Model("both", (), graph=graph)), (one,)))
    alarmed = {name.rpartition("_errors")[0] for name in program.of("cloudwatch/metricAlarm:MetricAlarm")} - {""}
    assert alarmed == {
        *(f"iris_{version}" for version in versions if version != "idle"),
        "digits_served", "digits_weighed", "iris_router", "digits_router", "both_router", "router", "stage-prod",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("grouping", "groups"),
    [
        ("function", {"iris_v1", "iris_v2", "router"}),
        ("model", {"iris", "router"}),
        ("stack", {"functions"}),
    ],
)
def test_log_groups_are_shared_as_configured_and_every_function_may_write_to_its_own(
    grouping: str, groups: set[str]
) -> None:
    program = deployed(manifest(), log_groups=grouping)
    made = {entry.inputs["name"] for entry in program.of("cloudwatch/logGroup:LogGroup").values()}
    assert {name for name in made if "/lambda/" in name} == {f"/aws/lambda/turnout-test_{name}" for name in groups}
    for name in ("iris_v1", "router"):
        function = program.of("lambda/function:Function")[name].inputs
        group = function["loggingConfig"]["logGroup"]
        assert group in made
        role = "models" if name == "iris_v1" else name
        stream = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}:log-stream:s"
        assert any(
            "logs:PutLogEvents" in entry["Action"] and fnmatch.fnmatchcase(stream, entry["Resource"][0])
            for entry in policy_of(program.of("iam/rolePolicy:RolePolicy")[role])
        )


def test_unknown_grouping_is_rejected_before_anything_is_made() -> None:
    with pytest.raises(pulumi.RunError, match="turnout:log_groups: must be one of function, model, stack, got 'all'"):
        deployed(manifest(), log_groups="all")


def test_zip_over_50_mb_is_sent_through_s3_by_its_digest() -> None:
    program = deployed(with_version(), build=lambda _project, plan: packages_of(plan, zip_bytes=60_000_000))
    sent = program.of("s3/bucketObjectv2:BucketObjectv2")["iris_v1"].inputs
    assert sent["key"] == f"packages/iris_v1-{sent['key'][-68:-4]}.zip"
    assert len(sent["key"][-68:-4]) == 64
    made = function_of(program)
    assert "code" not in made
    assert (made["s3Bucket"], made["s3Key"]) == (sent["bucket"], sent["key"])
    bucket = program.one("s3/bucket:Bucket")
    assert bucket.inputs["bucket"] == "turnout-test-123456789012-eu-west-1"
    blocked = program.one("s3/bucketPublicAccessBlock:BucketPublicAccessBlock").inputs
    assert [value for key, value in blocked.items() if key != "bucket"] == [True] * 4


def test_small_zips_need_no_bucket() -> None:
    assert deployed(with_version()).of("s3/bucket:Bucket") == {}

"""A function as Lambda gets it, with what the manifest asks of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.builders.deployed import deployed, packages_of
from tests.builders.manifests import manifest, model, stage
from tests.builders.pulumi_program import Program
from turnout.manifest.parser import Canary, Manifest, Warm


def with_version(**fields: object) -> Manifest:
    """`iris` v1 with something said of it."""
    only = model(versions=("v1",))
    return manifest((replace(only, versions=(replace(only.versions[0], **fields),)),))


def function_of(program: Program) -> dict[str, object]:
    return dict(program.of("lambda/function:Function")["iris_v1"].inputs)


def test_function_is_what_the_manifest_says() -> None:
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


def test_function_runs_its_own_zip_with_the_layer_of_its_architecture() -> None:
    program = deployed(with_version(architecture="x86_64"))
    made = function_of(program)
    assert made["code"].path == "/iris_v1.zip"  # type: ignore[attr-defined]
    layers = program.of("lambda/layerVersion:LayerVersion")
    name = f"layer_x86_64_python3-13-{'d' * 16}"
    assert layers[name].inputs["layerName"] == "turnout-test_layer_x86_64_python3-13"
    assert layers[name].inputs["description"] == f"sha256 {'d' * 64}"
    assert made["layers"] == [f"arn:aws:made:eu-west-1:123456789012:LayerVersion/{name}"]


def test_limit_that_the_manifest_drops_is_taken_away() -> None:
    assert function_of(deployed(with_version()))["reservedConcurrentExecutions"] == -1


def test_router_without_variables_has_no_empty_block_of_them() -> None:
    program = deployed(with_version())
    assert function_of(program)["environment"] == {"variables": {"ORT_DISABLE_TELEMETRY": "1"}}
    assert "environment" not in program.of("lambda/function:Function")["router"].inputs


def test_snap_start_holds_for_published_versions() -> None:
    made = function_of(deployed(with_version(warm=Warm(snap_start=True))))
    assert made["snapStart"] == {"applyOn": "PublishedVersions"}


def test_provisioned_concurrency_is_the_live_aliases() -> None:
    program = deployed(with_version(warm=Warm(provisioned=2)))
    inputs = program.one("lambda/provisionedConcurrencyConfig:ProvisionedConcurrencyConfig").inputs
    assert (inputs["qualifier"], inputs["provisionedConcurrentExecutions"]) == ("live", 2)


@pytest.mark.parametrize("release", [True, False])
def test_live_stays_where_it_is_while_a_release_canary_is_on(release: bool) -> None:
    program = deployed(manifest(stages=(stage(canary=Canary(10.0, {"iris": "v2"}, release)),)))
    aliases = program.of("lambda/alias:Alias")
    assert aliases["iris_v1_live"].ignored == (("functionVersion",) if release else ())
    assert aliases["iris_v1_next"].ignored == ()


def test_zip_over_50_mb_goes_through_s3_by_its_digest() -> None:
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

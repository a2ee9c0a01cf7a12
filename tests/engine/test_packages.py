"""Packages: which ones are sent, only once, and how."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from shutil import copyfile, rmtree

import boto3
import pytest
import yaml

from infra.program import deploy
from tests.builders.python_project import SIGNATURE, write_version
from tests.builders.shared_layers import shared_layers
from tests.engine.account import MotoAccount
from tests.engine.life import LEAVES_LOOPS, Life, functions
from tests.engine.stand_in.aws import REGION
from tests.engine.world import REPOSITORY
from turnout.packaging.build import HANDLER, BuildTarget, BuiltPackage, build_packages
from turnout.packaging.contents import StoredFile
from turnout.plan.checks.quotas import DIRECT_ZIP_BYTES
from turnout.plan.values import Plan
from turnout.project.project import CACHE_DIR, Project

pytestmark = LEAVES_LOOPS

BUCKET = f"turnout-test-123456789012-{REGION}"


def keys(bucket: str) -> set[str]:
    return {entry["Key"] for entry in boto3.client("s3").list_objects_v2(Bucket=bucket).get("Contents", [])}


def test_changed_artifact_sends_one_zip_and_nothing_else(life: Life, tmp_path_factory: pytest.TempPathFactory) -> None:
    """For an ONNX version and a version with `runtime: python`, with real packages."""
    predict = write_version(life.project.folder / "models/echo/v1", 10)
    echo = {"runtime": "python", "artifact": "models/echo/v1/predict.py", "signature": yaml.safe_load(SIGNATURE)}
    life.project.tree["models"]["echo"] = {"versions": {"v1": echo}}
    life.project.prod["serve"]["echo"] = "v1"

    def build(project: Project, plan: Plan) -> list[BuiltPackage]:
        others = [entry for entry in life.project.build(project, plan) if entry.name != "echo_v1"]
        with shared_layers(life.project.folder / "out", tmp_path_factory) as out:
            return [*others, *build_packages(project, out=out, target=BuildTarget(python=""), only=[("echo", "v1")])]

    life.stack = life.world.stack(lambda: deploy(life.project.folder, build=build, account=MotoAccount()))
    life.up()
    client = boto3.client("lambda")
    made = client.get_function_configuration(FunctionName="turnout-test_echo_v1")
    onnx = client.get_function_configuration(FunctionName="turnout-test_iris_v1")
    assert made["Handler"] == onnx["Handler"] == HANDLER
    (layer,), (other,) = made["Layers"], onnx["Layers"]
    assert "for-python" in layer["Arn"]
    assert layer["Arn"] != other["Arn"]

    copyfile(life.project.folder / "models/iris/v2/model.onnx", life.project.folder / "models/iris/v1/model.onnx")
    predict.with_name("factor.json").write_text("20")
    life.up()

    assert sorted(life.world.aws.sent) == ["turnout-test_echo_v1", "turnout-test_iris_v1"]
    for name, version in (("iris_v1", "2"), ("echo_v1", "2"), ("digits_v1", "1")):
        assert life.alias(f"turnout-test_{name}", "live") == version


def test_large_zip_is_sent_through_the_bucket_of_the_stack(life: Life) -> None:
    def build(project: Project, plan: Plan) -> list[BuiltPackage]:
        built = life.project.build(project, plan)
        return [replace(entry, zip_bytes=DIRECT_ZIP_BYTES + 1) if entry.name == "iris_v1" else entry for entry in built]

    life.stack = life.world.stack(lambda: deploy(life.project.folder, build=build, account=MotoAccount()))
    life.up()
    (first,) = keys(BUCKET)
    assert re.fullmatch(r"packages/iris_v1-[0-9a-f]{64}\.zip", first)
    assert life.up() == []

    # Other code: another object, which the function gets; the old object is deleted.
    life.project.code = "2"
    life.up()
    (second,) = keys(BUCKET)
    assert second != first
    assert life.alias("turnout-test_iris_v1", "live") == "2"
    assert second in life.world.aws.sent

    # The bucket is deleted together with its content.
    life.stack.destroy(on_output=lambda _: None)
    assert boto3.client("s3").list_buckets()["Buckets"] == []
    assert functions() == set()


def test_model_in_s3_is_read_for_its_signature_and_fetched_by_its_function(life: Life) -> None:
    artifact = (REPOSITORY / "models/iris/v2/model.onnx").read_bytes()
    digest = hashlib.sha256(artifact).hexdigest()
    client = boto3.client("s3")
    client.create_bucket(Bucket="ours", CreateBucketConfiguration={"LocationConstraint": REGION})
    client.put_object(Bucket="ours", Key="iris/v2.onnx", Body=artifact)
    life.project.tree["models"]["iris"]["versions"]["v2"] = {"artifact": "s3://ours/iris/v2.onnx", "sha256": digest}

    def build(project: Project, plan: Plan) -> list[BuiltPackage]:
        stored = (StoredFile("v2.onnx", Path("v2.onnx"), len(artifact), digest),)
        built = life.project.build(project, plan)
        return [replace(entry, stored=stored) if entry.name == "iris_v2" else entry for entry in built]

    life.stack = life.world.stack(lambda: deploy(life.project.folder, build=build, account=MotoAccount()))
    life.up()

    made = boto3.client("lambda").get_function_configuration(FunctionName="turnout-test_iris_v2")
    assert made["Environment"]["Variables"] == {"TURNOUT_MODEL": "s3://ours/iris", "ORT_DISABLE_TELEMETRY": "1"}
    assert made["Role"].endswith(":role/turnout-test_iris_v2")
    policy = boto3.client("iam").get_role_policy(RoleName="turnout-test_iris_v2", PolicyName="turnout")
    assert policy["PolicyDocument"]["Statement"][1]["Resource"] == ["arn:aws:s3:::ours/iris/v2.onnx"]
    assert keys("ours") == {"iris/v2.onnx"}

    # Another object under the same key is rejected before anything changes, if no copy of the first one exists.
    rmtree(life.project.folder / CACHE_DIR / "artifacts")
    client.put_object(Bucket="ours", Key="iris/v2.onnx", Body=b"another model")
    assert "does not match `sha256`" in life.fail()
    assert "turnout-test_iris_v2" in functions()

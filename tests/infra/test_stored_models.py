"""Models that their functions fetch: where they are, who may read them, what is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.roles import POLICY_CHARACTERS
from tests.builders.deployed import deployed, packages_of, policy_of
from tests.builders.manifests import manifest, model
from tests.builders.pulumi_program import Program
from turnout.manifest.parser import Manifest
from turnout.packaging.build import BuiltPackage
from turnout.packaging.contents import StoredFile

FILES = (
    StoredFile("model.onnx", Path("/models/model.onnx"), 10, "a" * 64),
    StoredFile("data/weights.bin", Path("/models/data/weights.bin"), 10, "b" * 64),
)


def deployed_stored(of: Manifest, files: tuple[StoredFile, ...] = FILES) -> Program:
    """Deploy with `iris` v2's model outside its zip."""

    def build(_project: Any, plan: Any) -> Sequence[BuiltPackage]:
        return [replace(entry, stored=files if entry.name == "iris_v2" else ()) for entry in packages_of(plan)]

    return deployed(of, build=build)


@pytest.fixture(scope="module")
def large() -> Program:
    return deployed_stored(manifest())


def test_large_model_is_sent_to_the_bucket_of_the_stack_by_its_digest(large: Program) -> None:
    sent = large.of("s3/bucketObjectv2:BucketObjectv2")
    folder = sent["iris_v2/model.onnx"].inputs["key"].removesuffix("/model.onnx")
    assert len(folder.removeprefix("models/")) == 64
    assert sent["iris_v2/data/weights.bin"].inputs["key"] == f"{folder}/data/weights.bin"
    environment = large.of("lambda/function:Function")["iris_v2"].inputs["environment"]
    assert environment["variables"] == {
        "ORT_DISABLE_TELEMETRY": "1",
        "TURNOUT_MODEL": f"s3://turnout-test-123456789012-eu-west-1/{folder}",
    }


def test_only_its_own_function_may_read_a_model_and_nothing_else(large: Program) -> None:
    policies = large.of("iam/rolePolicy:RolePolicy")
    logs, read = policy_of(policies["iris_v2"])
    assert read["Action"] == ["s3:GetObject"]
    environment = large.of("lambda/function:Function")["iris_v2"].inputs["environment"]["variables"]
    folder = environment["TURNOUT_MODEL"].removeprefix("s3://")
    assert read["Resource"] == [f"arn:aws:s3:::{folder}/model.onnx", f"arn:aws:s3:::{folder}/data/weights.bin"]
    assert logs["Resource"][0].endswith(":log-group:/aws/lambda/turnout-test_iris_v2:log-stream:*")
    assert not any("s3:GetObject" in statement["Action"] for statement in policy_of(policies["models"]))
    assert large.of("lambda/function:Function")["iris_v2"].inputs["role"].endswith("/turnout-test_iris_v2")


def test_policy_of_a_model_with_many_files_names_their_folder() -> None:
    many = tuple(StoredFile(f"layers/{entry}.bin", Path(f"/models/{entry}.bin"), 10, "a" * 64) for entry in range(100))
    program = deployed_stored(manifest(), (*FILES, *many))
    policy = program.of("iam/rolePolicy:RolePolicy")["iris_v2"]
    assert len(policy.inputs["policy"]) <= POLICY_CHARACTERS
    location = program.of("lambda/function:Function")["iris_v2"].inputs["environment"]["variables"]["TURNOUT_MODEL"]
    assert policy_of(policy)[1]["Resource"] == [f"arn:aws:s3:::{location.removeprefix('s3://')}/*"]


def test_function_is_made_after_its_model_and_its_role(large: Program) -> None:
    after = {urn.rpartition("::")[2] for urn in large.of("lambda/function:Function")["iris_v2"].after}
    assert {"iris_v2/model.onnx", "iris_v2/data/weights.bin", "iris_v2"} <= after


def test_model_in_another_bucket_is_read_there() -> None:
    only = model()
    remote = replace(only.versions[1], artifact="s3://ours/iris/v2.onnx", sha256="c" * 64)
    of = manifest((replace(only, versions=(only.versions[0], remote)),))
    program = deployed_stored(of, (StoredFile("v2.onnx", Path("/v2.onnx"), 10, "c" * 64),))
    assert program.of("s3/bucketObjectv2:BucketObjectv2") == {}
    assert program.of("s3/bucket:Bucket") == {}
    environment = program.of("lambda/function:Function")["iris_v2"].inputs["environment"]
    assert environment["variables"] == {"ORT_DISABLE_TELEMETRY": "1", "TURNOUT_MODEL": "s3://ours/iris"}
    assert policy_of(program.of("iam/rolePolicy:RolePolicy")["iris_v2"])[1]["Resource"] == [
        "arn:aws:s3:::ours/iris/v2.onnx"
    ]


@pytest.mark.parametrize("key", ["", "arn:aws:kms:eu-west-1:123456789012:key/1234"])
def test_bucket_with_a_customer_key_gives_its_role_only_that_key(key: str) -> None:
    only = model()
    remote = replace(only.versions[1], artifact="s3://ours/iris/v2.onnx", sha256="c" * 64, kms_key_arn=key)
    of = manifest((replace(only, versions=(only.versions[0], remote)),))
    program = deployed_stored(of, (StoredFile("v2.onnx", Path("/v2.onnx"), 10, "c" * 64),))
    policies = program.of("iam/rolePolicy:RolePolicy")
    given = [
        statement
        for name in policies
        for statement in policy_of(policies[name])
        if "kms:Decrypt" in statement["Action"]
    ]
    assert given == ([{"Effect": "Allow", "Action": ["kms:Decrypt"], "Resource": [key]}] if key else [])
    if key:
        assert given[0] in policy_of(policies["iris_v2"])

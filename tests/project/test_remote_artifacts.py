"""Artifacts in S3 are read once, verified, and kept."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from turnout.artifacts.onnx_file import ArtifactError
from turnout.problems import ProblemsError
from turnout.project.project import Project, load_project
from turnout.project.remote_artifacts import fetch_remote

MANIFEST = """
models:
  iris:
    versions:
      v1: {{artifact: models/iris/v1/model.onnx}}
      v2: {{artifact: "s3://models/iris/v2.onnx", sha256: {sha256}}}
stages:
  prod: {{serve: {{iris: v1}}}}
"""


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="models")
        yield client


def project(root: Path, folder: Path, digest: str = "") -> Project:
    (folder / "models/iris/v1").mkdir(parents=True)
    shutil.copy(root / "models/iris/v1/model.onnx", folder / "models/iris/v1")
    model = (root / "models/iris/v2/model.onnx").read_bytes()
    (folder / "models.yaml").write_text(MANIFEST.format(sha256=digest or sha256(model).hexdigest()))
    return load_project(folder)


def test_artifact_is_fetched_once_and_known_like_any_other(bucket: Any, root: Path, tmp_path: Path) -> None:
    source = root / "models/iris/v2/model.onnx"
    bucket.upload_file(str(source), "models", "iris/v2.onnx")
    given = project(root, tmp_path)
    result = fetch_remote(given).artifacts["iris", "v2"]
    assert result.sha256 == sha256(source.read_bytes()).hexdigest()
    assert [tensor.name for tensor in result.signature.inputs] == [
        tensor.name for tensor in given.artifacts["iris", "v1"].signature.inputs
    ]
    bucket.delete_object(Bucket="models", Key="iris/v2.onnx")
    assert fetch_remote(given).artifacts["iris", "v2"] == result


def test_missing_object_is_reported_at_its_place_in_the_manifest(bucket: Any, root: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ProblemsError, match=r"models.yaml:6:\d+: .*v2.artifact: s3://models/iris/v2.onnx cannot be read: "
    ):
        fetch_remote(project(root, tmp_path))


def test_changed_object_is_rejected_and_not_kept(bucket: Any, root: Path, tmp_path: Path) -> None:
    bucket.put_object(Bucket="models", Key="iris/v2.onnx", Body=b"another")
    with pytest.raises(ProblemsError, match="does not match `sha256`: its sha256 is") as raised:
        fetch_remote(project(root, tmp_path))
    assert "under another key" in str(raised.value)
    assert list((tmp_path / ".turnout/artifacts").rglob("*.onnx")) == []


def test_object_that_is_not_a_model_is_reported(bucket: Any, root: Path, tmp_path: Path) -> None:
    bucket.put_object(Bucket="models", Key="iris/v2.onnx", Body=b"no model")
    with pytest.raises(ProblemsError, match=r"v2.artifact"):
        fetch_remote(project(root, tmp_path, sha256(b"no model").hexdigest()))


def test_remedy_is_given_once(root: Path, tmp_path: Path) -> None:
    def download(bucket: str, key: str, target: Path) -> None:
        raise ArtifactError(f"{key} is in a vault", "Ask the bank.")

    with pytest.raises(ProblemsError) as raised:
        fetch_remote(project(root, tmp_path), download)
    (problem,) = raised.value.problems
    assert (problem.message, problem.hint) == ("iris/v2.onnx is in a vault", "Ask the bank.")

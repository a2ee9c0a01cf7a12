"""A model fetched from S3 in ranges and verified, or rejected."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from model_lambdas.function.entry import load_function
from model_lambdas.function.runtime import ModelError
from model_lambdas.function.stored_model import (
    RANGE_BYTES,
    StoredFile,
    fetch_model,
)
from tests.builders.credentials_server import serve_credentials
from tests.builders.object_server import Objects, serve_objects
from turnout.artifacts.artifact import load_artifact
from turnout.artifacts.examples import read_examples
from turnout.manifest.parser import Version
from turnout.packaging.contents import FunctionInputs
from turnout.protocol.aws.objects import ATTEMPTS

SMALL = b"weights" * 100
LARGE = bytes(range(256)) * (RANGE_BYTES // 256) * 2 + b"end"


def stored(name: str, body: bytes) -> StoredFile:
    return StoredFile(name, len(body), sha256(body).hexdigest())


def requests_of(folder: Path, version: Version) -> tuple[Mapping[str, Any], ...]:
    return tuple(example.request for example in read_examples(folder / version.examples))


@pytest.fixture
def objects() -> Iterator[Objects]:
    with serve_objects() as served:
        yield served


def environ(objects: Objects, location: str = "s3://bucket/models/a") -> dict[str, str]:
    return {**objects.environ, "TURNOUT_MODEL": location}


def test_files_are_fetched_completely_in_ranges_at_any_depth_of_the_folder(objects: Objects, tmp_path: Path) -> None:
    objects.rows = {"/bucket/models/a/model.onnx": SMALL, "/bucket/models/a/data/large%20weights.bin": LARGE}
    fetch_model([stored("model.onnx", SMALL), stored("data/large weights.bin", LARGE)], tmp_path, environ(objects))
    assert (tmp_path / "model.onnx").read_bytes() == SMALL
    assert (tmp_path / "data" / "large weights.bin").read_bytes() == LARGE
    assert sorted(objects.ranges) == sorted(
        [
            f"bytes=0-{len(SMALL) - 1}",
            f"bytes=0-{RANGE_BYTES - 1}",
            f"bytes={RANGE_BYTES}-{2 * RANGE_BYTES - 1}",
            f"bytes={2 * RANGE_BYTES}-{2 * RANGE_BYTES + 2}",
        ]
    )


def test_the_bucket_itself_may_be_the_folder(objects: Objects, tmp_path: Path) -> None:
    objects.rows = {"/bucket/model.onnx": SMALL}
    fetch_model([stored("model.onnx", SMALL)], tmp_path, environ(objects, "s3://bucket"))
    assert (tmp_path / "model.onnx").read_bytes() == SMALL


def test_another_model_than_the_deployed_one_is_rejected_and_removed(objects: Objects, tmp_path: Path) -> None:
    objects.rows = {"/bucket/models/a/model.onnx": b"x" * len(SMALL)}
    with pytest.raises(ModelError, match=r"s3://bucket/models/a/model.onnx is not the file that was deployed"):
        fetch_model([stored("model.onnx", SMALL)], tmp_path, environ(objects))
    assert list(tmp_path.iterdir()) == []


def test_failure_of_s3_is_retried(objects: Objects, tmp_path: Path) -> None:
    objects.rows = {"/bucket/models/a/model.onnx": SMALL}
    objects.failures = [503, 500]
    fetch_model([stored("model.onnx", SMALL)], tmp_path, environ(objects))
    assert len(objects.ranges) == 3


@pytest.mark.parametrize(
    ("failures", "requests", "message"),
    [
        ([503] * 9, ATTEMPTS, "S3 answered 503"),
        ([], 1, "S3 answered 404"),
        ([403], 1, "S3 answered 403"),
        ([301], 1, "S3 answered 301"),
    ],
)
def test_rejection_is_reported_with_the_address_of_the_object(
    objects: Objects, tmp_path: Path, failures: list[int], requests: int, message: str
) -> None:
    objects.failures = failures
    with pytest.raises(ModelError, match=rf"s3://bucket/models/a/model.onnx cannot be read: {message}"):
        fetch_model([stored("model.onnx", SMALL)], tmp_path, environ(objects))
    assert len(objects.ranges) == requests


def test_truncated_object_is_rejected(objects: Objects, tmp_path: Path) -> None:
    objects.rows = {"/bucket/models/a/model.onnx": SMALL[:-1]}
    with pytest.raises(ModelError, match="S3 answered 206 with 699 bytes"):
        fetch_model([stored("model.onnx", SMALL)], tmp_path, environ(objects))


def test_wrong_keys_are_rejected(objects: Objects, tmp_path: Path) -> None:
    objects.rows = {"/bucket/models/a/model.onnx": SMALL}
    with pytest.raises(ModelError, match="S3 answered 403"):
        fetch_model([stored("model.onnx", SMALL)], tmp_path, environ(objects) | {"AWS_SECRET_ACCESS_KEY": "another"})


def test_unreachable_server_is_reported(objects: Objects, tmp_path: Path) -> None:
    nowhere = environ(objects) | {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}
    with pytest.raises(ModelError, match="cannot be read: ConnectionRefusedError"):
        fetch_model([stored("model.onnx", SMALL)], tmp_path, nowhere)


def test_missing_location_is_reported(objects: Objects, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="TURNOUT_MODEL does not say where it is"):
        fetch_model([stored("model.onnx", SMALL)], tmp_path, objects.environ)


def test_function_answers_with_a_fetched_model(
    objects: Objects, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = load_artifact(root / "models/iris/v1/model.onnx", None)
    version = Version("iris", "v1", "models/iris/v1/model.onnx", examples="models/iris/v1/examples.json")
    inputs = FunctionInputs(version, artifact, root, is_stored=True, requests=requests_of(root, version))
    objects.rows = {f"/bucket/models/{artifact.sha256}/model.onnx": artifact.path.read_bytes()}
    for name, value in environ(objects, f"s3://bucket/models/{artifact.sha256}").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    fields = json.loads(json.dumps(inputs.metadata()))
    assert inputs.model_files(artifact.path) == {}

    function = load_function(tmp_path / "task", fields)

    body = json.dumps(inputs.requests[0])
    answer = function({"headers": {"content-type": "application/json"}, "body": body, "isBase64Encoded": False}, None)
    assert answer["statusCode"] == 200
    assert (tmp_path / "tmp" / "turnout" / artifact.sha256 / "model" / "model.onnx").is_file()


def without_keys(environ: dict[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environ.items()
        if name not in {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}
    }


def test_function_with_snap_start_fetches_its_model_without_access_keys(
    objects: Objects, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = load_artifact(root / "models/iris/v1/model.onnx", None)
    version = Version("iris", "v1", "models/iris/v1/model.onnx", examples="models/iris/v1/examples.json")
    inputs = FunctionInputs(version, artifact, root, is_stored=True, requests=requests_of(root, version))
    objects.rows = {f"/bucket/models/{artifact.sha256}/model.onnx": artifact.path.read_bytes()}
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with serve_credentials() as credentials:
        given = without_keys(environ(objects, f"s3://bucket/models/{artifact.sha256}")) | credentials.environ
        for name, value in given.items():
            monkeypatch.setenv(name, value)

        function = load_function(tmp_path / "task", json.loads(json.dumps(inputs.metadata())))

        assert credentials.requests == 1
    body = json.dumps(inputs.requests[0])
    answer = function({"headers": {"content-type": "application/json"}, "body": body, "isBase64Encoded": False}, None)
    assert answer["statusCode"] == 200


def test_missing_credentials_are_reported_with_the_address_of_the_object(objects: Objects, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"s3://bucket/models/a/model.onnx cannot be read: no credentials: neither"):
        fetch_model([stored("model.onnx", SMALL)], tmp_path, without_keys(environ(objects)))


def test_rejected_credentials_are_reported(objects: Objects, tmp_path: Path) -> None:
    with serve_credentials() as credentials:
        credentials.statuses = [403]
        given = without_keys(environ(objects)) | credentials.environ
        with pytest.raises(ModelError, match="AWS_CONTAINER_CREDENTIALS_FULL_URI: the server answered 403"):
            fetch_model([stored("model.onnx", SMALL)], tmp_path, given)

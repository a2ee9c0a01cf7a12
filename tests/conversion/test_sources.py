from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import onnx
import pytest
from moto import mock_aws

from tests.builders.loopback_server import QuietHandler, loopback_server
from turnout.conversion.downloads import safe_path
from turnout.conversion.errors import ConversionError
from turnout.conversion.jobs import JobLimits
from turnout.conversion.registry import CONVERTERS, find_converter, known_kinds
from turnout.conversion.sources import SOURCES, Order, find_source, known_sources

BODY = b"a model" * 1000


class Handler(QuietHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/storage/v1/b/models/o/a%2Fmodel.skops"):
            body = BODY if "alt=media&generation=17" in self.path else b'{"generation": "17"}'
        elif self.path.startswith("/model.skops"):
            body = BODY
        elif self.path == "/cut.skops":
            self.send_response(200)
            self.send_header("content-length", "9999")
            self.end_headers()
            self.wfile.write(BODY[:100])
            return
        else:
            self.send_error(404)
            return
        self.respond(200, body)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with loopback_server(Handler) as url:
        yield url


def order(address: str, target: Path, sha256: str = "") -> Order:
    return Order(address, target, sha256, JobLimits(), lambda _: None)


def fetch(address: str, target: Path, sha256: str = "") -> object:
    source = find_source(address)
    assert source is not None
    return source.fetch(order(address, target, sha256))


def test_a_downloaded_file_must_have_the_given_digest(server: str, tmp_path: Path) -> None:
    digest = hashlib.sha256(BODY).hexdigest()
    fetched = SOURCES["web"].fetch(order(f"{server}/model.skops?X-Amz-Signature=secret", tmp_path, digest))
    assert fetched.path.read_bytes() == BODY
    assert fetched.address == f"{server}/model.skops"  # the digest that models.yaml will contain


@pytest.mark.parametrize(
    ("path", "sha256", "says"),
    [
        ("model.skops", "", "is not pinned"),
        ("model.skops", "0" * 64, "has sha256 "),
        ("missing.skops", "0" * 64, "answered 404"),
        ("cut.skops", "0" * 64, "ended after 100 of 9,999 bytes|cannot be read|IncompleteRead"),
    ],
)
def test_an_invalid_download_is_rejected(server: str, tmp_path: Path, path: str, sha256: str, says: str) -> None:
    with pytest.raises(ConversionError, match=says):
        fetch(f"{server}/{path}", tmp_path, sha256)


def test_an_unreachable_server_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="cannot be reached") as caught:
        fetch("http://127.0.0.1:9/model.skops", tmp_path, "0" * 64)
    assert caught.value.code == 1


def test_an_object_of_google_cloud_storage_is_pinned_by_its_generation(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server)
    fetched = SOURCES["gs"].fetch(order("gs://models/a/model.skops", tmp_path))
    assert (fetched.path.read_bytes(), fetched.revision) == (BODY, "17")


@pytest.fixture
def s3() -> Iterator[Any]:
    """An S3 client backed by moto, with a bucket `models` whose objects have versions."""
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="models")
        client.put_bucket_versioning(Bucket="models", VersioningConfiguration={"Status": "Enabled"})
        yield client


def test_an_object_of_s3_is_pinned_by_its_version(s3: Any, tmp_path: Path) -> None:
    s3.put_object(Bucket="models", Key="a b/what?#1.skops", Body=b"an older model")
    version = s3.put_object(Bucket="models", Key="a b/what?#1.skops", Body=BODY)["VersionId"]
    address = "s3://models/a b/what?#1.skops"
    fetched = SOURCES["s3"].fetch(order(address, tmp_path, hashlib.sha256(BODY).hexdigest()))
    assert (fetched.path.name, fetched.path.read_bytes()) == ("what?#1.skops", BODY)
    assert (fetched.address, fetched.revision) == (address, version)
    with pytest.raises(ConversionError, match="has sha256"):
        SOURCES["s3"].fetch(order(address, tmp_path, "0" * 64))


def test_an_object_of_a_bucket_without_versions_is_pinned_by_its_etag(s3: Any, tmp_path: Path) -> None:
    s3.create_bucket(Bucket="plain")
    tag = s3.put_object(Bucket="plain", Key="model.ubj", Body=BODY)["ETag"].strip('"')
    assert SOURCES["s3"].fetch(order("s3://plain/model.ubj", tmp_path)).revision == tag


def test_external_data_of_a_graph_in_s3_is_downloaded_with_it(s3: Any, tmp_path: Path) -> None:
    weights = onnx.numpy_helper.from_array(np.arange(4.0, dtype=np.float32), "w")
    raw = weights.raw_data
    node = onnx.helper.make_node("Add", ["x", "w"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [4]) for name in "xy")
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [x], [y], [weights]))
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    for name in ("m.onnx", "m.data"):
        s3.upload_file(str(tmp_path / name), "models", f"big/{name}")
    (tmp_path / "fetched").mkdir()
    fetched = SOURCES["s3"].fetch(order("s3://models/big/m.onnx", tmp_path / "fetched"))
    assert onnx.load(fetched.path).graph.initializer[0].raw_data == raw


def test_a_folder_of_s3_is_downloaded_completely(s3: Any, tmp_path: Path) -> None:
    for key in ("run/model/MLmodel", "run/model/data/model.skops", "run/model/", "run/models/other"):
        s3.put_object(Bucket="models", Key=key, Body=key.encode())
    fetched = SOURCES["s3"].fetch(order("s3://models/run/model/", tmp_path))
    files = {path.relative_to(fetched.path).as_posix() for path in fetched.path.rglob("*") if path.is_file()}
    assert files == {"MLmodel", "data/model.skops"}
    s3.put_object(Bucket="models", Key="run/model/../../out", Body=b"")
    with pytest.raises(ConversionError, match="leads out of its folder"):
        SOURCES["s3"].fetch(order("s3://models/run/model/", tmp_path))


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("s3://models/missing.skops", "s3://models/missing.skops cannot be read: .*404"),
        ("s3://missing/model.skops", "s3://missing/model.skops cannot be read: "),
        ("s3://models/missing/", "s3://models/missing/ is empty"),
        ("s3://models", "s3://models must be s3://bucket/key"),
        ("s3://id:secret@models/model.skops", "^s3://models/model.skops must be s3://bucket/key"),
    ],
)
def test_an_invalid_address_of_s3_is_rejected(s3: Any, address: str, says: str, tmp_path: Path) -> None:
    assert s3.list_buckets()["Buckets"]
    with pytest.raises(ConversionError, match=says) as caught:
        SOURCES["s3"].fetch(order(address, tmp_path))
    assert "secret" not in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize("address", ["ftp://host/model.onnx", "gcs://a/b", "dbfs://x"])
def test_an_unknown_source_lists_the_known_ones(address: str) -> None:
    with pytest.raises(ConversionError, match="unknown source") as caught:
        find_source(address)
    assert caught.value.hint == known_sources()
    assert "s3://bucket/key" in caught.value.hint


def test_a_path_is_not_a_source() -> None:
    assert find_source("models/a.skops") is None
    assert find_source("/tmp/mlflow.onnx") is None


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", ""])
def test_file_names_from_a_server_stay_in_the_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="leads out of"):
        safe_path(tmp_path, name, "s3://bucket/")


def test_converters_know_their_files(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"learner": {}, "version": [3, 0, 0]}')
    (tmp_path / "other.json").write_text('{"layers": []}')
    (tmp_path / "a.txt").write_text("tree\nversion=v4\n")
    (tmp_path / "notes.txt").write_text("some notes")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"")
    kinds = {"m.skops": "sklearn", "m.PKL": "sklearn", "a.json": "xgboost", "m.ubj": "xgboost", "a.txt": "lightgbm"}
    for name, converter in {
        **kinds,
        "m.cbm": "catboost",
        "m.keras": "keras",
        "m.h5": "keras",
        "saved": "tensorflow",
        "net.pt2": "torch",
    }.items():
        result = find_converter(tmp_path / name)
        assert result is not None, name
        assert result.name == converter
    assert find_converter(tmp_path / "m.onnx") is None
    for name in ("other.json", "notes.txt", "m.bin"):
        with pytest.raises(ConversionError, match="not a kind of model") as caught:
            find_converter(tmp_path / name)
        assert caught.value.hint == known_kinds()
    with pytest.raises(ConversionError, match="unknown converter 'spark'") as caught:
        find_converter(tmp_path / "m.skops", "spark")
    assert all(name in caught.value.hint for name in CONVERTERS)

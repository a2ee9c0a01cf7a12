"""A stand-in for an OCI registry on loopback, with the tokens and the manifests of real ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.graphs import write_identity
from tests.builders.loopback_server import QuietHandler, loopback_server
from tests.cli.conftest import write_project
from turnout.cli.__main__ import main
from turnout.conversion.errors import ConversionError
from turnout.conversion.jobs import JobLimits
from turnout.conversion.registries.oci import TITLE
from turnout.conversion.sources import SOURCES, Fetched, Order
from turnout.project.project import load_project


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Registry:
    """Its blobs and manifests, for `models/iris`."""

    def __init__(self, model: bytes) -> None:
        self.url = ""
        self.model = model
        self.blobs = {digest_of(model): model}
        self.manifests: dict[str, bytes] = {}
        self.needs_token = True
        self.push("v1", {"model.onnx": digest_of(model)})

    def push(self, tag: str, files: dict[str, str]) -> bytes:
        layers = [{"digest": digest, "annotations": {TITLE: name}} for name, digest in files.items()]
        self.manifests[tag] = json.dumps({"schemaVersion": 2, "layers": layers}).encode()
        self.manifests[digest_of(self.manifests[tag])] = self.manifests[tag]
        return self.manifests[tag]

    @property
    def address(self) -> str:
        return f"oci://{self.url.removeprefix('http://')}/models/iris"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    made = Registry(write_identity(tmp_path / "given.onnx").read_bytes())

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/token"):
                assert "scope=repository%3Amodels%2Firis%3Apull" in self.path
                self.respond(200, b'{"token": "for-iris"}')
                return
            if made.needs_token and self.headers["authorization"] != "Bearer for-iris":
                self.send_response(401)
                self.send_header("www-authenticate", f'Bearer realm="{made.url}/token",service="registry"')
                self.send_header("content-length", "0")
                self.end_headers()
                return
            kind, _, name = self.path.removeprefix("/v2/models/iris/").partition("/")
            body = {"manifests": made.manifests, "blobs": made.blobs}.get(kind, {}).get(name)
            if body is None:
                self.send_error(404)
            else:
                self.respond(200, body)

    with loopback_server(Handler) as url:
        made.url = url
        yield made


def fetch(address: str, target: Path) -> Fetched:
    target.mkdir()
    return SOURCES["oci"].fetch(Order(address, target, "", JobLimits(), lambda _: None))


@pytest.mark.parametrize("needs_token", [True, False])
def test_a_tag_is_pinned_by_the_digest_of_its_manifest(registry: Registry, needs_token: bool, tmp_path: Path) -> None:
    registry.needs_token = needs_token
    fetched = fetch(f"{registry.address}:v1", tmp_path / "a")
    assert fetched.path == tmp_path / "a" / "model.onnx"
    assert fetched.path.read_bytes() == registry.model
    assert fetched.revision == digest_of(registry.manifests["v1"])
    assert fetch(f"{registry.address}@{fetched.revision}", tmp_path / "b").revision == fetched.revision


def test_several_files_are_a_folder(registry: Registry, tmp_path: Path) -> None:
    notes = b"about it"
    registry.blobs[digest_of(notes)] = notes
    registry.push("v2", {"model.onnx": digest_of(registry.model), "notes/about.txt": digest_of(notes)})
    fetched = fetch(f"{registry.address}:v2", tmp_path / "at")
    assert fetched.path == tmp_path / "at"
    assert (fetched.path / "notes" / "about.txt").read_bytes() == notes
    assert sorted(path.name for path in fetched.path.iterdir()) == ["model.onnx", "notes"]


def test_what_does_not_fit_is_rejected(registry: Registry, tmp_path: Path) -> None:
    registry.blobs["sha256:" + "0" * 64] = b"other bytes"
    registry.push("wrong", {"model.onnx": "sha256:" + "0" * 64})
    registry.push("outside", {"../model.onnx": digest_of(registry.model)})
    registry.push("empty", {})
    registry.manifests["index"] = b'{"manifests": []}'
    registry.manifests["sha256:" + "1" * 64] = registry.manifests["v1"]
    cases = {
        ":wrong": "has sha256",
        ":outside": "leads out of its folder",
        ":empty": "has no layer with a file's name",
        ":index": "its manifest has no layers",
        ":missing": "answered 404",
        f"@sha256:{'1' * 64}": "has sha256",
        "": "must be oci://host/repository:tag",
        ":v1/../x": "must be oci://host/repository:tag",
    }
    for number, (end, says) in enumerate(cases.items()):
        with pytest.raises(ConversionError, match=says):
            fetch(f"{registry.address}{end}", tmp_path / str(number))


def test_an_artifact_becomes_a_version(registry: Registry, tmp_path: Path) -> None:
    project = write_project(tmp_path / "project")
    assert main(["add", "copy", "v1", f"{registry.address}:v1", "-m", str(project)]) == 0
    source = load_project(project).manifest.model("copy").version("v1").source
    assert source is not None
    assert (source.address, source.revision) == (f"{registry.address}:v1", digest_of(registry.manifests["v1"]))

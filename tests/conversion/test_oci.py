"""A stand-in for an OCI registry on loopback, with the tokens and the manifests of real ones."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import stat
from collections.abc import Callable, Iterator
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


SECRET = "geheim:ä"
LOGIN = "Basic " + base64.b64encode(f"ada:{SECRET}".encode()).decode()


class Registry:
    """Its blobs and manifests, for `models/iris`."""

    def __init__(self, model: bytes) -> None:
        self.url = ""
        self.model = model
        self.blobs = {digest_of(model): model}
        self.manifests: dict[str, bytes] = {}
        self.needs_token = True
        self.needs_login = False
        self.push("v1", {"model.onnx": digest_of(model)})

    def push(self, tag: str, files: dict[str, str]) -> bytes:
        layers = [{"digest": digest, "annotations": {TITLE: name}} for name, digest in files.items()]
        self.manifests[tag] = json.dumps({"schemaVersion": 2, "layers": layers}).encode()
        self.manifests[digest_of(self.manifests[tag])] = self.manifests[tag]
        return self.manifests[tag]

    @property
    def challenges(self) -> list[str]:
        """What it asks of requests without a login."""
        bearer = [f'Bearer realm="{self.url}/token",service="registry"'] if self.needs_token else []
        return ['Basic realm="registry"', *bearer]

    @property
    def address(self) -> str:
        return f"oci://{self.url.removeprefix('http://')}/models/iris"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    made = Registry(write_identity(tmp_path / "given.onnx").read_bytes())

    class Handler(QuietHandler):
        def is_logged_in(self) -> bool:
            return self.headers["authorization"] in {LOGIN, "Bearer for-iris"}

        def challenge(self, *challenges: str) -> None:
            self.send_response(401)
            for text in challenges:
                self.send_header("www-authenticate", text)
            self.send_header("content-length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            if made.needs_login and not self.is_logged_in():
                self.challenge(*([] if self.path.startswith("/token") else made.challenges))
                return
            if self.path.startswith("/token"):
                assert "scope=repository%3Amodels%2Firis%3Apull" in self.path
                self.respond(200, b'{"token": "for-iris"}')
                return
            if made.needs_token and self.headers["authorization"] != "Bearer for-iris":
                self.challenge(f'Bearer realm="{made.url}/token",service="registry"')
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


@pytest.fixture(params=["variables", "config", "names", "program"])
def login(
    request: pytest.FixtureRequest, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], str]:
    """Set name and password in one of the places; returns what errors call the place."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    for name in ("OCI_USERNAME", "OCI_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    config = tmp_path / "docker" / "config.json"
    config.parent.mkdir()
    host = registry.url.removeprefix("http://")

    def set_password(password: str) -> str:
        if request.param == "variables":
            monkeypatch.setenv("OCI_USERNAME", "ada")
            monkeypatch.setenv("OCI_PASSWORD", password)
            config.write_text("no JSON, and not read")
            return "OCI_USERNAME and OCI_PASSWORD"
        if request.param == "program":
            program = tmp_path / "docker-credential-test"
            answer = json.dumps({"ServerURL": host, "Username": "ada", "Secret": password}, ensure_ascii=False)
            program.write_text(f"#!/bin/sh\n[ \"$1 $(cat)\" = 'get {host}' ] && echo '{answer}'\n")
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
            monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
            config.write_text(json.dumps({"credHelpers": {host: "test"}}))
            return "docker-credential-test"
        encoded = base64.b64encode(f"ada:{password}".encode()).decode()
        entry = {"auth": encoded} if request.param == "config" else {"username": "ada", "password": password}
        key = host if request.param == "config" else f"https://{host}/v1/"
        config.write_text(json.dumps({"auths": {"other.example": {"auth": "eDp5"}, key: entry}}))
        return str(config)

    return set_password


@pytest.mark.parametrize("needs_token", [True, False])
def test_a_private_registry_gets_the_login_of_its_host(
    registry: Registry, login: Callable[[str], str], needs_token: bool, tmp_path: Path
) -> None:
    registry.needs_login, registry.needs_token = True, needs_token
    login(SECRET)
    assert fetch(f"{registry.address}:v1", tmp_path / "a").path.read_bytes() == registry.model
    origin = login("wrong-password")
    with pytest.raises(ConversionError, match="rejects the user name and password of") as caught:
        fetch(f"{registry.address}:v1", tmp_path / "b")
    assert caught.value.message.endswith(origin)
    for text in (caught.value.message, caught.value.hint):
        assert "wrong-password" not in text
        assert base64.b64encode(b"ada:wrong-password").decode() not in text


def test_a_private_registry_without_a_login_names_the_remedy(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.needs_login = True
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    with pytest.raises(ConversionError, match="needs a user name and a password") as caught:
        fetch(f"{registry.address}:v1", tmp_path / "a")
    assert caught.value.hint.startswith("Set OCI_USERNAME and OCI_PASSWORD, or: docker login 127.0.0.1:")
    assert caught.value.code == 2
    host = registry.url.removeprefix("http://")
    cases = {
        "{": "config.json cannot be read",
        json.dumps({"auths": {host: {"auth": "%%"}}}): "has an `auth` that is not base64",
        json.dumps({"credHelpers": {host: "missing-here"}}): "docker-credential-missing-here, which",
        json.dumps({"credHelpers": {host: "../x"}}): "names an invalid program",
        json.dumps({"auths": {host: {}}}): "needs a user name and a password",
        "[]": "needs a user name and a password",
    }
    (tmp_path / "docker").mkdir()
    for number, (config, says) in enumerate(cases.items()):
        (tmp_path / "docker" / "config.json").write_text(config)
        with pytest.raises(ConversionError, match=re.escape(says)):
            fetch(f"{registry.address}:v1", tmp_path / f"c{number}")


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

"""A stand-in for the Hugging Face Hub on loopback, behind HF_ENDPOINT, with the layout of real repositories."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.builders.graphs import write_identity
from tests.builders.loopback_server import QuietHandler, loopback_server
from tests.cli.conftest import write_project
from turnout.cli.__main__ import main
from turnout.conversion.errors import ConversionError
from turnout.conversion.jobs import JobLimits
from turnout.conversion.sources import SOURCES, Fetched, Order
from turnout.project.project import load_project

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Its repositories: name -> file -> content; files in `cdn` are redirected to another host name."""

    def __init__(self, model: bytes) -> None:
        self.repositories = {
            "org/one": {"README.md": b"read me", "model.onnx": model},
            "org/many": {"onnx/model.onnx": model, "onnx/model_int8.onnx": b"other", "config.json": b"{}"},
            "org/unclear": {"a.onnx": model, "b.onnx": model},
            "org/none": {"pytorch_model.bin": b"weights"},
            "org/wrong": {"model.onnx": model},
        }
        self.tokens: list[tuple[str, str | None]] = []

    def answer(self, path: str) -> bytes | None:
        place = path.partition("?")[0].strip("/").split("/")
        if place[:2] == ["api", "models"]:
            files = self.repositories.get("/".join(place[2:4]))
            if files is None or place[4:] not in (["revision", "main"], ["revision", "v1%2F0"]):
                return None
            wrong = "0" * 64 if place[3] == "wrong" else None
            siblings = [
                {"rfilename": name, "lfs": {"sha256": wrong or hashlib.sha256(data).hexdigest(), "size": len(data)}}
                if name.endswith(".onnx")
                else {"rfilename": name}
                for name, data in files.items()
            ]
            return json.dumps({"sha": COMMIT, "siblings": siblings}).encode()
        if place[2:4] == ["resolve", COMMIT]:
            return self.repositories["/".join(place[:2])].get("/".join(place[4:]))
        return None


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    made = Hub(write_identity(tmp_path / "given.onnx").read_bytes())

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            made.tokens.append((self.path, self.headers["authorization"]))
            if "/resolve/" in self.path and not self.path.startswith("/cdn"):
                self.send_response(302)
                self.send_header("location", f"/cdn{self.path}")
                self.end_headers()
                return
            body = made.answer(self.path.removeprefix("/cdn"))
            if body is None:
                self.send_error(404)
                return
            self.respond(200, body)

    with loopback_server(Handler) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        monkeypatch.setenv("HF_TOKEN", "secret")
        yield made


def fetch(address: str, target: Path) -> Fetched:
    return SOURCES["hub"].fetch(Order(address, target, "", JobLimits(), lambda _: None))


@pytest.mark.parametrize(
    ("address", "file"),
    [
        ("hf:org/one", "model.onnx"),
        ("hf:org/one@v1/0", "model.onnx"),
        ("hf:org/many", "onnx/model.onnx"),
        ("hf:org/unclear/b.onnx@main", "b.onnx"),
    ],
)
def test_the_file_is_pinned_by_the_commit(hub: Hub, address: str, file: str, tmp_path: Path) -> None:
    fetched = fetch(address, tmp_path / "at")
    assert fetched.path == tmp_path / "at" / file
    assert fetched.path.read_bytes() == hub.repositories["org/one"]["model.onnx"]
    assert (fetched.address, fetched.revision) == (address, COMMIT)
    assert {token for path, token in hub.tokens if path.startswith("/cdn")} == {None}
    assert {token for path, token in hub.tokens if not path.startswith("/cdn")} == {"Bearer secret"}


def test_external_data_is_downloaded_with_the_file(hub: Hub, tmp_path: Path) -> None:
    weights = onnx.numpy_helper.from_array(np.arange(4.0, dtype=np.float32), "w")
    node = onnx.helper.make_node("Add", ["x", "w"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [4]) for name in "xy")
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [x], [y], [weights]))
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="model.onnx_data", size_threshold=0)
    data = (tmp_path / "model.onnx_data").read_bytes()
    files = {"onnx/model.onnx": (tmp_path / "m.onnx").read_bytes(), "onnx/model.onnx_data": data}
    hub.repositories["org/large"] = files
    fetched = fetch("hf:org/large", tmp_path / "at")
    assert (fetched.path.parent / "model.onnx_data").read_bytes() == data


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("hf:org/none", "the repository has no ONNX file"),
        ("hf:org/unclear", "the repository has several ONNX files"),
        ("hf:org/one/c.onnx", "the repository has no ONNX file 'c.onnx'"),
        ("hf:org/wrong", "has sha256"),
        ("hf:org/missing", "answered 404"),
        ("hf:org/one@v9", "answered 404"),
        ("hf:name", "must be hf:org/name"),
        ("hf:../x", "answered 404|must be hf:org/name"),
    ],
)
@pytest.mark.usefixtures("hub")
def test_an_invalid_address_is_rejected(address: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=says):
        fetch(address, tmp_path / "at")


@pytest.mark.usefixtures("hub")
def test_a_file_of_the_hub_becomes_a_version(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project")
    assert main(["add", "spam", "v1", "hf:org/many", "-m", str(project)]) == 0
    source = load_project(project).manifest.model("spam").version("v1").source
    assert source is not None
    assert (source.address, source.revision, source.converter) == ("hf:org/many", COMMIT, "")

from __future__ import annotations

import json
from pathlib import Path

import pytest

from turnout.cli.__main__ import main
from turnout.cli.commands.models import served_by, tensor_text
from turnout.manifest.parser import Canary, Manifest, Model, Stage, Version
from turnout.protocol.tensors.datatypes import TensorSpec

V1, V2 = Version("m", "v1", "a"), Version("m", "v2", "b")


def test_the_table_shows_tensors_digest_and_stages(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "-m", str(project)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["MODEL", "VERSION", "SIZE", "DIGEST", "SERVED", "BY", "TENSORS"]
    assert (lines[1][:2], lines[1][5:]) == (["echo", "v1"], ["prod", "90%", "in", "x", "FP32", "[batch,4]"])
    assert lines[2] == ["out", "y", "FP32", "[batch,4]"]
    assert lines[3][5:] == ["dev,", "prod", "10%", "in", "x", "FP32", "[batch,4]"]
    assert len(lines) == 5


def test_models_as_json(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "-m", str(project), "--json"]) == 0
    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert (model["model"], model["description"]) == ("echo", "Answers what it is sent.")
    first = model["versions"][0]
    assert (first["version"], first["served_by"], len(first["sha256"])) == ("v1", ["prod 90%"], 64)
    assert first["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4], "dimension_names": ["batch", None]}]


def test_an_artifact_stored_elsewhere_is_listed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = project / "models.yaml"
    remote = f"v2: {{artifact: 's3://bucket/model.onnx', sha256: {'ab' * 32}}}"
    path.write_text(path.read_text().replace("v2: {artifact: models/echo/v2/model.onnx}", remote))
    assert main(["models", "-m", str(project)]) == 0
    line = capsys.readouterr().out.splitlines()[3].split()
    assert line == ["echo", "v2", "?", "abababababab", "dev,", "prod", "10%", "?"]
    assert main(["models", "-m", str(project), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["models"][0]["versions"][1] == {
        "version": "v2",
        "artifact": "s3://bucket/model.onnx",
        "sha256": "ab" * 32,
        "served_by": ["dev", "prod 10%"],
    }


def test_the_source_of_a_version_is_listed_without_secrets(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = project / "models.yaml"
    source = "{address: 'https://me:secret@host/a.skops?token=secret', revision: 0123456789abcdef, converter: sklearn}"
    given = "v2: {artifact: models/echo/v2/model.onnx"
    path.write_text(path.read_text().replace(given, f"{given}, source: {source}"))
    assert main(["models", "-m", str(project)]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    at = lines[0].index("SOURCE")
    assert lines[0].split() == ["MODEL", "VERSION", "SIZE", "DIGEST", "SERVED", "BY", "SOURCE", "TENSORS"]
    assert lines[1][at:].split() == ["in", "x", "FP32", "[batch,4]"]
    assert lines[3][at:].startswith("https://host/a.skops (0123456789ab, sklearn)  in x")
    assert main(["models", "-m", str(project), "--json"]) == 0
    out += capsys.readouterr().out
    assert '"address": "https://host/a.skops"' in out
    assert "secret" not in out


def add_graph(project: Path, graph: str) -> None:
    """Add another model, `twice`, that is a graph."""
    path = project / "models.yaml"
    path.write_text(path.read_text().replace("stages:", f"  twice: {{graph: {graph}}}\nstages:"))


def test_a_graph_is_listed_with_its_tensors(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_graph(project, "{model: echo, version: v1, inputs: {x: given}}")
    assert main(["models", "-m", str(project)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[5] == ["twice", "graph", "every", "stage", "in", "given", "FP32", "[batch,4]"]
    assert lines[6] == ["out", "y", "FP32", "[batch,4]"]
    assert main(["models", "-m", str(project), "--json"]) == 0
    reported = json.loads(capsys.readouterr().out)["models"][1]
    assert (reported["model"], reported["versions"]) == ("twice", [])
    assert reported["graph"] == {"model": "echo", "version": "v1", "inputs": {"x": "given"}}
    assert [tensor["name"] for tensor in (*reported["inputs"], *reported["outputs"])] == ["given", "y"]


def test_mismatches_in_a_graph_are_described(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_graph(project, "{sequence: [{model: echo, version: v1}, {model: echo, version: v1}]}")
    assert main(["models", "-m", str(project)]) == 2
    assert "models.twice.graph.sequence.1: the step before does not return `x`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (TensorSpec("x", "FP32", (-1, 4), ("batch", None)), "x FP32 [batch,4]"),
        (TensorSpec("x", "FP32", (-1, 4)), "x FP32 [-1,4]"),
        (TensorSpec("x", "FP32", (3,), ("ignored",)), "x FP32 [3]"),
        (TensorSpec("x", "INT64", ()), "x INT64 []"),
        (TensorSpec("x", "BYTES", None, required=False), "x? BYTES [...]"),
    ],
)
def test_a_tensor_is_shown_as_name_datatype_shape(tensor: TensorSpec, text: str) -> None:
    assert tensor_text(tensor) == text


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        (Stage("s", {"m": "v1"}, {}), (["s"], [])),
        (Stage("s", {}, {"m": {"v1": 90.0, "v2": 10.0}}), (["s 90%"], ["s 10%"])),
        (Stage("s", {"m": "v1"}, {}, Canary(10, {"m": "v2"})), (["s 90%"], ["s 10%"])),
        (Stage("s", {"m": "v1"}, {}, Canary(10, {"m": "v1"})), (["s"], [])),
        (Stage("s", {"m": "v1"}, {}, Canary(0, {"m": "v2"})), (["s"], [])),
        (Stage("s", {"m": "v1"}, {}, Canary(100, {"m": "v2"})), ([], ["s"])),
        (Stage("s", {"m": "v1"}, {}, Canary(10, {"other": "v2"})), (["s"], [])),
        (Stage("s", {}, {"m": {"v1": 50.0, "v2": 50.0}}, Canary(10, {"m": "v2"})), (["s 45%"], ["s 55%"])),
    ],
)
def test_a_share_of_a_stage_is_shown_in_percent(stage: Stage, expected: tuple[list[str], list[str]]) -> None:
    manifest = Manifest("p", (Model("m", (V1, V2)),), (stage,), Path("models.yaml"), "models.yaml", {})
    assert (served_by(manifest, V1), served_by(manifest, V2)) == expected

"""Which version a request without data uses; the rest is tested through `turnout invoke`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders.graphs import write_identity
from turnout.manifest.parser import Manifest, Model, Stage, Version
from turnout.project.project import Project, load_project
from turnout.replay.sample_request import UnknownNameError, known, make_sample_request, served_version


@pytest.mark.parametrize(
    ("stage", "version"),
    [
        (Stage("s", {"m": "v1"}, {}), "v1"),
        (Stage("s", {}, {"m": {"v1": 90.0, "v2": 10.0}}), "v1"),
        (Stage("s", {}, {"m": {"v1": 10.0, "v2": 90.0}}), "v2"),
    ],
)
def test_the_version_with_most_of_the_calls_is_used(stage: Stage, version: str) -> None:
    model = Model("m", (Version("m", "v1", "a"), Version("m", "v2", "b")))
    manifest = Manifest("p", (model,), (stage,), Path("models.yaml"), "models.yaml", {})
    assert served_version(manifest, "s", "m") == version


def test_a_request_larger_than_any_server_accepts_is_not_made(tmp_path: Path) -> None:
    write_identity(tmp_path / "model.onnx", shape=(1 << 62, 1 << 62))
    (tmp_path / "models.yaml").write_text(
        "models: {m: {versions: {v1: {artifact: model.onnx}}}}\nstages: {dev: {serve: {m: v1}}}\n"
    )
    with pytest.raises(
        ValueError, match=r"m v1 has no examples, and its smallest request holds 21,267,647,932,\S+ values"
    ):
        make_sample_request(load_project(tmp_path), "m", "v1", "")


def with_graph(folder: Path) -> Project:
    write_identity(folder / "model.onnx")
    (folder / "models.yaml").write_text(
        "models: {m: {versions: {v1: {artifact: model.onnx}}}, g: {graph: {model: m, inputs: {x: given}}}}\n"
        "stages: {dev: {serve: {m: v1}}}\n"
    )
    return load_project(folder)


def test_the_request_of_a_graph_is_made_from_its_signature(tmp_path: Path) -> None:
    sample = make_sample_request(with_graph(tmp_path), "g", "", "")
    assert (sample.model, sample.version, sample.example) == ("g", "graph", None)
    assert [tensor["name"] for tensor in sample.request["inputs"]] == ["given"]


@pytest.mark.parametrize(("version", "example", "kind"), [("v1", "", "version of g"), ("", "one", "example of g")])
def test_a_graph_has_neither_versions_nor_examples(tmp_path: Path, version: str, example: str, kind: str) -> None:
    with pytest.raises(UnknownNameError, match=f"unknown {kind}"):
        make_sample_request(with_graph(tmp_path), "g", version, "", example)


def test_an_unknown_name_is_reported_with_the_most_similar_one() -> None:
    with pytest.raises(UnknownNameError) as caught:
        known("model", "dgits", ["iris", "digits"])
    assert (str(caught.value), caught.value.hint) == ("unknown model 'dgits'.", "Did you mean 'digits'?")

"""`inputs` and `outputs` of a version, wherever a version's tensors are shown or compared."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from tests.builders.graphs import write_identity
from turnout.openapi.document import build_document
from turnout.packaging.catalogue import make_catalogue
from turnout.plan.planner import make_plan
from turnout.problems import ProblemsError
from turnout.project.project import Project, load_project
from turnout.protocol.tensors.datatypes import TensorSpec
from turnout.replay.sample_request import make_sample_request

STEPS = "def preprocess(inputs):\n    return inputs\n\n\ndef postprocess(outputs):\n    return outputs\n"
TEXT = "inputs: {text: {datatype: BYTES, shape: [-1]}}, outputs: {label: {datatype: BYTES, shape: [-1]}}"


def write(folder: Path, *versions: str, serve: str = "v1", more: str = "", source: str = STEPS) -> Path:
    write_identity(folder / "m.onnx")
    (folder / "t.py").write_text(source)
    rows = "".join(f"      v{n}: {{artifact: m.onnx, {fields}}}\n" for n, fields in enumerate(versions, 1))
    text = f"models:\n  m:\n    versions:\n{rows}stages:\n  dev: {{serve: {{m: {serve}}}{more}}}\n"
    (folder / "models.yaml").write_text(text)
    return folder / "models.yaml"


def load(folder: Path, *versions: str, **more: str) -> Project:
    return load_project(write(folder, *versions, **more))


def test_every_page_shows_the_declared_tensors(tmp_path: Path) -> None:
    project = load(tmp_path, f"transform: t.py, {TEXT}")
    artifact = project.artifacts["m", "v1"]
    assert artifact.signature.inputs == (TensorSpec("text", "BYTES", (-1,)),)
    assert [tensor.name for tensor in artifact.graph_signature.inputs] == ["x"]
    plan = make_plan(project.manifest, project.artifacts)
    catalogue = make_catalogue(project, plan).models["m"].versions["v1"].signature
    assert catalogue["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert catalogue["outputs"] == [{"name": "label", "datatype": "BYTES", "shape": [-1]}]
    document = json.dumps(build_document(plan, plan.apis[0])["components"])
    assert "`text`" in document
    assert "`x`" not in document
    assert "may read other inputs" not in document
    (tensor,) = make_sample_request(project, "m", "v1", "dev").request["inputs"]
    assert (tensor["name"], tensor["datatype"]) == ("text", "BYTES")


def test_one_of_the_two_may_be_declared(tmp_path: Path) -> None:
    signature = (
        load(tmp_path, "transform: t.py, inputs: {a: {datatype: INT64, shape: []}}").artifacts["m", "v1"].signature
    )
    assert (signature.inputs[0].name, signature.inputs[0].shape, signature.outputs[0].name) == ("a", (), "y")


def test_a_canary_is_compared_by_declared_tensors(tmp_path: Path) -> None:
    canary = ", canary: {percent: 10, serve: {m: v2}}"
    same = load(tmp_path, f"transform: t.py, {TEXT}", f"transform: t.py, {TEXT}", more=canary)
    make_plan(same.manifest, same.artifacts)
    other = load(tmp_path, "transform: t.py", f"transform: t.py, {TEXT}", more=canary)
    with pytest.raises(ProblemsError, match="text"):
        make_plan(other.manifest, other.artifacts)


@pytest.mark.parametrize(
    ("fields", "source", "expected"),
    [
        (TEXT, STEPS, "needs a `transform`"),
        (f"transform: t.py, {TEXT}", "def preprocess(inputs):\n    return inputs\n", "t.py has no `postprocess`"),
        ("transform: t.py, inputs: {a: {datatype: TEXT, shape: [1]}}", STEPS, "datatype"),
        ("transform: t.py, inputs: {a: {datatype: BYTES}}", STEPS, "shape"),
        ("transform: t.py, inputs: {a: {datatype: BYTES, shape: [-2]}}", STEPS, "-2"),
        ("transform: t.py, inputs: {}", STEPS, "inputs"),
    ],
)
def test_invalid_declarations_are_a_problem_with_their_place(
    tmp_path: Path, fields: str, source: str, expected: str
) -> None:
    with pytest.raises(ProblemsError) as raised:
        load(tmp_path, fields, source=source)
    assert "models.yaml:4:" in str(raised.value)
    assert expected in str(raised.value)


def test_examples_are_checked_against_declared_tensors(tmp_path: Path) -> None:
    label = {"name": "label", "datatype": "BYTES", "shape": [1], "data": ["a"]}
    example = {"name": "a", "request": {"inputs": {"x": [[1, 2, 3, 4]]}}, "response": {"outputs": [label]}}
    (tmp_path / "e.json").write_text(json.dumps([example]))
    with pytest.raises(ProblemsError, match="unknown input"):
        load(tmp_path, f"transform: t.py, examples: e.json, {TEXT}")
    example["request"] = {"inputs": {"text": ["hello"]}}
    (tmp_path / "e.json").write_text(json.dumps([example]))
    load(tmp_path, f"transform: t.py, examples: e.json, {TEXT}")


IMAGE = "input: {kind: image, name: photo, height: 8, width: 6}"


def load_image_version(folder: Path, fields: str, shape: tuple[str | int, ...] = ("batch", 3, 8, 6)) -> Project:
    path = write(folder, fields, source="def postprocess(outputs):\n    return outputs\n")
    write_identity(folder / "m.onnx", shape=shape)
    return load_project(path)


def test_a_version_that_reads_images_takes_files_everywhere(tmp_path: Path) -> None:
    project = load_image_version(tmp_path, f"transform: t.py, {IMAGE}, requirements: [regex]")
    artifact, version = project.artifacts["m", "v1"], project.manifest.model("m").version("v1")
    assert artifact.signature.inputs == (TensorSpec("photo", "BYTES", (-1,), content="image"),)
    assert version.requirements == ("regex", "pillow")
    plan = make_plan(project.manifest, project.artifacts)
    catalogue = make_catalogue(project, plan).models["m"].versions["v1"].signature
    assert catalogue["inputs"] == [{"name": "photo", "datatype": "BYTES", "shape": [-1], "content": "image"}]
    document = json.dumps(build_document(plan, plan.apis[0])["components"])
    assert "`photo` BYTES [-1], each value an image: a PNG, JPEG, WebP, GIF, BMP or TIFF file in base64" in document
    (tensor,) = make_sample_request(project, "m", "v1", "dev").request["inputs"]
    assert base64.b64decode(tensor["data"][0]).startswith(b"\x89PNG")


def test_pillow_is_added_once_and_a_fixed_batch_stays_fixed(tmp_path: Path) -> None:
    project = load_image_version(tmp_path, f"{IMAGE}, requirements: [Pillow==12.0.0]", (2, 3, 8, 6))
    assert project.manifest.model("m").version("v1").requirements == ("Pillow==12.0.0",)
    assert project.artifacts["m", "v1"].signature.inputs[0].shape == (2,)


@pytest.mark.parametrize(
    ("fields", "shape", "place", "says"),
    [
        (IMAGE, ("batch", 3, 9, 6), "input", "`height` is 8, and the model reads `x` FP32 [-1, 3, 9, 6]"),
        (IMAGE, ("batch", 4), "input", "not four dimensions"),
        ("input: {kind: image}", ("batch", 3, "h", "w"), "input", "`height` is missing"),
        ("input: {kind: video}", ("batch", 3, 8, 6), "input.kind", "must be image"),
        ("input: {kind: image, mean: 0.5}", ("batch", 3, 8, 6), "input.mean", "must be a list"),
        ("input: {kind: image, std: [0]}", ("batch", 3, 8, 6), "input.std.0", "must be above 0"),
        ("input: {kind: image, hight: 8}", ("batch", 3, 8, 6), "input", "unknown key `hight`"),
    ],
)
def test_settings_of_images_that_do_not_fit_are_problems_at_their_place(
    fields: str, shape: tuple[str | int, ...], place: str, says: str, tmp_path: Path
) -> None:
    with pytest.raises(ProblemsError) as caught:
        load_image_version(tmp_path, fields, shape)
    assert f"versions.v1.{place}" in str(caught.value)
    assert says in str(caught.value)


def test_preprocess_next_to_input_is_a_problem(tmp_path: Path) -> None:
    path = write(tmp_path, f"transform: t.py, {IMAGE}")
    write_identity(tmp_path / "m.onnx", shape=("batch", 3, 8, 6))
    with pytest.raises(ProblemsError, match=r"t\.py has `preprocess`, but `input` already makes the model's input"):
        load_project(path)

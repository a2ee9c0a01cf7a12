"""Cold starts, measured in real processes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.builders.graphs import write_identity
from turnout.packaging.cold_start import ColdStart, ColdStartError, measure_cold_starts
from turnout.project.project import Project, load_project


def project_of(folder: Path, version: str) -> Project:
    (folder / "models.yaml").write_text(
        f'models:\n  same:\n    versions:\n      v1: {version}\nstages:\n  dev: {{serve: {{"*": newest}}}}\n'
    )
    return load_project(folder / "models.yaml")


def test_every_phase_is_measured_for_every_version(root: Path, tmp_path: Path) -> None:
    write_identity(tmp_path / "model.onnx")
    (start,) = measure_cold_starts(project_of(tmp_path, "{artifact: model.onnx}"))
    assert (start.model, start.version) == ("same", "v1")
    assert min(start.import_ms, start.session_ms, start.first_run_ms, start.bare_ms) > 0
    assert start.total_ms == start.import_ms + start.session_ms + start.first_run_ms


def test_the_first_request_is_an_example_of_the_version(tmp_path: Path) -> None:
    write_identity(tmp_path / "model.onnx", "FP32", [1])
    (tmp_path / "transform.py").write_text(
        "def preprocess(inputs):\n    assert inputs['x'].tolist() == [7.0]\n    return inputs\n"
    )
    output = '{"name": "y", "datatype": "FP32", "shape": [1], "data": [7.0]}'
    (tmp_path / "examples.json").write_text(
        f'[{{"name": "seven", "request": {{"inputs": {{"x": [7.0]}}}}, "response": {{"outputs": [{output}]}}}}]'
    )
    version = "{artifact: model.onnx, transform: transform.py, examples: examples.json}"
    assert len(list(measure_cold_starts(project_of(tmp_path, version)))) == 1
    with pytest.raises(ColdStartError, match="same v1 does not start: "):
        list(measure_cold_starts(project_of(tmp_path, "{artifact: model.onnx, transform: transform.py}")))


def test_a_version_that_does_not_open_is_named(tmp_path: Path) -> None:
    project = project_of(write_identity(tmp_path / "model.onnx").parent, "{artifact: model.onnx}")
    shutil.move(tmp_path / "model.onnx", tmp_path / "gone.onnx")
    with pytest.raises(ColdStartError, match=r"same v1 does not start: .*model\.onnx"):
        list(measure_cold_starts(project))


def test_json_is_in_milliseconds_with_the_total() -> None:
    start = ColdStart("a", "v1", 80.123456, 4.0, 1.0, 80.0)
    assert start.to_json() == {
        "model": "a", "version": "v1", "import_ms": 80.12, "session_ms": 4.0, "first_run_ms": 1.0, "bare_ms": 80.0,
        "total_ms": 85.12,
    }  # fmt: skip

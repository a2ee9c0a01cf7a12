"""The packaged function of a version that reads images, as Lambda starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders.graphs import write_identity
from turnout.packaging.contents import FunctionInputs
from turnout.project.project import load_project

MANIFEST = """\
models:
  pets:
    versions:
      v1: {artifact: pets.onnx, input: {kind: image, layout: NHWC, scale: 2, mean: [1, 2, 3], std: [1, 2, 4]}}
stages: {dev: {serve: {pets: v1}}}
"""

CALL = """
import json
from turnout.artifacts.example_request import PICTURE
from model_lambdas.function.entry import handler
event = {"headers": {"content-type": "application/json"}, "body": json.dumps({"inputs": {"image": [PICTURE]}})}
print(handler(event, None)["body"])
"""


def test_settings_are_in_the_package_and_the_function_uses_them(tmp_path: Path, root: Path) -> None:
    pytest.importorskip("PIL")
    write_identity(tmp_path / "pets.onnx", shape=("batch", 1, 1, 3))
    (tmp_path / "models.yaml").write_text(MANIFEST)
    project = load_project(tmp_path / "models.yaml")
    version, artifact = project.manifest.model("pets").version("v1"), project.artifacts["pets", "v1"]
    inputs = FunctionInputs(version, artifact, tmp_path)
    assert inputs.examples() == []
    task = tmp_path / "task"
    (task / "model").mkdir(parents=True)
    (task / "function.json").write_text(json.dumps(inputs.metadata()))
    (task / "model" / "pets.onnx").write_bytes(artifact.path.read_bytes())
    environment = {**os.environ, "LAMBDA_TASK_ROOT": str(task), "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", CALL], capture_output=True, text=True, check=True, env=environment)
    red = [255 * 2 - 1, -2 / 2, -3 / 4]  # the picture is one pixel
    assert json.loads(done.stdout)["outputs"]["y"] == [[[red]]]

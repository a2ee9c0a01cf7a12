"""How a version's `capture` reaches the function."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders.graphs import write_identity
from turnout.packaging.contents import FunctionInputs
from turnout.project.project import Project, load_project

MANIFEST = """
models:
  echo:
    versions:
      v1: {artifact: echo.onnx}
      v2: {artifact: echo.onnx, capture: {percent: 100, redact: [x]}}
stages: {dev: {serve: {echo: v1}}}
"""

CALL = """
import sys
from model_lambdas.function.entry import handler
body = '{"inputs": {"x": [[1, 2, 3, 4]]}}'
event = {"headers": {"content-type": "application/json"}, "body": body, "requestContext": {"stage": "dev"}}
sys.exit(handler(event, None)["statusCode"] - 200)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("project")
    write_identity(folder / "echo.onnx")
    (folder / "models.yaml").write_text(MANIFEST)
    return load_project(folder / "models.yaml")


@pytest.mark.parametrize(("version", "lines"), [("v1", []), ("v2", [[[0, 0, 0, 0]]])])
def test_the_function_logs_requests_as_configured_in_the_manifest(
    version: str, lines: list[object], project: Project, tmp_path: Path, root: Path
) -> None:
    artifact = project.artifacts["echo", version]
    inputs = FunctionInputs(project.manifest.model("echo").version(version), artifact, project.manifest.path.parent)
    (tmp_path / "function.json").write_text(json.dumps(inputs.metadata()))
    for name, file in inputs.model_files(artifact.path).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(file.read_bytes())
    environment = {**os.environ, "LAMBDA_TASK_ROOT": str(tmp_path), "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", CALL], capture_output=True, text=True, check=True, env=environment)
    results = [json.loads(line)["turnout_capture"] for line in done.stdout.splitlines()]
    assert [result["body"]["inputs"]["x"] for result in results] == lines

"""A small separate project for each test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.builders.graphs import write_identity

MANIFEST = """\
# what we serve
platform: shop
models:
  echo:
    description: Answers what it is sent.
    versions:
      v1: {artifact: models/echo/v1/model.onnx, examples: models/echo/v1/examples.json}  # the first
      v2: {artifact: models/echo/v2/model.onnx}
stages:
  dev:
    serve: {"*": newest}
  prod:
    serve: {echo: v1}
    canary: {percent: 10, serve: {echo: v2}}
    auth: api_key
    throttle: {rate: 100, burst: 200}
"""

EXAMPLES = [
    {
        "name": "ones",
        "request": {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 1, 1, 1]}]},
        "response": {"outputs": [{"name": "y", "shape": [1, 4], "datatype": "FP32", "data": [1.0, 1.0, 1.0, 1.0]}]},
    },
    {
        "name": "short",
        "request": {"instances": [[1, 2, 3, 4]]},
        "response": {"outputs": [{"name": "y", "shape": [1, 4], "datatype": "FP32", "data": [1.0, 2.0, 3.0, 4.0]}]},
    },
]


def write_project(folder: Path) -> Path:
    """A project with one model in two versions."""
    for version in ("v1", "v2"):
        write_identity(folder / "models" / "echo" / version / "model.onnx")
    (folder / "models" / "echo" / "v1" / "examples.json").write_text(json.dumps(EXAMPLES))
    (folder / "models.yaml").write_text(MANIFEST)
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The folder of a project for one test."""
    return write_project(tmp_path / "project")

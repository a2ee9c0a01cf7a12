"""A project with a model that returns its input, and one that returns a multiple of it."""

from __future__ import annotations

from pathlib import Path

from tests.builders.graphs import write_identity, write_scaled

EXAMPLES = """\
[
  {"name": "first",  "request": {"inputs": {"x": [[1, 2, 3, 4]]}},
   "response": {"outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}}
]
"""


def write_echo_project(folder: Path, manifest: str, factor: float = 2.0) -> Path:
    """Write models.yaml and, in `models`, echo.onnx with the examples echo.json, and scaled.onnx. Return the folder."""
    write_identity(folder / "models" / "echo.onnx")
    write_scaled(folder / "models" / "scaled.onnx", factor)
    (folder / "models" / "echo.json").write_text(EXAMPLES)
    (folder / "models.yaml").write_text(manifest)
    return folder

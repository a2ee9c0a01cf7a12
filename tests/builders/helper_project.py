"""A project whose versions each have their own `helper.py` next to their transform."""

from __future__ import annotations

from pathlib import Path

from tests.builders.graphs import write_identity

MANIFEST = """
platform: turnout
models:
  echo:
    versions:
      v1: {artifact: models/echo/v1/model.onnx, transform: models/echo/v1/transform.py}
      v2: {artifact: models/echo/v2/model.onnx, transform: models/echo/v2/transform.py}
stages:
  dev: {serve: {echo: v1}}
"""
TRANSFORM = """
from pathlib import Path
import json
import helper
def preprocess(inputs):
    from pkg.later import factor
    assert json.__name__ == "json"
    return {"x": inputs["x"] * (helper.FACTOR * factor() * int(Path(__file__).with_name("factor.txt").read_text()))}
"""


def write_helper_project(project: Path) -> Path:
    """Version `v1` returns ten times its input, `v2` a hundred times."""
    for number in (1, 2):
        folder = project / "models" / "echo" / f"v{number}"
        (folder / "pkg").mkdir(parents=True)
        write_identity(folder / "model.onnx")
        (folder / "transform.py").write_text(TRANSFORM)
        (folder / "helper.py").write_text(f"FACTOR = {5**number}\n")
        (folder / "pkg" / "__init__.py").write_text("")
        (folder / "pkg" / "later.py").write_text(f"def factor():\n    return {2 ** (number - 1)}\n")
        (folder / "factor.txt").write_text("2")
    (project / "models.yaml").write_text(MANIFEST)
    return project

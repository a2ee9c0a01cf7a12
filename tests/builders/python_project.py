"""A project with Python versions next to an ONNX version with the same signature."""

from __future__ import annotations

from pathlib import Path

from tests.builders.graphs import write_identity

SIGNATURE = "{inputs: {x: {datatype: FP32, shape: [-1, 4]}}, outputs: {y: {datatype: FP32, shape: [-1, 4]}}}"

MANIFEST = f"""
platform: turnout
models:
  echo:
    versions:
      v1: {{artifact: models/echo/v1/model.onnx}}
      v2: {{runtime: python, artifact: models/echo/v2/predict.py, signature: {SIGNATURE}}}
      v3: {{runtime: python, artifact: models/echo/v3/predict.py, signature: {SIGNATURE}}}
stages:
  dev: {{serve: {{echo: v2}}}}
  prod: {{serve: {{echo: v1}}}}
"""

PREDICT = """
import json
from pathlib import Path
import helper
from turnout.protocol.errors import Refused

factor = None


def load(folder):
    global factor
    factor = json.loads((folder / "factor.json").read_text()) * helper.FACTOR


def predict(inputs):
    x = inputs["x"]
    if (x == -1).any():
        raise Refused("-1 is refused", value=-1)
    if (x == -2).any():
        raise ValueError("secret")
    if (x == -3).any():
        raise RuntimeError("secret")
    if (x == -4).any():
        return {"y": x.astype("float64")}
    x *= factor  # what comes in may be written to
    return {"y": x}
"""


def write_version(folder: Path, factor: int, helper: int = 1) -> Path:
    """Write a version that returns its input times `factor` times `helper`; return the file that models.yaml names."""
    (folder / "notes").mkdir(parents=True)
    (folder / "predict.py").write_text(PREDICT)
    (folder / "helper.py").write_text(f"FACTOR = {helper}\n")
    (folder / "factor.json").write_text(f"{factor}")
    (folder / "notes" / "about.txt").write_text("of the version, too")
    return folder / "predict.py"


def write_python_project(project: Path) -> Path:
    """`v1` returns its input, `v2` ten times, `v3` a hundred times its input; v2 and v3 have a `helper.py`."""
    (project / "models" / "echo" / "v1").mkdir(parents=True)
    write_identity(project / "models" / "echo" / "v1" / "model.onnx", "FP32", ["n", 4])
    write_version(project / "models" / "echo" / "v2", 5, 2)
    write_version(project / "models" / "echo" / "v3", 50, 2)
    (project / "models.yaml").write_text(MANIFEST)
    return project

"""The project that is attacked: models that echo their input, a slow model, a router and a graph."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SLOW_S = 0.05
SLOW_AT_ONCE = 16
"""Concurrent runs in one worker of a version with a transform (`RUNNING_LIMIT_WITH_TRANSFORM`)."""

SLOW_TIMEOUT_S = 2
LONG_S = 0.5
LONG_TIMEOUT_S = 25

MANIFEST = f"""\
platform: turnout
models:
  echo:
    versions:
      v1: {{artifact: float.onnx}}
      v2: {{artifact: float.onnx}}
  text:
    versions:
      v1: {{artifact: text.onnx}}
  count:
    versions:
      v1: {{artifact: count.onnx}}
  changed:
    versions:
      v1: {{artifact: float.onnx, transform: transform.py}}
  weighed:
    versions:
      v1: {{artifact: float.onnx}}
      v2: {{artifact: float.onnx}}
    routing: {{fallback: v1}}
  chained:
    graph:
      sequence:
        - {{model: echo, version: v1, outputs: {{y: x}}}}
        - {{model: changed, version: v1}}
  slow:
    versions:
      v1: {{artifact: float.onnx, transform: slow.py, timeout_s: {SLOW_TIMEOUT_S}}}
  long:
    versions:
      v1: {{artifact: float.onnx, transform: long.py, timeout_s: {LONG_TIMEOUT_S}}}
stages:
  dev:
    serve: {{"*": newest}}
    weights: {{weighed: {{v1: 50, v2: 50}}}}
  keyed:
    serve: {{echo: v1, text: v1, count: v1, changed: v1, weighed: v1, slow: v1, long: v1}}
    auth: api_key
"""

PASSING = '''\
"""Changes nothing, outside the event loop."""


def preprocess(inputs):
    return inputs
'''

WAITING = '''\
"""Takes its time, without the processor."""

import time


def preprocess(inputs):
    time.sleep({seconds})
    return inputs
'''

WIDTH = 4
"""Numbers in a row of `float.onnx` and `count.onnx`."""


def write_project(folder: Path) -> Path:
    """Write models.yaml and everything that it names; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_identity(folder / "float.onnx", "FLOAT", ["batch", WIDTH])
    write_identity(folder / "count.onnx", "INT64", ["batch", WIDTH])
    write_identity(folder / "text.onnx", "STRING", ["batch"])
    (folder / "transform.py").write_text(PASSING)
    (folder / "slow.py").write_text(WAITING.format(seconds=SLOW_S))
    (folder / "long.py").write_text(WAITING.format(seconds=LONG_S))
    (folder / "models.yaml").write_text(MANIFEST)
    return folder


def serve_version(folder: Path, version: str) -> None:
    """Edit models.yaml so that stage dev serves this version of echo, with a rename as editors do it."""
    manifest = folder / "models.yaml"
    text = re.sub(
        r'serve: \{(?:echo: v\d, )?"\*": newest\}', f'serve: {{echo: {version}, "*": newest}}', manifest.read_text()
    )
    written = folder / "models.yaml.new"
    written.write_text(text)
    written.replace(manifest)


def write_identity(path: Path, datatype: str, shape: Sequence[Any]) -> None:
    """Write a model that returns its input: input `x`, output `y`."""
    import onnx
    from onnx import helper

    element = onnx.TensorProto.DataType.Value(datatype)
    given, answered = (helper.make_tensor_value_info(name, element, list(shape)) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "soak", [given], [answered])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, str(path))

"""A project for clients of the Open Inference Protocol: a model that echoes for every datatype, and others."""

from __future__ import annotations

from pathlib import Path

from onnx import helper

from tests.builders.graphs import value, write_graph, write_identity
from turnout.protocol.tensors.datatypes import DATATYPES

FAILING = """
def preprocess(inputs):
    raise RuntimeError("secret")
"""

STAGES = """
stages:
  dev:
    serve: {"*": newest}
    weights: {routed: {v1: 50, v2: 50}}
  keyed:
    serve: {"*": newest}
    auth: api_key
"""


def write_pair(path: Path) -> None:
    """Write a model with FP32 inputs `a` and `b`, both [-1]; it returns `sum` and `difference`."""
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])]
    tensors = [value(name, "FP32", ["n"]) for name in ("a", "b", "sum", "difference")]
    write_graph(path, nodes, tensors[:2], tensors[2:])


def write_open_inference_project(folder: Path) -> Path:
    """`fp32`, `bytes` and so on echo `x` as `y`, of any shape; `pair` has versions 1 and v2, `routed` is weighted,
    `chain` is a graph of two, `failing` fails. Stage `dev` is open, `keyed` requires a key.
    """
    models = ["platform: turnout", "models:"]
    for datatype in DATATYPES:
        write_identity(folder / "models" / f"{datatype}.onnx", datatype, None)
        models.append(f"  {datatype.lower()}: {{versions: {{v1: {{artifact: models/{datatype}.onnx}}}}}}")
    write_pair(folder / "models" / "pair.onnx")
    (folder / "models" / "failing.py").write_text(FAILING)
    pair = "artifact: models/pair.onnx"
    models += [
        f'  pair: {{versions: {{"1": {{{pair}}}, v2: {{{pair}}}}}}}',
        f"  routed: {{versions: {{v1: {{{pair}}}, v2: {{{pair}}}}}}}",
        "  chain: {graph: {sequence: [{model: pair, outputs: {sum: x}}, {model: fp32}]}}",
        f"  failing: {{versions: {{v1: {{{pair}, transform: models/failing.py}}}}}}",
    ]
    (folder / "models.yaml").write_text("\n".join(models) + STAGES)
    return folder

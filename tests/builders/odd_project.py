"""A project of models with unusual tensors: text, booleans, half floats, large integers, scalars, NaN, pictures."""

from __future__ import annotations

from pathlib import Path

from onnx import helper

from tests.builders.graphs import value, write_graph, write_identity

IDENTITIES: dict[str, tuple[str, list[int | str] | None]] = {
    "text": ("BYTES", ["n"]),
    "truth": ("BOOL", ["n", 2]),
    "half": ("FP16", ["n", 4]),
    "large": ("INT64", ["n"]),
    "scalar": ("FP32", []),
    "free": ("FP32", None),
    "cube": ("FP32", ["n", 2, 3]),
    "picture": ("FP32", ["n", 3, 12, 16]),
    "wide": ("FP32", ["n", 150_000]),
}
"""Model -> datatype and shape of its input `x`, which it returns as `y`."""

MANIFEST = """\
platform: turnout
models:
{models}
  ratio: {{versions: {{v1: {{artifact: models/ratio.onnx}}}}}}
  several: {{versions: {{v1: {{artifact: models/several.onnx}}}}}}
stages:
  dev: {{serve: {{"*": newest}}}}
  keyed: {{serve: {{"*": newest}}, auth: api_key}}
"""


def write_odd_project(folder: Path) -> Path:
    """Write the project and return its folder.

    `ratio` divides its inputs `a` and `b`, FP32 [-1]; `several` returns its three inputs, oddly named.
    """
    for name, (datatype, shape) in IDENTITIES.items():
        write_identity(folder / "models" / f"{name}.onnx", datatype, shape)
    a, b, y = (value(name, "FP32", ["n"]) for name in ("a", "b", "y"))
    write_graph(folder / "models" / "ratio.onnx", [helper.make_node("Div", ["a", "b"], ["y"])], [a, b], [y])
    inputs = [
        value("serving_default_x:0", "FP32", ["n", 2]),
        value("it's", "BYTES", ["n"]),
        value("a b", "INT64", ["n"]),
    ]
    nodes = [helper.make_node("Identity", [each.name], [f"out{number}"]) for number, each in enumerate(inputs)]
    kinds = (("FP32", ["n", 2]), ("BYTES", ["n"]), ("INT64", ["n"]))
    outputs = [value(f"out{number}", datatype, shape) for number, (datatype, shape) in enumerate(kinds)]
    write_graph(folder / "models" / "several.onnx", nodes, inputs, outputs)
    models = "\n".join(
        f"  {name}: {{versions: {{v1: {{artifact: models/{name}.onnx}}, v2: {{artifact: models/{name}.onnx}}}}}}"
        for name in IDENTITIES
    )
    (folder / "models.yaml").write_text(MANIFEST.format(models=models))
    return folder

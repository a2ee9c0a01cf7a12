"""Writes a version's two files: the ONNX model and its examples.

The expected outputs come from the trained estimator itself, not from the ONNX graph, so that the
examples also check the conversion.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import orjson
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]

IR_VERSION = 9
OPSETS = {"": 17, "ai.onnx.ml": 3}
"""Old enough for onnxruntime 1.20 and for much older versions."""

MODELS = Path(__file__).resolve().parent.parent / "models"
DATATYPE_OF_KIND = {"f4": "FP32", "f8": "FP64", "i8": "INT64", "b1": "BOOL", "O": "BYTES"}
DIGITS_KEPT = 6
"""Decimals of an expected float: as many as a float32 probability has."""


def folder_argument(model: str) -> Path:
    """Return the folder to write to, from the command line; by default models/<model>."""
    parser = argparse.ArgumentParser(description=f"Train the sample model {model} and write it.")
    parser.add_argument("folder", nargs="?", type=Path, default=MODELS / model, help=f"default: models/{model}")
    return parser.parse_args().folder


def write_version(folder: Path, model: onnx.ModelProto, examples: Sequence[Mapping[str, Any]]) -> None:
    """Write model.onnx and examples.json into `folder`."""
    model.ir_version = IR_VERSION
    # skl2onnx keeps them in a set, without a fixed order
    domains = sorted(model.opset_import, key=lambda opset: opset.domain)
    del model.opset_import[:]
    model.opset_import.extend(domains)
    onnx.checker.check_model(model)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    rows = ",\n".join(_lines(example) for example in examples)
    (folder / "examples.json").write_text(f"[\n{rows}\n]\n", encoding="utf-8")
    print(f"{folder}: {sum(file.stat().st_size for file in folder.iterdir()):,} bytes")


def example(
    name: str, request: Mapping[str, Any], outputs: Arrays, tolerance: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """Return one example; see README.md."""
    response = {"outputs": [tensor(key, array) for key, array in outputs.items()]}
    return {"name": name, "request": request, "response": response, "tolerance": tolerance or {"absolute": 1e-5}}


def protocol_request(inputs: Arrays) -> dict[str, Any]:
    """Return the Open Inference Protocol's body for these inputs."""
    return {"inputs": [tensor(key, array) for key, array in inputs.items()]}


def tensor(name: str, array: NDArray[Any]) -> dict[str, Any]:
    """Return an array as the Open Inference Protocol's JSON, with flat data."""
    datatype = DATATYPE_OF_KIND[array.dtype.str.lstrip("<|")]
    return {"name": name, "shape": list(array.shape), "datatype": datatype, "data": plain(array.ravel())}


def plain(array: NDArray[Any]) -> Any:
    """Return an array as (nested) lists of JSON values, with floats to `DIGITS_KEPT` decimals."""
    return np.round(array.astype(np.float64), DIGITS_KEPT).tolist() if array.dtype.kind == "f" else array.tolist()


def _lines(fields: Mapping[str, Any]) -> str:
    """Return an example with one line each for its name, request, response and tolerance, for small diffs."""
    keys = ",\n".join(f'  "{key}": {orjson.dumps(value).decode()}' for key, value in fields.items())
    return f" {{\n{keys}\n }}"

"""Optimizes graphs before they are packaged, if that does not change their results.

onnxruntime's portable level (`basic`: constant folding, no machine-specific kernels in the file) may still remove an
initializer that then becomes a required input, or give different bits. So both graphs are opened as in the function,
and every output of every request must be equal bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from turnout.protocol.sentences import shorten_text
from turnout.protocol.telemetry import disable_telemetry
from turnout.protocol.tensors.datatypes import DATATYPES, Signature, TensorSpec
from turnout.runtimes.runtime import Arrays
from turnout.system.files import check_room

SLACK_BYTES = 65_536
"""Bytes that the optimized file may grow beyond a tenth: small files grow by a header."""

DRAWS = 3
"""Number of random requests if there is no example."""


@dataclass(frozen=True, slots=True)
class Optimization:
    """The result: `kept` is empty if the optimized file is used, else the reason against it."""

    kept: str


def optimize_graph(source: Path, target: Path, signature: Signature, requests: Sequence[Arrays]) -> Optimization:
    """Write the optimized graph to `target` if it gives the same answers as `source`; else only return the reason."""
    try:
        given = _open(source)
        _open(source, save_to=target)
        optimized = _open(target)
    except Exception as error:
        # A full disk is not a property of the graph: the package must not be built, and kept, without optimization.
        target.unlink(missing_ok=True)
        check_room(target.parent, source.stat().st_size)
        return _keep(target, f"onnxruntime could not optimize it: {_first_line(error)}")
    if _inputs(given) != _inputs(optimized):
        return _keep(target, "the optimized graph would require other inputs")
    if target.stat().st_size > source.stat().st_size * 1.1 + SLACK_BYTES:
        return _keep(target, "the optimized graph would be larger")
    names = [output.name for output in given.get_outputs()]
    for arrays in requests or draw_requests(signature):
        try:
            expected = given.run(names, dict(arrays))
        except Exception as error:
            return _keep(target, f"no request to compare it with: {_first_line(error)}")
        if not all(map(_equal_bits, expected, optimized.run(names, dict(arrays)))):
            return _keep(target, "the optimized graph returns different bits")
    return Optimization("")


def draw_requests(signature: Signature) -> list[dict[str, np.ndarray[Any, Any]]]:
    """Return requests with a fixed seed: free dimensions are 1, 2 and 3."""
    random = np.random.default_rng(0)
    required = [tensor for tensor in signature.inputs if tensor.required]
    return [{tensor.name: _draw(tensor, free, random) for tensor in required} for free in range(1, DRAWS + 1)]


def _draw(tensor: TensorSpec, free: int, random: np.random.Generator) -> np.ndarray[Any, Any]:
    shape = tuple(free if size < 0 else size for size in tensor.shape or ())
    datatype = DATATYPES[tensor.datatype]
    if datatype.kind == "bytes":
        return np.full(shape, "text", dtype=object)
    if datatype.kind == "float":
        return random.standard_normal(shape).astype(datatype.dtype)
    return random.integers(0, 2, shape).astype(datatype.dtype)


def _open(path: Path, save_to: Path | None = None) -> Any:
    disable_telemetry()
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong with random inputs is raised as an exception
    if save_to is not None:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(save_to)
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _inputs(session: Any) -> list[tuple[str, str, str]]:
    return [(tensor.name, tensor.type, str(tensor.shape)) for tensor in session.get_inputs()]


def _equal_bits(expected: Any, got: Any) -> bool:
    if isinstance(expected, np.ndarray):
        same = expected.dtype == got.dtype and expected.shape == got.shape
        return same and (
            np.array_equal(expected, got) if expected.dtype == object else expected.tobytes() == got.tobytes()
        )
    return bool(expected == got)  # the list of dicts of a ZipMap


def _keep(target: Path, reason: str) -> Optimization:
    target.unlink(missing_ok=True)
    return Optimization(reason)


def _first_line(error: Exception) -> str:
    return shorten_text(str(error).strip().split("\n")[0], 500)

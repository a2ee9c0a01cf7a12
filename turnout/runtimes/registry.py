"""The table of all runtimes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath

from turnout.runtimes.onnx import ONNX
from turnout.runtimes.python import PYTHON
from turnout.runtimes.runtime import Runtime

RUNTIMES: Mapping[str, Runtime] = {runtime.name: runtime for runtime in (ONNX, PYTHON)}
"""Runtimes by the name of `runtime` in models.yaml. A new one needs one row here and one folder in model_lambdas/."""

DEFAULT_RUNTIME = next(iter(RUNTIMES))
"""The runtime of versions that specify none, and of the layer that graphs and ONNX versions share."""


def find_runtime(path: PurePath) -> Runtime:
    """Return the runtime of a file by its suffix; the default one takes every suffix of no other runtime."""
    return next((runtime for runtime in RUNTIMES.values() if path.suffix == runtime.suffix), RUNTIMES[DEFAULT_RUNTIME])

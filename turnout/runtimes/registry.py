"""The runtimes that there are: the one place that knows them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath

from turnout.runtimes.onnx import ONNX
from turnout.runtimes.python import PYTHON
from turnout.runtimes.runtime import Runtime

RUNTIMES: Mapping[str, Runtime] = {runtime.name: runtime for runtime in (ONNX, PYTHON)}
"""By the name that `runtime` in models.yaml has. A new one is one row here and one folder in model_lambdas/."""

DEFAULT_RUNTIME = next(iter(RUNTIMES))
"""The runtime of versions that name none, and of the layer that graphs and ONNX versions share."""


def find_runtime(path: PurePath) -> Runtime:
    """Return the runtime of a file by its suffix; the default one takes every suffix that is no other's."""
    return next((runtime for runtime in RUNTIMES.values() if path.suffix == runtime.suffix), RUNTIMES[DEFAULT_RUNTIME])

"""A model that records the times of its runs, for the traces of `turnout serve`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from .runtime import Cancellation, Model

Array = npt.NDArray[Any]


class TimedModel:
    """A `Model` that wraps another one and records when it runs.

    Args:
        model: the wrapped model.
        times: the list to which the start and end of each run are added, in ns since 1970.
    """

    def __init__(self, model: Model, times: list[tuple[int, int]]) -> None:
        self._model = model
        self._times = times

    def run(
        self, inputs: Mapping[str, Array], names: Sequence[str] = (), cancellation: Cancellation | None = None
    ) -> dict[str, Array]:
        """See `Model.run`."""
        started_ns = time.time_ns()
        try:
            return self._model.run(inputs, names, cancellation)
        finally:
            self._times.append((started_ns, time.time_ns()))

"""The shapes for which a function's runs were short.

The cost of a run depends on the shapes of its inputs, which a body's size does not show: adding one number to 40,000
takes microseconds, but combining 20,000 rows with 20,000 columns takes seconds. Therefore a run uses the event loop
only with shapes that were short in a thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

Shapes = tuple[str | int, ...]

MOST_KNOWN = 1000
"""Most remembered shapes, rounded or exact; with more, all are forgotten and learned again."""


class KnownShapes:
    """Shapes, with each size rounded to the next power of two.

    Args:
        limit_s: the longest run that counts as short.
    """

    __slots__ = ("_exact", "_known", "_limit_s")

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._known: set[Shapes] = set()
        self._exact: set[tuple[object, ...]] = set()  # shapes as they are, whose rounded ones are known

    def knows(self, inputs: Mapping[str, npt.NDArray[Any]]) -> bool:
        """Whether runs with inputs of these shapes were short."""
        exact: list[object] = []
        for name, values in inputs.items():
            exact.append(name)
            exact.append(values.shape)
        key = tuple(exact)
        if key in self._exact:  # nearly always, and in half the time of rounding
            return True
        if make_shapes(inputs) not in self._known:
            return False
        if len(self._exact) >= MOST_KNOWN:
            self._exact.clear()
        self._exact.add(key)
        return True

    def learn(self, shapes: Shapes, cost_s: float) -> None:
        """Record the cost of one run in a thread."""
        if cost_s > self._limit_s:
            self._known.discard(shapes)
            self._exact.clear()
            return
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
            self._exact.clear()
        self._known.add(shapes)


def make_shapes(inputs: Mapping[str, npt.NDArray[Any]]) -> Shapes:
    """Return the inputs' names and the bit lengths of their sizes."""
    shapes: list[str | int] = []
    for name, values in inputs.items():
        shapes.append(name)
        for size in values.shape:
            shapes.append(size.bit_length())  # noqa: PERF401 - twice as fast as a generator for so few items
    return tuple(shapes)

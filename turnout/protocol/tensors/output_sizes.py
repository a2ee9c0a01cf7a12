"""Counts the elements of a model's outputs before the run, if a request's shapes determine them."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy.typing as npt

from turnout.protocol.tensors.datatypes import Signature, TensorSpec

Dimension = int | str

_LARGEST_SIZE = 2**63


class OutputSizes:
    """The outputs whose dimensions are all fixed or have the name of an input's dimension.

    Args:
        signature: signature of the graph. A transform's outputs are unknown.
        few: number of elements that need not be counted.
    """

    def __init__(self, signature: Signature, few: int) -> None:
        self._inputs = {
            tensor.name: tuple((axis, name) for axis, name in enumerate(tensor.dimension_names) if name)
            for tensor in signature.inputs
        }
        bound = {name for dimensions in self._inputs.values() for _, name in dimensions}
        shapes = {tensor.name: _spell(tensor) for tensor in signature.outputs}
        self._outputs: dict[str, tuple[Dimension, ...]] = {
            name: shape
            for name, shape in shapes.items()
            if shape is not None and all(size in bound if isinstance(size, str) else size >= 0 for size in shape)
        }

        self._safe_size = self._find_safe_size(few)

    def _find_safe_size(self, few: int) -> int:
        """Return the largest size of a dimension with which all outputs together always have few elements."""
        parts = [
            (prod(size for size in shape if isinstance(size, int)), sum(isinstance(size, str) for size in shape))
            for shape in self._outputs.values()
        ]
        low, high = -1, _LARGEST_SIZE
        while low < high:  # the number of elements grows with the size
            middle = (low + high + 1) // 2
            if sum(fixed * middle**free for fixed, free in parts) <= few:
                low = middle
            else:
                high = middle - 1
        return low

    def count(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, int]:
        """Return output -> its number of elements, if the request determines it; empty if they are always few."""
        safe_size = self._safe_size
        for values in inputs.values():
            for size in values.shape:
                if size > safe_size:
                    return self._count(inputs)
        return self._count(inputs) if safe_size < 0 else {}

    def _count(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for name, values in inputs.items():
            for axis, dimension in self._inputs.get(name, ()):
                if axis < values.ndim and sizes.setdefault(dimension, values.shape[axis]) != values.shape[axis]:
                    # conflicting sizes: onnxruntime may reject the request, or the dimension names have no meaning
                    return {}
        return {
            name: prod(sizes[size] if isinstance(size, str) else size for size in shape)
            for name, shape in self._outputs.items()
            if all(size in sizes for size in shape if isinstance(size, str))
        }


def _spell(tensor: TensorSpec) -> tuple[Dimension, ...] | None:
    """Return the shape with names for free dimensions; None if not even the rank is known."""
    if tensor.shape is None:
        return None
    names = tensor.dimension_names or (None,) * len(tensor.shape)
    return tuple(name if size < 0 and name else size for size, name in zip(tensor.shape, names, strict=True))

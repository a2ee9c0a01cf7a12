"""Combines several tensors: as alternatives, as a tensor that suits all, and as an ensemble's result.

Pure.

A free dimension is compatible with a fixed one, since only a call can decide; two different fixed ones are not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from turnout.protocol.tensors.datatypes import DATATYPES, TensorSpec
from turnout.wording import listed

Shape = tuple[int, ...] | None


class ClashError(ValueError):
    """The tensors are not compatible; the message gives the reason with their specs."""


def spell_tensor(tensor: TensorSpec) -> str:
    """Return `FP32 [-1,4]` or `INT64 of any shape`."""
    shape = "of any shape" if tensor.shape is None else f"[{','.join(map(str, tensor.shape))}]"
    return f"{tensor.datatype} {shape}"


def any_of(tensors: Sequence[TensorSpec]) -> TensorSpec:
    """Return the common description of a tensor that is one of these."""
    first = _of_one_datatype(tensors)
    shape = first.shape
    for tensor in tensors[1:]:
        shape = _loosened(shape, tensor.shape)
    return replace(
        first,
        shape=shape,
        dimension_names=(),
        required=all(tensor.required for tensor in tensors),
        labels=first.labels if all(tensor.labels == first.labels for tensor in tensors) else (),
    )


def all_of(tensors: Sequence[TensorSpec]) -> TensorSpec:
    """Return the requirements of a tensor that is sent to all of these."""
    first = _of_one_datatype(tensors)
    shape = _met(tensors)
    return replace(first, shape=shape, dimension_names=(), required=any(tensor.required for tensor in tensors))


def combine_tensors(word: str, tensors: Sequence[TensorSpec]) -> TensorSpec:
    """Return the tensor that an ensemble makes from its members' tensors; `word` is a key of `COMBINATIONS`."""
    first = _of_one_datatype(tensors)
    if any(tensor.labels != first.labels for tensor in tensors):
        raise ClashError(f"the columns are {' and '.join(dict.fromkeys(listed(map(str, t.labels)) for t in tensors))}")
    return replace(first, shape=COMBINATIONS[word](tensors), dimension_names=())


def _mean(tensors: Sequence[TensorSpec]) -> Shape:
    if DATATYPES[tensors[0].datatype].kind != "float":
        raise ClashError(f"{tensors[0].datatype} has no mean")
    return _met(tensors)


def _concatenate(tensors: Sequence[TensorSpec]) -> Shape:
    """Return the shape of the concatenation: the rows add up, the rest is equal."""
    if any(tensor.shape == () for tensor in tensors):
        raise ClashError("a scalar has no first axis")
    rest = _met([tensor if tensor.shape is None else replace(tensor, shape=tensor.shape[1:]) for tensor in tensors])
    sizes = [-1 if tensor.shape is None else tensor.shape[0] for tensor in tensors]
    return None if rest is None else (-1 if -1 in sizes else sum(sizes), *rest)


def _met(tensors: Sequence[TensorSpec]) -> Shape:
    """Return the shape that all of these may have."""
    shape: Shape = None
    for tensor in tensors:
        if shape is None or tensor.shape is None:
            shape = tensor.shape if shape is None else shape
            continue
        pairs = list(zip(shape, tensor.shape, strict=False))
        if len(shape) != len(tensor.shape) or any(one != other and -1 not in (one, other) for one, other in pairs):
            shapes = dict.fromkeys(spell_tensor(one_tensor) for one_tensor in tensors)
            raise ClashError(f"the shapes differ: {' and '.join(shapes)}")
        shape = tuple(max(pair) for pair in pairs)
    return shape


def _loosened(one: Shape, other: Shape) -> Shape:
    if one is None or other is None or len(one) != len(other):
        return None
    return tuple(first if first == second else -1 for first, second in zip(one, other, strict=True))


def _of_one_datatype(tensors: Sequence[TensorSpec]) -> TensorSpec:
    datatypes = dict.fromkeys(tensor.datatype for tensor in tensors)
    if len(datatypes) > 1:
        raise ClashError(f"the datatypes differ: {' and '.join(datatypes)}")
    return tensors[0]


COMBINATIONS: Mapping[str, Callable[[Sequence[TensorSpec]], Shape]] = {
    "mean": _mean,
    "vote": _met,
    "concatenate": _concatenate,
}
"""Ways to combine members' tensors, with the shape of the result. A new one needs an entry here, its word in the
manifest's schema, and its arithmetic in the router.
"""

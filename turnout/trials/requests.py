"""Makes the requests with which a version is tried from its signature: kinds that are known to crash processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from turnout.protocol.tensors.datatypes import DATATYPES, Array, Signature, TensorSpec
from turnout.protocol.tensors.fatal_requests import FatalRequest

FREE_SIZE = 2
"""The size of a free dimension if no other size is tested."""

LARGEST_ELEMENTS = 4_000_000
"""Most elements of one input: a model with larger inputs is opened, but not tried."""

MOST_PAIRED_INPUTS = 8
MOST_STEPS = 400


@dataclass(frozen=True, slots=True)
class TrialStep:
    """One request: the tested property, and the tensors' values."""

    kind: FatalRequest
    make: Callable[[], dict[str, Array]]


def make_steps(signature: Signature) -> tuple[TrialStep, ...]:
    """Return the requests in the order of their trial: each comes before those that include it."""
    inputs = [tensor for tensor in signature.inputs if tensor.required]
    if any(_count(tensor) > LARGEST_ELEMENTS for tensor in inputs):
        return ()
    steps = [_step(inputs), *_empty_steps(inputs), *_value_steps(inputs)]
    kinds: dict[FatalRequest, TrialStep] = {}
    for step in steps:
        kinds.setdefault(step.kind, step)
    return tuple(kinds.values())[:MOST_STEPS]


def _empty_steps(inputs: list[TensorSpec]) -> Iterator[TrialStep]:
    """Yield sizes of 0: of each free dimension, of all with one name, of all first ones, of all."""
    free = [(tensor.name, axis) for tensor in inputs for axis, size in enumerate(_shape(tensor)) if size < 0]
    named: dict[str, list[tuple[str, int]]] = {}
    for tensor in inputs:
        for axis, name in enumerate(tensor.dimension_names):
            if name:
                named.setdefault(name, []).append((tensor.name, axis))
    groups = [[axis] for axis in free]
    groups += list(named.values())
    groups.append([(name, axis) for name, axis in free if axis == 0])
    groups.append(free)
    for group in groups:
        chosen = [axis for axis in group if axis in free]
        if chosen:
            yield _step(inputs, empty=tuple(chosen))


def _value_steps(inputs: list[TensorSpec]) -> Iterator[TrialStep]:
    """Yield the smallest and the largest integers, 0 and -1: in each input, in all, and combined."""
    integers = [tensor for tensor in inputs if DATATYPES[tensor.datatype].kind == "int"]
    for tensor in integers:
        for value in _extremes(tensor):
            yield _step(inputs, values={tensor.name: (value,)})
    for tensor in integers:
        least, *_ = _extremes(tensor)
        if least < 0 and _count(tensor) >= 2:
            yield _step(inputs, values={tensor.name: (least, -1)})
            yield _step(inputs, values={tensor.name: (-1, least)})
    for index in range(3):
        yield _step(inputs, values={tensor.name: (_extremes(tensor)[index],) for tensor in integers})
    signed = [tensor for tensor in integers if _extremes(tensor)[0] < 0]
    if len(signed) <= MOST_PAIRED_INPUTS:
        for one, other in permutations(signed, 2):
            yield _step(inputs, values={one.name: (_extremes(one)[0],), other.name: (-1,)})


def _extremes(tensor: TensorSpec) -> tuple[int, ...]:
    """Return the smallest, the largest, 0, and -1 if the type has it."""
    limits = np.iinfo(DATATYPES[tensor.datatype].dtype)
    least = int(limits.min)
    return (least, int(limits.max), 0, *((-1,) if least < 0 else ()))


def _step(
    inputs: list[TensorSpec],
    empty: tuple[tuple[str, int], ...] = (),
    values: Mapping[str, tuple[int, ...]] | None = None,
) -> TrialStep:
    values = values or {}
    pairs = tuple((name, value) for name, choices in values.items() for value in sorted(choices))

    def make() -> dict[str, Array]:
        return {tensor.name: _fill(tensor, empty, values.get(tensor.name, ())) for tensor in inputs}

    return TrialStep(FatalRequest(empty, pairs), make)


def _shape(tensor: TensorSpec) -> tuple[int, ...]:
    return (-1,) if tensor.shape is None else tensor.shape


def _count(tensor: TensorSpec) -> int:
    count = 1
    for size in _shape(tensor):
        count *= FREE_SIZE if size < 0 else size
    return count


def _fill(tensor: TensorSpec, empty: tuple[tuple[str, int], ...], values: tuple[int, ...]) -> Array:
    shape = [FREE_SIZE if size < 0 else size for size in _shape(tensor)]
    for name, axis in empty:
        if name == tensor.name:
            shape[axis] = 0
    datatype = DATATYPES[tensor.datatype]
    if datatype.kind == "bytes":
        return np.full(shape, b"a", object)
    array = np.ones(shape, datatype.dtype)
    for index, value in enumerate(values):
        array.reshape(-1)[index :: len(values)] = value
    return array

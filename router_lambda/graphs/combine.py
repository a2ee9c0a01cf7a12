"""Combines an ensemble's outputs into one: mean, vote, concatenate.

Pure functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from turnout.protocol import bfloat16
from turnout.protocol.routing.step_tensors import Tensor
from turnout.protocol.tensors.datatypes import Array, Datatype


class CombineError(Exception):
    """The members' outputs do not fit together; the message says why."""


def combine(word: str, members: Sequence[Tensor]) -> Tensor:
    """Return one output made of the members' outputs.

    Raises:
        CombineError: their datatypes or shapes differ.
    """
    datatype = members[0].datatype
    others = sorted({member.datatype.name for member in members} - {datatype.name})
    if others:
        raise CombineError(f"datatypes {datatype.name} and {', '.join(others)} cannot be combined")
    return Tensor(datatype, COMBINATIONS[word](datatype, [member.values for member in members]))


def _mean(datatype: Datatype, members: list[Array]) -> Array:
    """Return the mean, computed in double precision and rounded once."""
    if datatype.kind != "float":
        raise CombineError(f"{datatype.name} has no mean")
    _check_shapes(members)
    is_bfloat16 = datatype.name == "BF16"
    doubles = [(bfloat16.to_float32(values) if is_bfloat16 else values).astype(np.float64) for values in members]
    mean = np.asarray(sum(doubles[1:], doubles[0]) / len(doubles))
    if is_bfloat16:
        return bfloat16.from_float64(mean)
    with np.errstate(over="ignore", under="ignore"):
        return mean.astype(datatype.dtype)


def _vote(_datatype: Datatype, members: list[Array]) -> Array:
    """Return the majority value of each element; on a tie, the value of the earliest member."""
    _check_shapes(members)
    stacked = np.stack(members)
    votes = np.stack([np.sum(stacked == values, axis=0) for values in members])
    winner = np.argmax(votes, axis=0)  # the first one on a tie
    winners: Array = np.take_along_axis(stacked, winner[np.newaxis], axis=0)[0]
    return np.asarray(winners, members[0].dtype)


def _concatenate(_datatype: Datatype, members: list[Array]) -> Array:
    shapes = [values.shape for values in members]
    if not shapes[0] or len({shape[1:] for shape in shapes}) > 1 or () in shapes:
        listed = " and ".join(str(list(shape)) for shape in shapes)
        raise CombineError(f"shapes {listed} cannot be concatenated along the first axis")
    return np.concatenate(members)


def _check_shapes(members: list[Array]) -> None:
    shapes = dict.fromkeys(values.shape for values in members)
    if len(shapes) > 1:
        raise CombineError(f"shapes {' and '.join(str(list(shape)) for shape in shapes)} differ")


COMBINATIONS: Mapping[str, Callable[[Datatype, list[Array]], Array]] = {
    "mean": _mean,
    "vote": _vote,
    "concatenate": _concatenate,
}
"""The function of every word of `combine`. A new one is an entry here and its word in the manifest's schema."""

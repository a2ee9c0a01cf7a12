"""A request made from a signature alone, for the document and for `turnout invoke` where a version has no examples.

It fits the signature always; a graph may still refuse its values (recurrent state, a minimum length), which is a 422.
"""

from __future__ import annotations

from math import prod
from typing import Any

from turnout.protocol.tensors.datatypes import DATATYPES, Signature, TensorSpec

VALUES: dict[str, Any] = {"float": 0.5, "int": 1, "bool": True, "bytes": "text"}
"""Values that most graphs accept, per kind of datatype: 0.5 is exact in every float, 1 is an id, a length and a
mask."""

EXAMPLE_BYTES = 8 * 1024
"""The largest example that a document shows: larger ones would soon fill the 6 MB that it may have."""


def make_shape(tensor: TensorSpec) -> tuple[int, ...]:
    """The smallest shape that fits: fixed dimensions kept, free ones 1, `[1]` where even the rank is open."""
    if tensor.shape is None:
        return (1,)
    return tuple(1 if dimension < 0 else dimension for dimension in tensor.shape)


def count_elements(tensor: TensorSpec) -> int:
    """The number of elements of the smallest tensor."""
    return prod(make_shape(tensor))


def count_request(signature: Signature) -> int:
    """The number of elements that `make_request` writes; a shape may ask for more than any machine holds."""
    return sum(count_elements(tensor) for tensor in signature.inputs if tensor.required)


def make_request(signature: Signature) -> dict[str, Any]:
    """A valid request: every required input, no optional one, data in one flat list."""
    return {
        "inputs": [
            {
                "name": tensor.name,
                "shape": list(make_shape(tensor)),
                "datatype": tensor.datatype,
                "data": [VALUES[DATATYPES[tensor.datatype].kind]] * count_elements(tensor),
            }
            for tensor in signature.inputs
            if tensor.required
        ]
    }

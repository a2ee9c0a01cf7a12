"""Makes a request from a signature alone, for the document and for `turnout invoke` if a version has no examples.

The request always matches the signature; a graph may still reject its values (recurrent state, a minimum length), which
is a 422.
"""

from __future__ import annotations

from math import prod
from typing import Any

from turnout.protocol.tensors.datatypes import DATATYPES, Signature, TensorSpec
from turnout.protocol.tensors.image_input import IMAGE

VALUES: dict[str, Any] = {"float": 0.5, "int": 1, "bool": True, "bytes": "text"}
"""Values that most graphs accept, per kind of datatype: 0.5 is exact in every float, 1 is an id, a length and a
mask."""

PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
"""A PNG file of one red pixel, in base64."""

EXAMPLE_BYTES = 8 * 1024
"""The largest example that a document shows: larger ones would soon fill its limit of 6 MB."""


def make_shape(tensor: TensorSpec) -> tuple[int, ...]:
    """Return the smallest matching shape: fixed dimensions are kept, free ones are 1; `[1]` if the rank is unknown."""
    if tensor.shape is None:
        return (1,)
    return tuple(1 if dimension < 0 else dimension for dimension in tensor.shape)


def count_elements(tensor: TensorSpec) -> int:
    """Return the number of elements of the smallest tensor."""
    return prod(make_shape(tensor))


def count_request(signature: Signature) -> int:
    """Return the number of elements that `make_request` would write.

    A shape may need more than any machine can hold.
    """
    return sum(count_elements(tensor) for tensor in signature.inputs if tensor.required)


def make_request(signature: Signature) -> dict[str, Any]:
    """Return a valid request: every required input, no optional one, data in one flat list."""
    return {
        "inputs": [
            {
                "name": tensor.name,
                "shape": list(make_shape(tensor)),
                "datatype": tensor.datatype,
                "data": [_value_of(tensor)] * count_elements(tensor),
            }
            for tensor in signature.inputs
            if tensor.required
        ]
    }


def _value_of(tensor: TensorSpec) -> Any:
    return PICTURE if tensor.content == IMAGE else VALUES[DATATYPES[tensor.datatype].kind]

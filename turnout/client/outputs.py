"""The outputs in an answer of any form, as arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from turnout.protocol.aws.events import LENGTH_HEADER
from turnout.protocol.bfloat16 import to_float32
from turnout.protocol.errors import RequestError
from turnout.protocol.tensors.binary_tensors import BinaryPart
from turnout.protocol.tensors.datatypes import DATATYPES, Array
from turnout.protocol.tensors.json_shapes import flatten_nested
from turnout.protocol.tensors.json_values import infer_datatype, read_values

PREDICTIONS = "predictions"
"""The name for the only output of a version that answers `{"predictions": [...]}` with bare values."""


class UnreadableAnswerError(ValueError):
    """A malformed answer; the message says what is wrong."""


def read_outputs(headers: Mapping[str, str], body: bytes) -> dict[str, Array]:
    """Return the arrays: texts in object arrays, BF16 as FP32; numbers in the short forms are FP64, INT64 or BOOL.

    Args:
        headers: names in lower case.
        body: unchanged.

    Raises:
        UnreadableAnswerError: it has none of the answer's forms.
    """
    length = headers.get(LENGTH_HEADER)
    try:
        end = len(body) if length is None else int(length)
        return dict(_outputs(orjson.loads(body[:end]), BinaryPart(body, end)))
    except (ValueError, KeyError, TypeError, OverflowError, RequestError) as error:
        raise UnreadableAnswerError(f"the response does not follow the protocol: {error}") from error


def _outputs(document: Mapping[str, Any], part: BinaryPart) -> Iterator[tuple[str, Array]]:
    if PREDICTIONS in document:
        predictions = document[PREDICTIONS]
        if predictions and isinstance(predictions[0], Mapping):
            yield from (
                (name, _from_lists(name, [instance[name] for instance in predictions])) for name in predictions[0]
            )
        else:
            yield PREDICTIONS, _from_lists(PREDICTIONS, predictions)
    elif isinstance(document["outputs"], Mapping):
        yield from ((name, _from_lists(name, values)) for name, values in document["outputs"].items())
    else:
        yield from ((tensor["name"], _from_tensor(tensor, part)) for tensor in document["outputs"])


def _from_tensor(tensor: Mapping[str, Any], part: BinaryPart) -> Array:
    name, datatype, shape = tensor["name"], DATATYPES[tensor["datatype"]], tensor["shape"]
    size = tensor.get("parameters", {}).get("binary_data_size")
    if size is None:
        values = read_values(name, datatype, tensor["data"], booleans=True)
    else:
        values = part.take(name, datatype, math.prod(shape), size)
    return (to_float32(values) if datatype.name == "BF16" else values).reshape(shape)


def _from_lists(name: str, values: Any) -> Array:
    flat, shape = flatten_nested(name, values)
    return read_values(name, infer_datatype(flat), flat, booleans=True).reshape(shape)

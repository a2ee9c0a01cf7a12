"""Writes tensors as a request for the next model, and reads the tensors of its answer.

Everything is sent in the Open Inference Protocol's binary form, which every model accepts and which needs no rounding
or number parsing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from turnout.protocol.aws.events import LENGTH_HEADER
from turnout.protocol.codecs.bodies import read_body
from turnout.protocol.errors import RequestError
from turnout.protocol.tensors.binary_tensors import write_binary
from turnout.protocol.tensors.datatypes import DATATYPES, Array, Datatype
from turnout.protocol.tensors.json_shapes import read_shape


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """An array and its datatype on the wire; the array alone does not determine it: BF16 and UINT16 look alike."""

    datatype: Datatype
    values: Array


Tensors = Mapping[str, Tensor]


class BadAnswerError(Exception):
    """A model's answer contains no readable tensors; the message gives the reason."""


def write_step(inputs: Tensors) -> tuple[dict[str, str], bytes]:
    """Return headers and body of a request for all outputs in binary."""
    parts = {name: write_binary(tensor.datatype.name, tensor.values) for name, tensor in inputs.items()}
    spelled = [
        {
            "name": name,
            "datatype": tensor.datatype.name,
            "shape": tensor.values.shape,
            "parameters": {"binary_data_size": len(parts[name])},
        }
        for name, tensor in inputs.items()
    ]
    text = orjson.dumps({"inputs": spelled, "parameters": {"binary_data_output": True}})
    headers = {"content-type": "application/octet-stream", LENGTH_HEADER: str(len(text))}
    return headers, b"".join((text, *parts.values()))


def read_step(headers: Mapping[str, str], body: bytes) -> dict[str, Tensor]:
    """Return the outputs of an answer to a request of `write_step`.

    Args:
        headers: with names in lower case.
        body: body of the answer.

    Raises:
        BadAnswerError: it is not such an answer.
    """
    try:
        text, part = read_body(headers, body)
        if part is None:
            raise BadAnswerError("expected tensors in binary, got none")
        tensors = {}
        for output in orjson.loads(text)["outputs"]:
            name, datatype = output["name"], DATATYPES[output["datatype"]]
            shape = read_shape(name, output["shape"])
            values = part.take(name, datatype, math.prod(shape), output["parameters"]["binary_data_size"])
            tensors[name] = Tensor(datatype, values.reshape(shape))
        part.check_finished()
    except RequestError as error:
        raise BadAnswerError(error.message) from None
    except (ValueError, TypeError, KeyError) as error:
        raise BadAnswerError(f"no answer of the Open Inference Protocol: {type(error).__name__}: {error}") from None
    return tensors

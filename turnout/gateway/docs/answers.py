"""The body with which a version answers its example, written by the same codecs as real answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from turnout.artifacts.examples import Example, ExpectedOutput
from turnout.plan.values import ServedVersion
from turnout.protocol import bfloat16
from turnout.protocol.codecs.codecs import build_interface, decode_request, encode_answer
from turnout.protocol.errors import RequestError
from turnout.protocol.tensors.datatypes import DATATYPES

_JSON = {"content-type": "application/json"}


def write_answer(served: ServedVersion, example: Example) -> bytes | None:
    """Return the expected body, with the outputs that the example names; None if it cannot be written as JSON.

    Args:
        served: the version.
        example: one of its examples.
    """
    version = served.version
    is_free = bool(version.transform) and not (version.inputs or version.outputs)
    interface = build_interface(
        served.signature, version.model, version.name, free_inputs=is_free, free_outputs=is_free
    )
    try:
        request = decode_request(_JSON, orjson.dumps(example.request), interface)
        wanted = [tensor for tensor in example.outputs if not request.outputs or tensor.name in request.outputs]
        answer = encode_answer({output.name: _array_of(output) for output in wanted}, request, interface)
    except (RequestError, ValueError, TypeError, OverflowError, KeyError):
        return None  # `turnout validate` and `turnout test` report it; the page shows only the outputs
    return answer.body if answer.json_length is None else None


def _array_of(output: ExpectedOutput) -> npt.NDArray[Any]:
    if output.datatype == "BF16":
        return bfloat16.from_float64(np.array(output.data, np.float64)).reshape(output.shape)
    return np.array(output.data, DATATYPES[output.datatype].dtype).reshape(output.shape)

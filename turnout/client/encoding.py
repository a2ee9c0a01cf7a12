"""Encodes arrays as a request's body: small ones as JSON, others in the binary form of the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from turnout.protocol.tensors.binary_tensors import write_binary
from turnout.protocol.tensors.datatypes import DATATYPES, Array
from turnout.protocol.tensors.interface import datatype_of

BINARY_BYTES = 16_384
"""From this size on all arrays are sent, and requested, in binary: decimal digits take three times the space and more
time.
"""

ALIGNED_BYTES = 8
"""The binary tensors begin at a multiple of the largest element's size, so that the server need not copy them."""


@dataclass(frozen=True, slots=True)
class EncodedRequest:
    """A body, and the headers that describe its format."""

    headers: Mapping[str, str]
    body: bytes


def encode_request(
    inputs: Mapping[str, Any], datatypes: Mapping[str, str], outputs: Sequence[str] = ()
) -> EncodedRequest:
    """Return the request for some inputs.

    Args:
        inputs: name -> array, or a value that numpy can convert to one.
        datatypes: input -> the datatype that the version declares. Arrays of another datatype are converted if the
            kind of number allows it; an input that is not named is sent unchanged.
        outputs: the outputs to return; all if empty.

    Raises:
        TypeError: an array cannot be sent, or not as its declared datatype.
    """
    arrays = {name: prepare_array(name, values, datatypes.get(name, "")) for name, values in inputs.items()}
    is_binary = sum(values.nbytes for values, _ in arrays.values()) >= BINARY_BYTES
    parts, tensors = [], []
    for name, (values, datatype) in arrays.items():
        tensor: dict[str, Any] = {"name": name, "shape": list(values.shape), "datatype": datatype}
        if is_binary or datatype == "BF16":
            parts.append(write_binary(datatype, values))
            tensor["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            tensor["data"] = _spell(values)
        tensors.append(tensor)
    document: dict[str, Any] = {"inputs": tensors}
    if outputs:
        document["outputs"] = [{"name": name} for name in outputs]
    if is_binary:
        document["parameters"] = {"binary_data_output": True}
    text = orjson.dumps(document)
    if not parts:
        return EncodedRequest({"content-type": "application/json"}, text)
    text += b" " * (-len(text) % ALIGNED_BYTES)
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(text))}
    return EncodedRequest(headers, b"".join((text, *parts)))


def prepare_array(name: str, values: Any, declared: str) -> tuple[Array, str]:
    """Return an array and the datatype to send it as.

    Raises:
        TypeError: it cannot be sent.
    """
    array = np.asarray(values)
    if array.dtype.kind in "US":
        array = array.astype(object)
    if declared in DATATYPES and declared not in {"BYTES", "BF16"}:
        wanted = DATATYPES[declared].dtype
        # The items of a Python list have no dtype: any conversion that keeps integers exact is fine.
        is_number = array.dtype.kind in "iufb" and wanted.kind in {"f", array.dtype.kind}
        if array.dtype != wanted:
            if not (np.can_cast(array.dtype, wanted, "same_kind") or is_number):
                raise TypeError(f"input `{name}`: expected {declared}, got {array.dtype}")
            array = array.astype(wanted)
    datatype = datatype_of(array, declared)
    if not datatype:
        raise TypeError(f"input `{name}`: arrays of {array.dtype} cannot be sent")
    return array, datatype


def _spell(values: Array) -> list[Any]:
    if values.dtype.kind == "O":
        return [value.decode() if isinstance(value, bytes) else value for value in values.reshape(-1).tolist()]
    flat: list[Any] = values.reshape(-1).tolist()
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        return [_spell_float(value) for value in flat]
    return flat


def _spell_float(value: float) -> float | str:
    if np.isnan(value):
        return "NaN"
    return value if np.isfinite(value) else "Infinity" if value > 0 else "-Infinity"

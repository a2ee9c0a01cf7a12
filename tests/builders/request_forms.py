"""One request in all the forms that a model's function reads, as client libraries send them."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from turnout.artifacts.examples import Example
from turnout.protocol.tensors.datatypes import DATATYPES

NUMPY: Mapping[str, str] = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8",
    "INT8": "i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip


def flat(values: Any) -> list[Any]:
    return [leaf for value in values for leaf in flat(value)] if isinstance(values, list) else [values]


def nested(data: Sequence[Any], shape: Sequence[int]) -> Any:
    """Return flat data as nested lists."""
    if not shape:
        return data[0]
    step = math.prod(shape[1:])
    return [nested(data[entry * step : (entry + 1) * step], shape[1:]) for entry in range(shape[0])]


def is_plain(example: Example) -> bool:
    """Whether the example's request has the Open Inference Protocol's own form."""
    return isinstance(example.request.get("inputs"), list)


def as_columns(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return `{"inputs": {name: nested lists}}`."""
    return {"inputs": {tensor["name"]: nested(flat(tensor["data"]), tensor["shape"]) for tensor in request["inputs"]}}


def as_instances(request: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return `{"instances": [...]}`, or None if the inputs have no common number of rows."""
    rows = {tensor["shape"][0] if tensor["shape"] else None for tensor in request["inputs"]}
    if len(rows) != 1 or None in rows:
        return None
    columns = as_columns(request)["inputs"]
    if len(columns) == 1:
        return {"instances": next(iter(columns.values()))}
    return {"instances": [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]}


def encode(datatype: str, values: Sequence[Any]) -> bytes:
    """Return a tensor's bytes in the binary extension: little-endian; each BYTES element after its four-byte length."""
    if datatype == "BYTES":
        texts = [value.encode() for value in values]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return np.array(values, dtype=NUMPY[datatype]).tobytes()


def decode(datatype: str, raw: bytes) -> list[Any]:
    if datatype != "BYTES":
        return list(np.frombuffer(raw, dtype=NUMPY[datatype]).tolist())
    texts, at = [], 0
    while at < len(raw):
        (length,) = struct.unpack_from("<I", raw, at)
        texts.append(raw[at + 4 : at + 4 + length].decode())
        at += 4 + length
    return texts


def as_binary(request: Mapping[str, Any], *, binary_output: bool = False) -> tuple[bytes, int]:
    """Return the binary form's body and the length of the JSON before the tensors."""
    rows, tensors = [], []
    for tensor in request["inputs"]:
        raw = encode(tensor["datatype"], flat(tensor["data"]))
        tensors.append(raw)
        rows.append(
            {"name": tensor["name"], "shape": tensor["shape"], "datatype": tensor["datatype"]}
            | {"parameters": {"binary_data_size": len(raw)}}
        )
    whole: dict[str, Any] = {"inputs": rows}
    if binary_output:
        whole["parameters"] = {"binary_data_output": True}
    head = orjson.dumps(whole)
    return b"".join([head, *tensors]), len(head)


def read_binary(body: bytes, head_length: int) -> dict[str, Any]:
    """Read a binary answer as if it had arrived as JSON."""
    answer: dict[str, Any] = orjson.loads(body[:head_length])
    at = head_length
    for tensor in answer["outputs"]:
        size = tensor.get("parameters", {}).get("binary_data_size")
        if size is None:
            continue
        raw = body[at : at + size]
        assert len(raw) == size, "the answer is shorter than its sizes say"
        at += size
        tensor["data"] = decode(tensor["datatype"], raw)
        assert tensor["datatype"] in DATATYPES
    assert at == len(body), "the answer is longer than its sizes say"
    return answer

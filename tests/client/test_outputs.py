"""Answers of all forms, converted to arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import orjson
import pytest

from turnout.client.outputs import UnreadableAnswerError, read_outputs
from turnout.protocol.codecs.codecs import InferenceRequest, encode_answer
from turnout.protocol.tensors.datatypes import DATATYPES, Signature, TensorSpec
from turnout.protocol.tensors.interface import build_interface


def read(document: Any) -> dict[str, Any]:
    result = read_outputs({}, orjson.dumps(document))
    return {name: (values.dtype.kind, values.tolist()) for name, values in result.items()}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (
            {"outputs": {"a": [[1, 2.5]], "b": ["x"], "c": [True], "d": [], "e": 7}},
            {"a": ("f", [[1.0, 2.5]]), "b": ("O", [b"x"]), "c": ("b", [True]), "d": ("f", []), "e": ("i", 7)},
        ),
        (
            {"outputs": {"a": [1.5, "Infinity", None]}},
            {"a": ("f", [1.5, math.inf, pytest.approx(math.nan, nan_ok=True)])},
        ),
        (
            {"predictions": [{"a": [1], "l": "x"}, {"a": [2], "l": "y"}]},
            {"a": ("i", [[1], [2]]), "l": ("O", [b"x", b"y"])},
        ),
        ({"predictions": [0.5, 1.5]}, {"predictions": ("f", [0.5, 1.5])}),
        ({"predictions": []}, {"predictions": ("f", [])}),
        (
            {"outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1, "-Infinity"]}]},
            {"y": ("f", [[1.0, -math.inf]])},
        ),
    ],
)
def test_each_form(document: Any, expected: Any) -> None:
    assert read(document) == expected


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("datatype", DATATYPES)
def test_each_datatype_of_the_protocol(datatype: str, binary: bool) -> None:
    entry = DATATYPES[datatype]
    values = np.array([b"0", b"1"], object) if entry.kind == "bytes" else np.array([0, 1], entry.dtype)
    if datatype == "BF16":
        values = np.array([0, 0x3F80], entry.dtype)
    interface = build_interface(Signature((), (TensorSpec("y", datatype, (2,)),)), "m", "v1")
    answer = encode_answer({"y": values}, InferenceRequest("open", {}, binary_default=binary), interface)
    headers = {} if answer.json_length is None else {"inference-header-content-length": str(answer.json_length)}
    result = read_outputs(headers, answer.body)["y"]
    assert result.tolist() == ([b"0", b"1"] if entry.kind == "bytes" else [0, 1])
    assert (result.dtype.kind == "f") == (entry.kind == "float")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"outputs": [7]}',
        b'{"outputs": {"a": [[1], [1, 2]]}}',
        b'{"outputs": [{"name": "y", "datatype": "FP99", "shape": [1], "data": [1]}]}',
        b'{"outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "data": [1]}]}',
        b'{"predictions": [{"a": 1}, {"b": 1}]}',
        b'{"outputs": [{"name": "y", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}}]}',
    ],
)
def test_any_other_answer_is_rejected(body: bytes) -> None:
    with pytest.raises(UnreadableAnswerError, match="does not follow the protocol"):
        read_outputs({}, body)

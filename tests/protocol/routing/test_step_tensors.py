from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st

from turnout.protocol.aws.events import LENGTH_HEADER
from turnout.protocol.codecs.codecs import decode_request
from turnout.protocol.routing.step_tensors import BadAnswerError, Tensor, read_step, write_step
from turnout.protocol.tensors.binary_tensors import write_binary
from turnout.protocol.tensors.datatypes import DATATYPES, Signature, TensorSpec
from turnout.protocol.tensors.interface import build_interface

NUMBERS = sorted(name for name, datatype in DATATYPES.items() if datatype.kind != "bytes")


def answer_of(tensors: dict[str, Tensor]) -> tuple[dict[str, str], bytes]:
    """Return an answer as the model function writes it."""
    parts = [write_binary(tensor.datatype.name, tensor.values) for tensor in tensors.values()]
    rows = [
        {
            "name": name,
            "datatype": tensor.datatype.name,
            "shape": list(tensor.values.shape),
            "parameters": {"binary_data_size": len(part)},
        }
        for (name, tensor), part in zip(tensors.items(), parts, strict=True)
    ]
    text = json.dumps({"model_name": "iris", "model_version": "v1", "outputs": rows}).encode()
    return {"content-type": "application/octet-stream", LENGTH_HEADER: str(len(text))}, text + b"".join(parts)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    datatype = DATATYPES[draw(st.sampled_from(sorted(DATATYPES)))]
    shape = draw(np_st.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    if datatype.kind == "bytes":
        count = int(np.prod(shape))
        values = np.empty(count, object)
        values[:] = draw(st.lists(st.binary(max_size=5), min_size=count, max_size=count))
        return Tensor(datatype, values.reshape(shape))
    return Tensor(datatype, draw(np_st.arrays(datatype.dtype, shape)))


def assert_same(received: Tensor, sent: Tensor) -> None:
    assert (received.datatype, received.values.shape, received.values.dtype) == (
        sent.datatype,
        sent.values.shape,
        sent.values.dtype,
    )
    assert write_binary(received.datatype.name, received.values) == write_binary(sent.datatype.name, sent.values)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=5), tensors(), min_size=1, max_size=3))
def test_written_tensors_are_read_by_a_model(sent: dict[str, Tensor]) -> None:
    specs = tuple(TensorSpec(name, tensor.datatype.name, None) for name, tensor in sent.items())
    request = decode_request(*write_step(sent), build_interface(Signature(specs, ())))
    for name, values in request.inputs.items():
        assert_same(Tensor(sent[name].datatype, values), sent[name])
    assert request.binary_default


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=5), tensors(), min_size=1, max_size=3))
def test_answers_of_a_model_are_read(sent: dict[str, Tensor]) -> None:
    result = read_step(*answer_of(sent))
    assert list(result) == list(sent)
    for name, tensor in result.items():
        assert_same(tensor, sent[name])


def changed(**fields: Any) -> tuple[dict[str, str], bytes]:
    headers, body = answer_of({"y": Tensor(DATATYPES["FP32"], np.zeros(2, "<f4"))})
    document = json.loads(body[: int(headers[LENGTH_HEADER])])
    document["outputs"][0].update(fields)
    text = json.dumps(document).encode()
    return {**headers, LENGTH_HEADER: str(len(text))}, text + b"\0" * 8


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b"{}"),
        ({}, b""),
        ({LENGTH_HEADER: "2"}, b"{}"),
        ({LENGTH_HEADER: "2"}, b"[]"),
        ({LENGTH_HEADER: "1"}, b"?"),
        ({LENGTH_HEADER: "9"}, b"{}"),
        changed(datatype="FP8"),
        changed(shape=[3]),
        changed(shape=[-1]),
        changed(shape="2"),
        changed(parameters={}),
        changed(parameters=None),
        changed(parameters={"binary_data_size": 7}),
        changed(parameters={"binary_data_size": 4}, shape=[1]),
    ],
)
def test_invalid_answers_are_reported(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(BadAnswerError):
        read_step(headers, body)

"""An identity model returns what it is sent, in every form and datatype, through a real session."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_lambdas.function.handler import ModelFunction
from tests.builders.model_functions import Reply, binary_request, call, identity, open_request
from turnout.protocol import bfloat16
from turnout.protocol.tensors.binary_tensors import write_binary
from turnout.protocol.tensors.datatypes import DATATYPES
from turnout.protocol.tensors.json_values import write_values

MakeIdentity = Callable[..., ModelFunction]

NUMBERS = [name for name, entry in DATATYPES.items() if entry.kind in {"int", "float"}]
SHAPES = [(), (3,), (1, 4), (0, 4), (2, 0), (2, 3, 1), (0,)]


@pytest.fixture(scope="module")
def make_identity(tmp_path_factory: pytest.TempPathFactory) -> MakeIdentity:
    """Identity functions, each made once."""
    folder = tmp_path_factory.mktemp("identity")
    made: dict[Any, ModelFunction] = {}

    def make(datatype: str, shape: tuple[int, ...] | None = None) -> ModelFunction:
        if (datatype, shape) not in made:
            made[datatype, shape] = identity(folder, datatype, shape)
        return made[datatype, shape]

    return make


def sample(datatype: str, shape: tuple[int, ...]) -> Any:
    """Values of that datatype: limits, special values, and random bits."""
    entry, size = DATATYPES[datatype], math.prod(shape)
    generator = np.random.default_rng(size)
    if entry.kind == "bytes":
        values = np.empty(size, object)
        values[:] = [text.encode() for text in ("NaN", "", "é\0", "🙂", "a" * 300, '"')[:size]]
        return values.reshape(shape)
    if entry.kind == "bool":
        return (generator.integers(0, 2, size) == 1).reshape(shape)
    values = np.frombuffer(generator.bytes(size * entry.size), entry.dtype).copy()
    if entry.kind == "int" and size > 1:
        values[:2] = [np.iinfo(entry.dtype).min, np.iinfo(entry.dtype).max]
    return values.reshape(shape)


def same(datatype: str, left: Any, right: Any) -> bool:
    """Bitwise equal, except that all NaNs count as equal."""
    if left.shape != right.shape:
        return False
    if datatype == "BF16":
        left, right = bfloat16.to_float32(left), bfloat16.to_float32(right)
    if left.dtype.kind == "f":
        nan = np.isnan(left)
        if not (np.isnan(right) == nan).all():
            return False
        left, right = left[~nan], right[~nan]
    if left.dtype.kind == "O":
        return bool(left.tolist() == right.tolist())
    return bool(left.tobytes() == right.tobytes())


def read_json(datatype: str, data: Any, shape: list[int]) -> Any:
    """Read an answer's data as a client would: with numpy alone, which has no bfloat16."""
    entry = DATATYPES[datatype]
    if entry.kind == "bytes":
        values = np.empty(len(data), object)
        values[:] = [text.encode() for text in data]
        return values.reshape(shape)
    if entry.kind == "float":
        numbers = np.array([float(number) for number in data], np.float64)
        with np.errstate(invalid="ignore"):
            narrow = bfloat16.from_float64(numbers) if datatype == "BF16" else numbers.astype(entry.dtype)
        return narrow.reshape(shape)
    assert all(type(number) is (bool if entry.kind == "bool" else int) for number in data)
    return np.array(data, entry.dtype).reshape(shape)


def tensor_of(reply: Reply) -> Any:
    assert reply.status == 200, reply.json
    (tensor,) = reply.json["outputs"]
    return tensor


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("nested", [False, True])
def test_json_is_returned_unchanged(
    make_identity: MakeIdentity, datatype: str, shape: tuple[int, ...], nested: bool
) -> None:
    values = sample(datatype, shape)
    data = write_values("x", datatype, values if nested else values.reshape(-1), spelled=True)
    tensor = tensor_of(call(make_identity(datatype), open_request(data, list(shape), datatype)))
    assert (tensor["name"], tensor["datatype"], tensor["shape"]) == ("y", datatype, list(shape))
    assert same(datatype, read_json(datatype, tensor["data"], tensor["shape"]), values)


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("asked", ["default", "output"])
def test_binary_is_returned_bit_for_bit(
    make_identity: MakeIdentity, datatype: str, shape: tuple[int, ...], asked: str
) -> None:
    raw = write_binary(datatype, sample(datatype, shape))
    fields: dict[str, Any] = {"id": "7", "parameters": {"binary_data_output": True}}
    if asked == "output":
        fields = {"id": "7", "outputs": [{"name": "y", "parameters": {"binary_data": True}}]}
    body, headers = binary_request(raw, list(shape), datatype, **fields)
    reply = call(make_identity(datatype), body, headers)
    tensor = tensor_of(reply)
    assert tensor == {
        "name": "y",
        "datatype": datatype,
        "shape": list(shape),
        "parameters": {"binary_data_size": len(raw)},
    }
    assert reply.tail == raw
    assert reply.json["id"] == "7"


@pytest.mark.parametrize("datatype", DATATYPES)
def test_request_and_answer_may_have_different_forms(make_identity: MakeIdentity, datatype: str) -> None:
    values = sample(datatype, (2, 3))
    raw = write_binary(datatype, values)
    data = write_values("x", datatype, values, spelled=True)
    body, headers = binary_request(raw, [2, 3], datatype)
    to_json = tensor_of(call(make_identity(datatype), body, headers))
    assert same(datatype, read_json(datatype, to_json["data"], [2, 3]), values)
    request = open_request(data, [2, 3], datatype, parameters={"binary_data_output": True})
    to_binary = call(make_identity(datatype), request)
    if DATATYPES[datatype].kind == "float":
        back = np.frombuffer(to_binary.tail, DATATYPES[datatype].dtype).reshape(2, 3)
        assert same(datatype, back, values)
    else:
        assert to_binary.tail == raw


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("shape", [(3,), (1, 4), (2, 3, 1), (2, 0), (0,)], ids=str)
def test_short_forms_are_answered_with_nested_lists(
    make_identity: MakeIdentity, datatype: str, shape: tuple[int, ...]
) -> None:
    values = sample(datatype, shape)
    text = orjson.dumps(write_values("x", datatype, values, spelled=True), option=orjson.OPT_SERIALIZE_NUMPY)
    nested = json.loads(text)
    function = make_identity(datatype, (-1,) * len(shape))
    named = call(function, {"inputs": {"x": nested}})
    assert (named.status, named.json) == (200, {"outputs": {"y": nested}})
    bare = call(function, {"instances": nested})
    assert (bare.status, bare.json) == (200, {"predictions": nested})
    rows = call(function, {"instances": [{"x": entry} for entry in nested]})
    assert rows.json == bare.json


@pytest.mark.parametrize("shape", [(-1, 4), (-1, 2, 3), (0, 4)], ids=str)
def test_an_empty_batch_of_the_short_forms_has_the_rank_of_the_signature(
    make_identity: MakeIdentity, shape: tuple[int, ...]
) -> None:
    function = make_identity("FP32", shape)
    assert call(function, {"instances": []}).json == {"predictions": []}
    assert call(function, {"inputs": {"x": []}}).json == {"outputs": {"y": []}}


@pytest.mark.parametrize("datatype", ["FP32", "BF16", "BOOL", "BYTES"])
def test_tensors_without_elements_need_no_json_length_header(make_identity: MakeIdentity, datatype: str) -> None:
    body, headers = binary_request(b"", [2, 0], datatype)
    reply = call(make_identity(datatype, None), body, {"Content-Type": "application/json"})
    assert (reply.status, reply.json["outputs"][0]["shape"]) == (200, [2, 0])
    assert call(make_identity(datatype, None), body, headers).json == reply.json


def test_a_scalar_of_the_short_form_is_not_in_a_list(make_identity: MakeIdentity) -> None:
    assert call(make_identity("FP16", ()), {"inputs": {"x": 0.5}}).json == {"outputs": {"y": 0.5}}
    assert call(make_identity("BYTES", ()), {"inputs": {"x": "a"}}).json == {"outputs": {"y": "a"}}
    assert call(make_identity("FP32", ()), {"inputs": {"x": "NaN"}}).json == {"outputs": {"y": "NaN"}}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(width=32), max_size=40))
def test_any_float_is_returned_unchanged_through_json(make_identity: MakeIdentity, numbers: list[float]) -> None:
    values = np.array(numbers, np.float32)
    data = write_values("x", "FP32", values, spelled=True)
    tensor = tensor_of(call(make_identity("FP32"), open_request(data, [len(numbers)])))
    assert same("FP32", read_json("FP32", tensor["data"], tensor["shape"]), values)


@given(st.lists(st.text(), max_size=10))
def test_any_text_is_returned_unchanged_through_json_and_binary(make_identity: MakeIdentity, texts: list[str]) -> None:
    function = make_identity("BYTES")
    assert tensor_of(call(function, open_request(texts, [len(texts)], "BYTES")))["data"] == texts
    values = np.empty(len(texts), object)
    values[:] = texts
    raw = write_binary("BYTES", values)
    body, headers = binary_request(raw, [len(texts)], "BYTES", parameters={"binary_data_output": True})
    assert call(function, body, headers).tail == raw


@pytest.mark.parametrize("datatype", NUMBERS)
@given(raw=st.binary(min_size=16, max_size=16), front=st.text("ab", max_size=4))
def test_any_bits_are_returned_unchanged_through_binary(
    make_identity: MakeIdentity, datatype: str, raw: bytes, front: str
) -> None:
    count = 16 // DATATYPES[datatype].size
    body, headers = binary_request(raw, [count], datatype, id=front, parameters={"binary_data_output": True})
    assert call(make_identity(datatype), body, headers).tail == raw

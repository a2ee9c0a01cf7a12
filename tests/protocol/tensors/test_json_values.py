from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.protocol import bfloat16
from turnout.protocol.errors import RequestError
from turnout.protocol.tensors.datatypes import DATATYPES
from turnout.protocol.tensors.json_values import infer_datatype, may_hold_booleans, read_values, write_values

INTEGERS = [name for name, entry in DATATYPES.items() if entry.kind == "int"]
FLOATS = [name for name, entry in DATATYPES.items() if entry.kind == "float"]


def read(datatype: str, text: str) -> Any:
    values = orjson.loads(text)
    return read_values("x", DATATYPES[datatype], values, booleans=may_hold_booleans(text.encode()))


def write(datatype: str, values: Any) -> str:
    return orjson.dumps(write_values("y", datatype, values, spelled=True), option=orjson.OPT_SERIALIZE_NUMPY).decode()


def numbers_of(datatype: str, values: Any) -> Any:
    return bfloat16.to_float32(values) if datatype == "BF16" else values


@pytest.mark.parametrize("datatype", INTEGERS)
def test_integers_at_their_limits_are_exact(datatype: str) -> None:
    limits = np.iinfo(DATATYPES[datatype].dtype)
    result = read(datatype, f"[{limits.min}, {limits.max}, 0]")
    assert result.dtype == DATATYPES[datatype].dtype
    assert result.tolist() == [limits.min, limits.max, 0]
    assert json.loads(write(datatype, result)) == [limits.min, limits.max, 0]


@pytest.mark.parametrize("datatype", INTEGERS)
@pytest.mark.parametrize("beside", [-1, 1])
def test_integers_beyond_their_limits_are_rejected(datatype: str, beside: int) -> None:
    limits = np.iinfo(DATATYPES[datatype].dtype)
    value = int(limits.max) + 1 if beside > 0 else int(limits.min) - 1
    with pytest.raises(RequestError) as caught:
        read(datatype, f"[0, {value}]")
    assert caught.value.code == "VALUE_OUT_OF_RANGE"
    assert "`x`, element 1" in caught.value.message


WRONG_VALUES = [
    *((datatype, wrong, "INVALID_VALUE") for datatype in INTEGERS
      for wrong in ("1.5", "1.0", "1e3", '"1"', "true", "null", "{}", '"NaN"')),
    *((datatype, wrong, "INVALID_VALUE") for datatype in FLOATS
      for wrong in ('"1.5"', "true", "false", '""', "{}", '"nan"', '"inf"', '"+Infinity"')),
    *(("BOOL", wrong, "INVALID_VALUE") for wrong in ("1", "0", '"true"', "null", "0.0", "{}")),
    *(("BYTES", wrong, "INVALID_VALUE") for wrong in ("7", "7.5", "true", "null", "{}")),
    *((datatype, "[1]", "SHAPE_MISMATCH") for datatype in DATATYPES),
    ("FP32", "1e39", "VALUE_OUT_OF_RANGE"),
    ("FP32", "-3.40282357e38", "VALUE_OUT_OF_RANGE"),
    ("FP32", "1" + "0" * 40, "VALUE_OUT_OF_RANGE"),
    ("FP16", "65520", "VALUE_OUT_OF_RANGE"),
    ("BF16", "3.4e38", "VALUE_OUT_OF_RANGE"),
    ("BF16", "1e300", "VALUE_OUT_OF_RANGE"),
    ("UINT8", "1e30", "VALUE_OUT_OF_RANGE"),
    ("INT64", "1e30", "VALUE_OUT_OF_RANGE"),
]  # fmt: skip

GOOD = {"int": "7", "float": "0.5", "bool": "true", "bytes": '"a"'}


@pytest.mark.parametrize(("datatype", "wrong", "code"), WRONG_VALUES)
def test_values_that_the_datatype_cannot_hold_are_rejected(datatype: str, wrong: str, code: str) -> None:
    good = GOOD[DATATYPES[datatype].kind]
    for text in (f"[{good}, {wrong}, {good}]", "[" + f"{good}, " * 40 + f"{wrong}]"):
        with pytest.raises(RequestError) as caught:
            read(datatype, text)
        assert caught.value.code == code, caught.value.message
        assert caught.value.details["tensor"] == "x"
        assert {"expected", "got", "index"} <= caught.value.details.keys()
        json.dumps(caught.value.body())


@pytest.mark.parametrize("datatype", FLOATS)
def test_special_values_and_null_are_read_in_floats(datatype: str) -> None:
    result = numbers_of(datatype, read(datatype, '["NaN", null, "Infinity", "-Infinity", -0.0, 1, 0.5]'))
    assert np.isnan(result[:2]).all()
    assert result[2:].tolist() == [math.inf, -math.inf, 0.0, 1.0, 0.5]
    assert math.copysign(1, result[4]) == -1


@pytest.mark.parametrize("datatype", FLOATS)
def test_special_values_are_written_as_strings(datatype: str) -> None:
    result = read(datatype, '["NaN", "Infinity", "-Infinity", -0.0]')
    assert write(datatype, result) == '["NaN","Infinity","-Infinity",-0.0]'
    assert write(datatype, result.reshape(2, 1, 2)) == '[[["NaN","Infinity"]],[["-Infinity",-0.0]]]'
    assert write(datatype, result[0].reshape(())) == '"NaN"'


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_every_float_of_16_bits_survives_json(datatype: str) -> None:
    every = np.arange(65536, dtype=np.uint16).view(DATATYPES[datatype].dtype)
    back = read(datatype, write(datatype, every))
    nan = np.isnan(numbers_of(datatype, every))
    assert (back.view(np.uint16)[~nan] == every.view(np.uint16)[~nan]).all()
    assert np.isnan(numbers_of(datatype, back)[nan]).all()


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=200))
def test_floats_of_32_bits_survive_json(bits: list[int]) -> None:
    values = np.array(bits, np.uint32).view(np.float32)
    back = read("FP32", write("FP32", values))
    nan = np.isnan(values)
    assert (back.view(np.uint32)[~nan] == values.view(np.uint32)[~nan]).all()
    assert np.isnan(back[nan]).all()


@given(st.lists(st.floats(width=64), min_size=1, max_size=60))
def test_floats_of_64_bits_survive_json(numbers: list[float]) -> None:
    values = np.array(numbers)
    back = read("FP64", write("FP64", values))
    nan = np.isnan(values)
    assert (back.view(np.uint64)[~nan] == values.view(np.uint64)[~nan]).all()
    assert np.isnan(back[nan]).all()


def test_a_float32_is_written_with_its_shortest_digits() -> None:
    assert write("FP32", np.array([0.1, 16777216, 1e-45], np.float32)) == "[0.1,16777216.0,1e-45]"
    assert write("FP32", np.array(0.1, np.float32)) == "0.1"


@given(st.lists(st.text(), max_size=10))
def test_texts_survive_json(texts: list[str]) -> None:
    result = read("BYTES", orjson.dumps(texts).decode())
    assert result.tolist() == [text.encode() for text in texts]
    assert json.loads(write("BYTES", result)) == texts


def test_the_text_nan_stays_a_text() -> None:
    assert read("BYTES", '["NaN", "null"]').tolist() == [b"NaN", b"null"]


def test_bytes_that_are_not_utf8_require_binary() -> None:
    with pytest.raises(RequestError) as caught:
        write("BYTES", np.array([b"a", b"\xff"], object))
    assert caught.value.code == "OUTPUT_NEEDS_BINARY"


def test_booleans_are_found_at_any_depth() -> None:
    assert may_hold_booleans(b'{"data": [true]}')
    assert may_hold_booleans(b'{"data": [false]}')
    assert not may_hold_booleans(b'{"parameters": [1, 2], "label": "x"}')


@pytest.mark.parametrize(
    ("text", "datatype"),
    [('["a", "NaN"]', "BYTES"), ("[true]", "BOOL"), ("[1, 2]", "INT64"), ("[18446744073709551615]", "UINT64"),
     ("[1, 2.5]", "FP64"), ('["NaN", 1]', "FP64"), ("[null]", "FP64"), ("[]", "FP64")],
)  # fmt: skip
def test_a_datatype_is_inferred_from_values(text: str, datatype: str) -> None:
    assert infer_datatype(orjson.loads(text)).name == datatype


@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (0, 3), (2, 0, 3), (1, 2, 3), (3, 1, 1)])
def test_nested_lists_have_the_shape_of_the_array(shape: tuple[int, ...]) -> None:
    size = math.prod(shape)
    numbers = np.arange(size, dtype=np.int32).reshape(shape)
    texts = np.empty(size, object)
    texts[:] = [str(index) for index in range(size)]
    specials = np.full(shape, np.nan, np.float32)
    assert json.loads(write("INT32", numbers)) == numbers.tolist()
    assert json.loads(write("BYTES", texts.reshape(shape))) == texts.reshape(shape).tolist()
    assert json.loads(write("FP32", specials)) == json.loads(json.dumps(specials.tolist()).replace("NaN", '"NaN"'))


def test_memory_order_does_not_matter_for_writing() -> None:
    numbers = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert write("FP32", np.asfortranarray(numbers)) == "[[0.0,1.0,2.0],[3.0,4.0,5.0]]"
    assert write("FP32", numbers[:, ::2]) == "[[0.0,2.0],[3.0,5.0]]"

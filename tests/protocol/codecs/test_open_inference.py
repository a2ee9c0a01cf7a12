"""The fast path that reads a tensor, compared with the slow one: the same array, or nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.protocol.codecs.codecs import decode_request, encode_answer
from turnout.protocol.codecs.open_inference import _read_tensor, _read_usual
from turnout.protocol.codecs.requests import Payload
from turnout.protocol.errors import RequestError
from turnout.protocol.tensors.datatypes import DATATYPES, Signature, TensorSpec
from turnout.protocol.tensors.interface import Interface, build_interface
from turnout.protocol.tensors.json_values import may_hold_booleans

SHAPES: tuple[tuple[int, ...] | None, ...] = (None, (), (-1,), (3,), (-1, 2), (1, -1), (2, 2), (0,), (-1, 0))


def interface(datatype: str, shape: tuple[int, ...] | None, *, free_inputs: bool = False) -> Interface:
    return build_interface(Signature((TensorSpec("x", datatype, shape),), ()), free_inputs=free_inputs)


def both(tensor: Any, taken: Interface) -> tuple[Any, Any]:
    """Return what the fast path gives and what the slow one gives or rejects."""
    text = orjson.dumps(tensor)
    payload = Payload({}, None, may_hold_booleans(text))
    short = _read_usual(orjson.loads(text), payload, taken)
    try:
        long: Any = _read_tensor(orjson.loads(text), payload, taken)
    except RequestError as error:
        long = error.code
    return short, long


VALUES = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    st.integers(-3, 300),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([None, True, False, "NaN", "1", [], [1], {}, 1e39, -0.0]),
)
TENSORS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["x", "x", "x", "y", 1, None, ["x"]]),
        "shape": st.one_of(
            st.lists(st.sampled_from([0, 1, 2, 3, -1, True, 1.0, "1"]), max_size=3), st.just("12"), st.none()
        ),
        "datatype": st.sampled_from([*DATATYPES, "fp32", 1]),
        "data": st.one_of(st.lists(VALUES, max_size=6), st.lists(st.integers(0, 9), max_size=40), VALUES),
        "parameters": st.sampled_from([{}, None]),
    },
)


@given(st.one_of(TENSORS, VALUES), st.sampled_from(sorted(DATATYPES)), st.sampled_from(SHAPES), st.booleans())
def test_the_fast_path_gives_the_same_as_the_slow_one_or_nothing(
    tensor: Any, datatype: str, shape: tuple[int, ...] | None, free: bool
) -> None:
    short, long = both(tensor, interface(datatype, shape, free_inputs=free))
    if short is not None:
        assert not isinstance(long, str), long
        assert (short[0], short[1].dtype, short[1].shape) == (long[0], long[1].dtype, long[1].shape)
        assert short[1].tobytes() == long[1].tobytes()


@given(st.data(), st.sampled_from([name for name, entry in DATATYPES.items() if entry.kind in {"int", "float"}]))
def test_the_fast_path_is_right_about_tensors_that_nearly_match(data: st.DataObject, datatype: str) -> None:
    shape = data.draw(st.lists(st.integers(1, 3), max_size=3))
    declared = tuple(data.draw(st.sampled_from([-1, size, size, size + 1])) for size in shape)
    count = 1
    for size in shape:
        count *= size
    values = data.draw(
        st.lists(st.one_of(st.integers(-2, 260), st.floats(-1e39, 1e39)), min_size=count, max_size=count)
    )
    tensor = {"name": "x", "shape": shape, "datatype": datatype, "data": values}
    short, long = both(tensor, interface(datatype, declared))
    if short is not None:
        assert not isinstance(long, str), long
        assert (short[1].dtype, short[1].shape, short[1].tobytes()) == (long[1].dtype, long[1].shape, long[1].tobytes())


@pytest.mark.parametrize("datatype", ["FP32", "FP64", "INT64", "UINT8"])
def test_usual_tensors_use_the_fast_path(datatype: str) -> None:
    tensor = {"name": "x", "shape": [2, 2], "datatype": datatype, "data": [1, 2, 3, 4]}
    short, long = both(tensor, interface(datatype, (-1, 2)))
    assert short is not None
    assert short[1].tolist() == long[1].tolist() == [[1, 2], [3, 4]]
    assert short[1].flags.aligned
    assert short[1].flags.c_contiguous


def decoded(document: dict[str, Any] | bytes, taken: Interface) -> Any:
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    return decode_request({"content-type": "application/json"}, body, taken)


def texts(data: list[str], **parameters: Any) -> dict[str, Any]:
    return {
        "inputs": [{"name": "x", "shape": [len(data)], "datatype": "BYTES", "data": data, "parameters": parameters}]
    }


@pytest.mark.parametrize("said", ["base64", "Base64", " base64"])
def test_bytes_in_base64_are_decoded(said: str) -> None:
    result = decoded(texts(["AP8=", "", "YQ=="], content_type=said), interface("BYTES", (-1,))).inputs["x"]
    assert result.tolist() == [b"\0\xff", b"", b"a"]


@pytest.mark.parametrize("parameters", [{}, {"content_type": "str"}, {"content_type": "np"}])
def test_bytes_in_other_content_types_are_texts(parameters: dict[str, Any]) -> None:
    assert decoded(texts(["YQ=="], **parameters), interface("BYTES", (-1,))).inputs["x"].tolist() == [b"YQ=="]


@pytest.mark.parametrize("text", ["YQ", "YQ==\n", "Y-_=", "a", "\u00e9"])
def test_invalid_base64_is_rejected_by_index(text: str) -> None:
    with pytest.raises(RequestError) as caught:
        decoded(texts(["YQ==", text], content_type="base64"), interface("BYTES", (-1,)))
    assert (caught.value.code, caught.value.details["index"]) == ("INVALID_VALUE", 1)


def test_base64_is_rejected_where_it_is_not_supported() -> None:
    base64 = {"parameters": {"content_type": "base64"}}
    numbers = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1], **base64}]}
    plain = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}
    for document in (numbers, {**plain, **base64}, {**plain, "outputs": [{"name": "y", **base64}]}):
        with pytest.raises(RequestError) as caught:
            decoded(document, interface("FP32", (-1,)))
        assert caught.value.code == "INVALID_REQUEST"
        assert "base64" in caught.value.message


def test_unquoted_words_are_numbers_only_in_float_tensors() -> None:
    body = b'{"inputs": [{"name": "x", "shape": [3], "datatype": "%b", "data": [NaN, Infinity, -Infinity]}]}'
    for datatype in ("FP16", "FP32", "FP64"):
        result = decoded(body % datatype.encode(), interface(datatype, (-1,))).inputs["x"]
        assert np.isnan(result[0])
        assert result[1:].tolist() == [math.inf, -math.inf]
    for datatype in ("INT64", "UINT8", "BOOL", "BYTES"):
        with pytest.raises(RequestError) as caught:
            decoded(body % datatype.encode(), interface(datatype, (-1,)))
        assert caught.value.code == "INVALID_VALUE"
        assert caught.value.details["got"] == "NaN"
    long = b"[" + b"1.5, " * 10_000 + b"NaN]"
    text = b'{"inputs": [{"name": "x", "shape": [10001], "datatype": "FP32", "data": %b}]}' % long
    assert np.isnan(decoded(text, interface("FP32", (-1,))).inputs["x"][-1])


SEQUENCE = {"sequence_id": 7, "sequence_start": True, "sequence_end": False}


@pytest.mark.parametrize("parameters", [SEQUENCE, {**SEQUENCE, "sequence_id": "a"}, {"sequence_id": 0}])
def test_parameters_of_a_sequence_change_nothing(parameters: dict[str, Any]) -> None:
    document = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}], "parameters": parameters}
    assert decoded(document, interface("FP32", (-1,))).inputs["x"].tolist() == [1.0]


@pytest.mark.parametrize("wrong", [{"sequence_id": 1.5}, {"sequence_id": [1]}, {"sequence_start": 1}])
def test_parameters_of_a_sequence_have_their_types(wrong: dict[str, Any]) -> None:
    document = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}], "parameters": wrong}
    with pytest.raises(RequestError) as caught:
        decoded(document, interface("FP32", (-1,)))
    assert caught.value.code == "INVALID_REQUEST"


def test_slices_of_tensors_are_written_in_order() -> None:
    places = np.arange(12, dtype=np.int64).reshape(2, 3, 2)
    outputs = {"starts": places[:, :, 0], "turned": places[0].T, "texts": places[:, :, 1].astype(str).astype(object)}
    specs = (TensorSpec("starts", "INT64", (-1, -1)), TensorSpec("turned", "INT64", (-1, -1)))
    taken = build_interface(
        Signature((TensorSpec("x", "FP32", (-1,)),), (*specs, TensorSpec("texts", "BYTES", (-1, -1))))
    )
    tensor = {"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}
    request = decode_request({}, orjson.dumps({"inputs": [tensor]}), taken)
    written = {
        output["name"]: output["data"]
        for output in orjson.loads(encode_answer(outputs, request, taken).body)["outputs"]
    }
    assert written == {name: values.reshape(-1).tolist() for name, values in outputs.items()}

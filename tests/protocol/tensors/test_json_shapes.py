from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from turnout.protocol.errors import RequestError
from turnout.protocol.tensors.json_shapes import MAX_ELEMENTS, flatten_nested, flatten_to, read_shape


@given(arrays.arrays("i4", arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4)))
def test_flat_and_nested_data_are_equal(values: Any) -> None:
    flat = values.reshape(-1).tolist()
    assert flatten_to("x", flat, values.shape, values.size) == flat
    assert flatten_to("x", values.tolist(), values.shape, values.size) == flat


@given(arrays.arrays("i4", arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4)))
def test_a_nested_shape_is_inferred_using_the_declared_one_for_hidden_dimensions(values: Any) -> None:
    flat, shape = flatten_nested("x", values.tolist(), values.shape)
    assert flat == values.reshape(-1).tolist()
    assert shape == values.shape


@pytest.mark.parametrize(
    ("data", "declared", "shape"),
    [
        ([], None, (0,)),
        ([], (-1, 4), (0, 4)),
        ([], (-1, -1, 3), (0, 0, 3)),
        ([[], []], (-1, -1, 5), (2, 0, 5)),
        ([[], []], (-1, 4), (2, 0)),
        ([[], []], None, (2, 0)),
        (5, (-1,), ()),
    ],
)
def test_empty_lists_take_missing_dimensions_from_the_declared_shape(
    data: Any, declared: tuple[int, ...] | None, shape: tuple[int, ...]
) -> None:
    assert flatten_nested("x", data, declared)[1] == shape


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        ([1, 2, 3], (2, 2)),
        ([[1, 2], [3]], (2, 2)),
        ([[1, 2], 3], (2, 2)),
        ([[1], [2], [3]], (2, 1)),
        ([[1, 2], [3, 4]], (4, 1)),
        (5, (1,)),
        ([], ()),
        ([1, 2], ()),
        ([[]], (0, 2)),
        ([[[1]], [[2, 3]]], (2, 1, 1)),
    ],
)
def test_data_of_another_shape_is_rejected(data: Any, shape: tuple[int, ...]) -> None:
    count = 1
    for size in shape:
        count *= size
    with pytest.raises(RequestError) as caught:
        flatten_to("x", data, shape, count)
    assert caught.value.code == "SHAPE_MISMATCH"
    assert "`x`" in caught.value.message


@pytest.mark.parametrize("data", [[[1, 2], [3]], [[1], 2], [[[1], [2]], [[3]]], [[[1]], [2]]])
def test_ragged_lists_are_rejected(data: Any) -> None:
    with pytest.raises(RequestError) as caught:
        flatten_nested("x", data)
    assert caught.value.code == "SHAPE_MISMATCH"


def test_lists_deeper_than_arrays_are_rejected() -> None:
    data: Any = 1
    for _ in range(5000):
        data = [data]
    with pytest.raises(RequestError, match="32 levels"):
        flatten_nested("x", data)


@pytest.mark.parametrize(
    ("shape", "code"),
    [
        (None, "INVALID_REQUEST"),
        (4, "INVALID_REQUEST"),
        ("4", "INVALID_REQUEST"),
        ([1.0], "INVALID_REQUEST"),
        ([True], "INVALID_REQUEST"),
        (["4"], "INVALID_REQUEST"),
        ([-1, 4], "INVALID_REQUEST"),
        ([None], "INVALID_REQUEST"),
        ([2**62, 4], "SHAPE_MISMATCH"),
        ([0, 2**62], "SHAPE_MISMATCH"),
        ([1e30], "INVALID_REQUEST"),
        ([MAX_ELEMENTS + 1], "SHAPE_MISMATCH"),
        ([1] * 33, "SHAPE_MISMATCH"),
    ],
)
def test_an_invalid_shape_is_rejected(shape: Any, code: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_shape("x", shape)
    assert caught.value.code == code


@given(st.lists(st.integers(0, 3), max_size=6))
def test_a_shape_is_read_unchanged(shape: list[int]) -> None:
    assert read_shape("x", shape) == tuple(shape)


def test_a_declared_shape_too_large_to_be_empty_is_rejected() -> None:
    with pytest.raises(RequestError):
        flatten_nested("x", [], (-1, 2**40))

"""Rows of `instances` for columns of shape `[N, 1]`, as skl2onnx exports them."""

from __future__ import annotations

from typing import Any

import pytest

from turnout.protocol.codecs.requests import Payload
from turnout.protocol.codecs.short_forms import read_named, read_rows
from turnout.protocol.errors import RequestError
from turnout.protocol.tensors.datatypes import Signature, TensorSpec
from turnout.protocol.tensors.interface import Interface, build_interface


def interface_of(*shapes: tuple[int, ...]) -> Interface:
    names = "abc"
    inputs = [TensorSpec(name, "FP32", shape) for name, shape in zip(names, shapes, strict=False)]
    return build_interface(Signature(tuple(inputs), (TensorSpec("y", "FP32", (-1,)),)))


def read(instances: Any, interface: Interface) -> dict[str, Any]:
    request = read_rows(Payload({"instances": instances}, None, booleans=False), interface)
    return {name: (values.shape, values.ravel().tolist()) for name, values in request.inputs.items()}


@pytest.mark.parametrize(
    ("instances", "shapes", "expected"),
    [
        ([{"a": 1, "b": 2}, {"a": 3, "b": 4}], [(-1, 1), (-1, 1)], {"a": ((2, 1), [1, 3]), "b": ((2, 1), [2, 4])}),
        ([{"a": [1], "b": 2}], [(-1, 1), (-1, 1)], {"a": ((1, 1), [1]), "b": ((1, 1), [2])}),
        ([{"a": 1, "b": [1, 2]}], [(-1, 1), (-1, 2)], {"a": ((1, 1), [1]), "b": ((1, 2), [1, 2])}),
        ([1, 2, 3], [(-1, 1)], {"a": ((3, 1), [1, 2, 3])}),
        ([[1], [2]], [(-1, 1)], {"a": ((2, 1), [1, 2])}),
        ([1, 2], [(-1,)], {"a": ((2,), [1, 2])}),
        ([1, 2], [(-1, 1, 1)], {"a": ((2, 1, 1), [1, 2])}),
        ([[1, 2]], [(-1, 2, 1)], {"a": ((1, 2, 1), [1, 2])}),
        ([{"a": 1}], [(1, 1)], {"a": ((1, 1), [1])}),
        ([], [(-1, 1)], {"a": ((0, 1), [])}),
    ],
)
def test_a_column_value_needs_no_list(instances: Any, shapes: list[tuple[int, ...]], expected: dict[str, Any]) -> None:
    assert read(instances, interface_of(*shapes)) == expected


@pytest.mark.parametrize(
    ("instances", "shape"), [([1, 2], (-1, 2)), ([1, 2], (-1, -1)), ([1, 2], (1, 1)), ([[1, 2]], (-1, 1))]
)
def test_another_shape_is_rejected(instances: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(RequestError, match="expected shape"):
        read(instances, interface_of(shape))


def test_named_inputs_keep_their_shape() -> None:
    with pytest.raises(RequestError, match="expected shape"):
        read_named(Payload({"inputs": {"a": [1, 2]}}, None, booleans=False), interface_of((-1, 1)))

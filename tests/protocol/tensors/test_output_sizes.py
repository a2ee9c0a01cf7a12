from __future__ import annotations

import numpy as np
import pytest

from turnout.protocol.tensors.datatypes import Signature, TensorSpec
from turnout.protocol.tensors.output_sizes import OutputSizes


def sizes(*outputs: TensorSpec) -> OutputSizes:
    inputs = (TensorSpec("x", "FP32", (-1, 4), ("n", None)), TensorSpec("z", "INT64", (-1, -1), ("n", "m")))
    return OutputSizes(Signature(inputs, outputs), 0)


@pytest.mark.parametrize(
    ("shape", "names", "count"),
    [
        ((-1, 1000), ("n", None), 3000),
        ((-1, -1), ("n", "m"), 15),
        ((7,), (), 7),
        ((), (), 1),
        ((-1, -1), ("n", "k"), None),
        ((-1,), (), None),
        (None, (), None),
    ],
)
def test_elements_are_counted_if_every_dimension_is_known(
    shape: tuple[int, ...] | None, names: tuple[str | None, ...], count: int | None
) -> None:
    result = sizes(TensorSpec("y", "FP32", shape, names)).count({"x": np.empty((3, 4)), "z": np.empty((3, 5))})
    assert result == ({} if count is None else {"y": count})


def test_a_dimension_with_two_sizes_or_without_a_value_yields_nothing() -> None:
    output = TensorSpec("y", "FP32", (-1, -1), ("n", "m"))
    assert sizes(output).count({"x": np.empty((3, 4)), "z": np.empty((2, 5))}) == {}
    assert sizes(output).count({"x": np.empty((3, 4))}) == {}
    assert sizes(output).count({"x": np.empty((3, 4)), "z": np.empty(3)}) == {}


def test_a_size_counts_even_if_an_input_has_no_elements() -> None:
    output = TensorSpec("y", "FP32", (-1,), ("m",))
    assert sizes(output).count({"z": np.empty((0, 10**9), np.int64)}) == {"y": 10**9}


@pytest.mark.parametrize(("rows", "counts"), [(10, {}), (11, {"y": 110})])
def test_few_elements_are_not_counted(rows: int, counts: dict[str, int]) -> None:
    signature = Signature((TensorSpec("x", "FP32", (-1,), ("n",)),), (TensorSpec("y", "FP32", (-1, 10), ("n", None)),))
    assert OutputSizes(signature, 100).count({"x": np.empty(rows)}) == counts


def test_a_large_fixed_output_is_counted_for_every_request() -> None:
    signature = Signature((TensorSpec("x", "FP32", ()),), (TensorSpec("y", "FP32", (1000,)),))
    assert OutputSizes(signature, 100).count({"x": np.empty(())}) == {"y": 1000}

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_lambda.graphs.combine import COMBINATIONS, CombineError, combine
from turnout.protocol import bfloat16
from turnout.protocol.routing.step_tensors import Tensor
from turnout.protocol.tensors.datatypes import DATATYPES


def tensor(datatype: str, values: object) -> Tensor:
    entry = DATATYPES[datatype]
    array: npt.NDArray[np.generic] = np.asarray(values, np.float32) if datatype == "BF16" else np.asarray(values)
    return Tensor(entry, bfloat16.from_float32(array) if datatype == "BF16" else array.astype(entry.dtype))


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
def test_mean_is_computed_for_each_element(datatype: str) -> None:
    result = combine("mean", [tensor(datatype, [[1, 2]]), tensor(datatype, [[3, 2]]), tensor(datatype, [[5, 5]])])
    assert result.values.dtype == DATATYPES[datatype].dtype
    assert result.values.tolist() == [[3, 3]]


def test_mean_of_bf16_is_that_of_its_numbers_and_not_of_its_bits() -> None:
    result = combine("mean", [tensor("BF16", [1.0, -4.0]), tensor("BF16", [2.0, 4.0])])
    assert bfloat16.to_float32(result.values).tolist() == [1.5, 0.0]


def test_mean_of_the_largest_values_does_not_overflow() -> None:
    largest = float(np.finfo(np.float32).max)
    assert combine("mean", [tensor("FP32", [largest])] * 3).values.tolist() == [largest]


def test_mean_of_scalars_is_a_scalar() -> None:
    assert combine("mean", [tensor("FP32", 1.0), tensor("FP32", 2.0)]).values.shape == ()


@pytest.mark.parametrize("datatype", ["INT64", "BOOL", "BYTES"])
def test_mean_of_non_numbers_is_rejected(datatype: str) -> None:
    with pytest.raises(CombineError, match=f"{datatype} has no mean"):
        combine("mean", [tensor(datatype, [1]), tensor(datatype, [0])])


@pytest.mark.parametrize(
    ("members", "winner"),
    [
        ([[1], [2], [2]], [2]),
        ([[1], [2]], [1]),  # on a tie: the first member's value
        ([[3], [1], [1], [2], [2]], [1]),  # the first of the most frequent values
        ([[1, 5], [2, 5], [2, 6]], [2, 5]),  # element by element
        ([7, 8, 8], 8),
        ([[], []], []),
    ],
)
def test_vote_returns_the_value_of_most_members(members: list[object], winner: object) -> None:
    assert combine("vote", [tensor("INT64", member) for member in members]).values.tolist() == winner


def test_vote_of_texts() -> None:
    members = [Tensor(DATATYPES["BYTES"], np.array(entry, object)) for entry in ([b"a"], [b"bb"], [b"bb"])]
    result = combine("vote", members).values
    assert (result.dtype, result.tolist()) == (np.dtype("O"), [b"bb"])


@given(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=1, max_size=6))
def test_no_value_has_more_votes_than_the_winner(members: list[list[int]]) -> None:
    result = combine("vote", [tensor("INT32", member) for member in members]).values.tolist()
    for position, winner in enumerate(result):
        said = [member[position] for member in members]
        most = max(map(said.count, said))
        assert winner == next(value for value in said if said.count(value) == most)


def test_concatenate_joins_along_the_first_axis() -> None:
    result = combine("concatenate", [tensor("FP32", [[1, 2]]), tensor("FP32", [[3, 4], [5, 6]])])
    assert result.values.tolist() == [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize(
    ("word", "first", "second", "says"),
    [
        ("mean", [1.0, 2.0], [1.0], r"shapes \[2\] and \[1\] differ"),
        ("vote", [[1.0]], [1.0], "differ"),
        ("concatenate", [[1.0]], [[1.0, 2.0]], "cannot be concatenated along the first axis"),
        ("concatenate", 1.0, 2.0, "cannot be concatenated"),
    ],
)
def test_incompatible_shapes_are_rejected(word: str, first: object, second: object, says: str) -> None:
    with pytest.raises(CombineError, match=says):
        combine(word, [tensor("FP32", first), tensor("FP32", second)])


@pytest.mark.parametrize("word", sorted(COMBINATIONS))
def test_different_datatypes_are_rejected(word: str) -> None:
    with pytest.raises(CombineError, match="datatypes FP32 and FP64"):
        combine(word, [tensor("FP32", [1.0]), tensor("FP64", [1.0])])


def test_every_word_of_the_manifest_is_known() -> None:
    import json

    from turnout.layout import schema_path

    schema = json.loads(schema_path("models").read_bytes())
    assert set(schema["$defs"]["combination"]["enum"]) == set(COMBINATIONS)

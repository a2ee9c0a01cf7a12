"""Tensors with the same name, merged into one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders.manifests import tensors
from turnout.layout import schema_path
from turnout.plan.checks.tensor_unions import COMBINATIONS, ClashError, all_of, any_of, combine_tensors
from turnout.protocol.tensors.datatypes import TensorSpec

Shape = tuple[int, ...] | None


def tensor(shape: Shape, datatype: str = "FP32", **fields: object) -> TensorSpec:
    return TensorSpec("x", datatype, shape, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other", "both", "either"),
    [
        ((-1, 4), (-1, 4), (-1, 4), (-1, 4)),
        ((-1, 4), (2, -1), (2, 4), (-1, -1)),
        (None, (2, 4), (2, 4), None),
        ((), (), (), ()),
        ((2, 4), (2, 5), "the shapes differ: FP32 [2,4] and FP32 [2,5]", (2, -1)),
        ((2,), (2, 1), "the shapes differ: FP32 [2] and FP32 [2,1]", None),
    ],
)
def test_shapes_are_merged_or_loosened(one: Shape, other: Shape, both: Shape | str, either: Shape) -> None:
    rows = [tensor(one), tensor(other)]
    assert any_of(rows).shape == either
    if isinstance(both, str):
        with pytest.raises(ClashError) as raised:
            all_of(rows)
        assert str(raised.value) == both
    else:
        assert all_of(rows).shape == both


def test_datatypes_must_be_equal() -> None:
    rows = [tensor((1,)), tensor((1,), "INT64")]
    for make in (any_of, all_of, lambda given: combine_tensors("vote", given)):
        with pytest.raises(ClashError, match=r"^the datatypes differ: FP32 and INT64$"):
            make(rows)


def test_requirements_are_combined_for_all_or_any_of_the_tensors() -> None:
    rows = [tensor((1,)), tensor((1,), required=False)]
    assert all_of(rows).required
    assert not any_of(rows).required


@pytest.mark.parametrize(
    ("word", "shapes", "datatype", "expected"),
    [
        ("mean", [(-1, 3), (2, -1)], "FP16", (2, 3)),
        ("mean", [(1,), (1,)], "INT64", "INT64 has no mean"),
        ("mean", [(1, 3), (1, 4)], "FP32", "the shapes differ: FP32 [1,3] and FP32 [1,4]"),
        ("vote", [(-1,), (-1,)], "BYTES", (-1,)),
        ("vote", [None, (2,)], "INT64", (2,)),
        ("vote", [(1,), ()], "INT64", "the shapes differ: INT64 [1] and INT64 of rank 0"),
        ("concatenate", [(2, 3), (4, -1)], "FP32", (6, 3)),
        ("concatenate", [(-1, 3), (4, 3)], "FP32", (-1, 3)),
        ("concatenate", [None, (4, 3)], "FP32", (-1, 3)),
        ("concatenate", [None, None], "FP32", None),
        ("concatenate", [(), ()], "FP32", "a scalar has no first axis"),
        ("concatenate", [(2, 3), (2, 4)], "FP32", "the shapes differ: FP32 [3] and FP32 [4]"),
    ],
)
def test_outputs_of_members_become_one(word: str, shapes: list[Shape], datatype: str, expected: Shape | str) -> None:
    rows = [tensor(shape, datatype) for shape in shapes]
    if isinstance(expected, str):
        with pytest.raises(ClashError) as raised:
            combine_tensors(word, rows)
        assert str(raised.value).replace("[]", "of rank 0") == expected
    else:
        assert combine_tensors(word, rows).shape == expected


def test_columns_must_have_the_same_labels() -> None:
    rows = [tensor((-1, 2), labels=("a", "b")), tensor((-1, 2), labels=("b", "a"))]
    with pytest.raises(ClashError, match=r"^the columns are a, b and b, a$"):
        combine_tensors("mean", rows)
    assert any_of(rows).labels == ()


@given(st.lists(tensors(), min_size=1, max_size=3))
def test_merged_tensor_has_a_datatype_and_a_rank_of_one_of_them(rows: list[TensorSpec]) -> None:
    for merge in (any_of, all_of, *(lambda given, word=word: combine_tensors(word, given) for word in COMBINATIONS)):
        try:
            merged = merge(rows)
        except ClashError:
            continue
        assert merged.datatype == rows[0].datatype
        assert merged.shape is None or len(merged.shape) in {
            len(entry.shape) for entry in rows if entry.shape is not None
        }


def test_combinations_are_those_of_the_manifest_schema() -> None:
    schema = json.loads(Path(str(schema_path("models"))).read_bytes())
    assert schema["$defs"]["combination"]["enum"] == list(COMBINATIONS)

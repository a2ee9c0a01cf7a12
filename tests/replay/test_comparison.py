"""When the answers of two versions agree."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from turnout.manifest.judgement import OutputRule
from turnout.replay.comparison import OutputComparison, compare_outputs, default_rule


def compare(left: Any, right: Any, rule: OutputRule | None = None) -> OutputComparison:
    both = [value if isinstance(value, np.ndarray) else np.array(value) for value in (left, right)]
    result = compare_outputs({"y": both[0]}, {"y": both[1]}, {} if rule is None else {"y": rule})
    assert result.agrees == result.outputs["y"].agrees
    return result.outputs["y"]


def texts(*values: str) -> np.ndarray[Any, Any]:
    return np.array(values, object)


@pytest.mark.parametrize(
    ("values", "measure"),
    [
        (np.zeros((2, 3), np.float32), "argmax"),
        (np.zeros((2, 1), np.float32), "relative"),
        (np.zeros(5, np.float16), "relative"),
        (np.float64(1), "relative"),
        (np.zeros((2, 3), np.int64), "equal"),
        (np.zeros(2, np.bool_), "equal"),
        (texts("a"), "equal"),
    ],
)
def test_an_output_without_a_rule_uses_the_rule_of_its_datatype(values: Any, measure: str) -> None:
    assert default_rule(np.asarray(values)).measure == measure
    assert compare(values, values).measure == measure


@pytest.mark.parametrize(
    ("rule", "left", "right", "value", "agrees"),
    [
        (OutputRule("equal"), [1, 2, 3, 4], [1, 2, 3, 5], 0.75, False),
        (OutputRule("equal"), texts("ham", "spam"), texts("ham", "ham"), 0.5, False),
        (OutputRule("equal"), texts("ham"), texts("ham"), 1.0, True),
        (OutputRule("equal"), [True, False], [True, False], 1.0, True),
        (OutputRule("argmax"), [[0.1, 0.9], [0.8, 0.2]], [[0.4, 0.6], [0.3, 0.7]], 0.5, False),
        (OutputRule("argmax"), [[0.1, 0.9]], [[0.4, 0.6]], 1.0, True),
        (OutputRule("argmax"), [[1, 9]], [[4, 6]], 1.0, True),
        (OutputRule("absolute", 0.5), [1.0, 2.0], [1.5, 2.0], 0.5, True),
        (OutputRule("absolute", 0.4), [1.0, 2.0], [1.5, 2.0], 0.5, False),
        (OutputRule("relative", 0.2), [10.0, 0.0], [8.0, 0.0], 0.2, True),
        (OutputRule("relative", 0.1), [8.0], [10.0], 0.2, False),
        (OutputRule("relative", 2.0), [1.0], [-1.0], 2.0, True),
        (OutputRule("cosine", 0.99), [[1.0, 0.0], [0.0, 3.0]], [[2.0, 0.0], [0.0, 1.0]], 1.0, True),
        (OutputRule("cosine", 0.99), [[1.0, 0.0], [0.0, 3.0]], [[2.0, 0.0], [1.0, 0.0]], 0.0, False),
        (OutputRule("cosine", 0.99), [[1e300, 1e300]], [[1e300, 1e300 * 1.001]], 1.0, True),
    ],
)
def test_each_measure(rule: OutputRule, left: Any, right: Any, value: float, agrees: bool) -> None:
    result = compare(left, right, rule)
    assert (result.measure, result.value, result.agrees) == (rule.measure, pytest.approx(value, abs=1e-6), agrees)


def test_everything_is_measured_with_any_rule() -> None:
    result = compare([[1.0, 2.0]], [[1.0, 4.0]], OutputRule("argmax"))
    assert result.max_absolute == 2.0
    assert result.max_relative == 0.5
    assert result.cosine == pytest.approx(0.97618706)
    assert result.argmax_equal


def test_argmax_of_a_single_number_is_not_an_agreement() -> None:
    """The highest of one value is always the same."""
    assert not compare([[0.1]], [[0.9]], OutputRule("argmax")).agrees
    assert not compare([3], [4], OutputRule("argmax")).agrees
    assert not compare(texts("a"), texts("b"), OutputRule("argmax")).agrees


@pytest.mark.parametrize("measure", ["equal", "argmax", "absolute", "relative", "cosine"])
@pytest.mark.parametrize(
    ("left", "right", "agrees"),
    [
        ([[math.nan, 1.0]], [[math.nan, 1.0]], True),
        ([[math.inf, -math.inf]], [[math.inf, -math.inf]], True),
        ([[math.nan, 1.0]], [[0.5, 1.0]], False),
        ([[math.nan, math.nan]], [[1.0, 0.0]], False),
        ([[math.inf, 1.0]], [[-math.inf, 1.0]], False),
        ([[0.0, 0.0]], [[0.0, 0.0]], True),
    ],
)
def test_nan_equals_only_itself(measure: str, left: Any, right: Any, agrees: bool) -> None:
    result = compare(left, right, OutputRule(measure, 0.5))
    assert result.agrees is agrees
    assert not math.isnan(result.value)


def test_zeros_are_similar_only_to_zeros() -> None:
    assert compare([[0.0, 0.0]], [[1.0, 0.0]]).cosine == 0.0


def test_an_output_missing_on_one_side_disagrees() -> None:
    result = compare_outputs({"y": np.zeros(1), "z": np.zeros(1)}, {"y": np.zeros(1), "x": np.zeros(1)}, {})
    assert not result.agrees
    assert {name: tensor.agrees for name, tensor in result.outputs.items()} == {"y": True, "z": False, "x": False}
    assert "missing in one of the two responses" in result.outputs["x"].problem


@pytest.mark.parametrize(
    ("left", "right", "problem"),
    [
        ([[1.0, 2.0]], [[1.0, 2.0, 3.0]], "shapes [1, 2] and [1, 3]"),
        ([1.0], texts("a"), "numbers and texts"),
    ],
)
def test_values_that_cannot_be_measured_disagree_with_a_reason(left: Any, right: Any, problem: str) -> None:
    result = compare(left, right)
    assert not result.agrees
    assert result.problem == problem
    assert result.max_absolute == math.inf


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
@pytest.mark.parametrize("measure", ["equal", "argmax", "absolute", "relative", "cosine"])
def test_empty_outputs_agree(shape: tuple[int, ...], measure: str) -> None:
    assert compare(np.zeros(shape), np.zeros(shape), OutputRule(measure, 0.5)).agrees


def test_answers_without_outputs_agree() -> None:
    assert compare_outputs({}, {}, {}).agrees


@given(data=st.data(), measure=st.sampled_from(["equal", "argmax", "absolute", "relative", "cosine", ""]))
def test_no_two_outputs_raise_an_exception(data: st.DataObject, measure: str) -> None:
    kinds = st.sampled_from([np.float16, np.float32, np.float64, np.int8, np.int64, np.uint64, np.bool_])
    shape = data.draw(arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    one, other = (data.draw(arrays.arrays(data.draw(kinds), shape)) for _ in range(2))
    rule = OutputRule(measure, 0.1) if measure else None
    there, back = compare(one, other, rule), compare(other, one, rule)
    assert compare(one, one, rule).agrees
    assert not math.isnan(there.value)
    assert -1.0 <= there.cosine <= 1.0
    if rule is not None and one.dtype == other.dtype:
        assert there.agrees == back.agrees

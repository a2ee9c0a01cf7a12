from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.artifacts.examples import Tolerance
from turnout.conversion.proof import Proof, compare
from turnout.conversion.report import difference_lines, render_report, summary_lines

ROWS = 6


def prove(expected: np.ndarray, got: np.ndarray, tolerance: Tolerance = Tolerance(relative=1e-4)) -> Proof:  # noqa: B008 - frozen
    inputs = {"x": np.arange(float(len(expected)))[:, None]}
    return compare(
        inputs,
        {"y": expected},
        {"whole": {"y": got}, "alone": {"row": np.array([0]), "y": got[:1]}},
        {"samples": 4, "missing values": 2},
        {"large values": "too large"},
        tolerance,
    )


def test_equal_answers_pass() -> None:
    proof = prove(np.arange(6.0), np.arange(6.0)[:, None])  # a graph's column compared with the library's list
    assert proof.holds
    assert (proof.rows, proof.outputs[0].values, proof.worst) == (6, 7, 0.0)


def test_a_row_that_differs_is_shown_with_its_group() -> None:
    got = np.arange(6.0)
    got[5] += 0.5
    proof = prove(np.arange(6.0), got)
    assert not proof.holds
    (row,) = proof.disagreements
    assert (row.row, row.group, row.inputs, row.expected, row.got) == (
        5,
        "missing values",
        {"x": [5.0]},
        {"y": 5.0},
        {"y": 5.5},
    )
    text = "\n".join(difference_lines(proof))
    assert "row 5 (missing values; batch of 6): x=[5.0]" in text
    assert "float32 against float64" in text


def test_a_difference_in_one_batch_size_is_a_difference() -> None:
    whole, alone = np.arange(6.0), np.array([1.0])
    inputs = {"x": np.arange(6.0)}
    runs = {"whole": {"y": whole}, "alone": {"row": np.array([0]), "y": alone}}
    proof = compare(inputs, {"y": whole}, runs, {"samples": 6}, {}, Tolerance(relative=1e-4))
    assert [(row.row, row.batch) for row in proof.disagreements] == [(0, 1)]


@pytest.mark.parametrize(("want", "have"), [("a", "A"), (1, 2), (True, False)])
def test_labels_are_compared_exactly(want: object, have: object) -> None:
    kind = object if isinstance(want, str) else type(want)
    assert not prove(np.array([want] * ROWS, dtype=kind), np.array([have] * ROWS, dtype=kind)).holds
    assert prove(np.array([want] * ROWS, dtype=kind), np.array([want] * ROWS, dtype=kind)).holds


def test_missing_outputs_equal_only_each_other() -> None:
    nan = np.full(ROWS, np.nan)
    assert prove(nan, nan).holds
    assert not prove(nan, np.zeros(ROWS)).holds
    assert not prove(np.zeros(ROWS), nan).holds


def test_a_different_number_of_values_is_a_difference() -> None:
    assert not prove(np.zeros((ROWS, 3)), np.zeros((ROWS, 2))).holds


@given(st.floats(-1e6, 1e6), st.floats(0, 1e-2), st.floats(0, 1.0))
def test_floats_may_differ_by_the_stated_tolerance(value: float, relative: float, absolute: float) -> None:
    tolerance = Tolerance(absolute, relative)
    allowed = absolute + relative * abs(value)
    is_representable = np.spacing(abs(value)) < allowed * 0.005
    within, beyond = value + allowed * 0.99 * is_representable, value + allowed * 1.01 + 1e-3
    assert prove(np.full(ROWS, value), np.full(ROWS, within), tolerance).holds
    assert not prove(np.full(ROWS, value), np.full(ROWS, beyond), tolerance).holds


def test_report_names_what_was_not_compared() -> None:
    proof = prove(np.arange(6.0), np.arange(6.0))
    page = render_report("iris v1", {"address": "a|b.skops"}, proof, ("written by another release",))
    assert "Compared 6 rows with the original, in batches of 1, 100 and 6: all agree." in page
    assert "- large values: too large" in page
    assert "| address | a\\|b.skops |" in page
    assert summary_lines(proof)[1] == (
        "Labels and texts must be equal, floats within 1e-05 + 0.0001 * |value|. Largest difference: 0."
    )

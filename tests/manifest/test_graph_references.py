"""Unreachable switch cases, compared with trying every value."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from turnout.manifest.graph_references import check_cases

Row = tuple[str, float]

VALUES = [number / 2 for number in range(-4, 15)]
"""Values between and beyond everything that a generated case compares with."""


def holds(entry: Row, value: float) -> bool:
    op, bound = entry
    return {"equals": value == bound, "below": value < bound, "above": value > bound}[op]


@given(st.lists(st.tuples(st.sampled_from(["equals", "below", "above"]), st.integers(0, 5)), min_size=1, max_size=6))
def test_case_is_rejected_if_earlier_cases_take_every_value(rows: list[Row]) -> None:
    chosen = {next((index for index, entry in enumerate(rows) if holds(entry, value)), len(rows)) for value in VALUES}
    cases = [{op: bound, "then": {"model": "a"}} for op, bound in rows]
    result = check_cases((), {"input": "k", "cases": cases, "otherwise": {"model": "a"}})
    places = {len(rows) if entry.path == ("otherwise",) else entry.path[1] for entry in result}
    assert places == set(range(len(rows) + 1)) - chosen


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=3), st.lists, max_leaves=3))
def test_cases_of_any_type_raise_no_exception(value: object) -> None:
    for op in ("equals", "below", "above"):
        list(check_cases((), {"cases": [{op: value}, {op: value}, value], "otherwise": value}))
    list(check_cases((), {"cases": value}))

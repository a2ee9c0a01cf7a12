"""Which shapes are known to be short."""

from __future__ import annotations

import numpy as np

from turnout.gateway.functions.known_shapes import MOST_KNOWN, KnownShapes, make_shapes


def test_shapes_are_equal_up_to_the_next_power_of_two() -> None:
    def of(rows: int, columns: int) -> object:
        return make_shapes({"x": np.ones((rows, columns))})

    assert of(5, 4) == of(7, 4)
    assert of(5, 4) != of(8, 4)
    assert of(9, 4) != of(4, 9)
    assert of(0, 4) != of(1, 4)


def test_shapes_of_different_inputs_differ() -> None:
    entry = np.ones(3)
    assert make_shapes({"a": entry}) != make_shapes({"b": entry})
    assert make_shapes({"a": np.ones((3, 3))}) != make_shapes({"a": entry, "b": entry})


def test_a_long_run_makes_its_shapes_unknown() -> None:
    known, inputs = KnownShapes(0.5), {"x": np.ones(3)}
    assert not known.knows(inputs)
    known.learn(make_shapes(inputs), 0.1)
    assert known.knows(inputs)
    assert known.knows(inputs)  # now by its exact shapes
    known.learn(make_shapes(inputs), 0.6)
    assert not known.knows(inputs)


def test_exact_shapes_belong_to_their_inputs() -> None:
    few, many = np.ones(2), np.ones(1000)
    known = KnownShapes(0.5)
    known.learn(make_shapes({"a": few, "b": many}), 0.1)
    assert known.knows({"a": few, "b": many})
    assert not known.knows({"b": few, "a": many})
    assert not known.knows({"a": few, "b": many, "c": few})


def test_a_limited_number_of_shapes_is_remembered() -> None:
    known = KnownShapes(0.5)
    inputs = [{f"x{number}": np.ones(1)} for number in range(2 * MOST_KNOWN + 1)]
    for given in inputs:
        known.learn(make_shapes(given), 0.1)
        assert known.knows(given)
    assert sum(map(known.knows, inputs)) <= MOST_KNOWN
    assert known.knows(inputs[-1])

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
    known, shapes = KnownShapes(0.5), make_shapes({"x": np.ones(3)})
    assert shapes not in known
    known.learn(shapes, 0.1)
    assert shapes in known
    known.learn(shapes, 0.6)
    assert shapes not in known


def test_a_limited_number_of_shapes_is_remembered() -> None:
    known = KnownShapes(0.5)
    for number in range(2 * MOST_KNOWN + 1):
        known.learn(("x", number), 0.1)
    assert sum(("x", number) in known for number in range(2 * MOST_KNOWN + 1)) <= MOST_KNOWN
    assert ("x", 2 * MOST_KNOWN) in known

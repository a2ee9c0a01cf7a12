from __future__ import annotations

from fractions import Fraction

import ml_dtypes
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from turnout.protocol import bfloat16

EVERY = np.arange(65536, dtype=np.uint16)


def test_every_bfloat16_as_float32_equals_that_of_ml_dtypes() -> None:
    expected = EVERY.view(ml_dtypes.bfloat16).astype(np.float32)
    assert bfloat16.to_float32(EVERY).tobytes() == expected.tobytes()


def test_every_bfloat16_survives_a_round_trip() -> None:
    back = bfloat16.from_float32(bfloat16.to_float32(EVERY))
    numbers = ~np.isnan(bfloat16.to_float32(EVERY))
    assert (back[numbers] == EVERY[numbers]).all()
    assert np.isnan(bfloat16.to_float32(back[~numbers])).all()
    assert (back[~numbers] >> 15 == EVERY[~numbers] >> 15).all()


def test_float32_rounds_to_nearest_even() -> None:
    generator = np.random.default_rng(7)
    bits = generator.integers(0, 2**32, 200_000, np.uint32)
    bits = np.concatenate([bits, (EVERY.astype(np.uint32) << 16) | 0x8000, (EVERY.astype(np.uint32) << 16) | 0x7FFF])
    numbers = bits.view(np.float32)
    with np.errstate(invalid="ignore"):
        expected = numbers.astype(ml_dtypes.bfloat16).view(np.uint16)
    kept = ~np.isnan(numbers)
    assert (bfloat16.from_float32(numbers)[kept] == expected[kept]).all()


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-3e38, max_value=3e38), st.integers(-1, 1))
def test_float64_rounds_once(number: float, beside: int) -> None:
    tie = bfloat16.to_float32(bfloat16.from_float64(np.array([number])))[0]
    half_up = np.array([tie], np.float32).view(np.uint32) | 0x8000  # halfway to the next value
    number = float(np.nextafter(np.float64(half_up.view(np.float32)[0]), beside * np.inf if beside else number))
    result = bfloat16.from_float64(np.array([number]))
    candidates = np.array([result[0] - 1 if result[0] & 0x7FFF else result[0], result[0], result[0] + 1], np.uint16)
    values = bfloat16.to_float32(candidates).astype(np.float64)
    distances = [abs(Fraction(number) - Fraction(value)) for value in values if np.isfinite(value)]
    got = bfloat16.to_float32(result)[0]
    if np.isfinite(got):
        assert abs(Fraction(number) - Fraction(float(got))) == min(distances)


def test_shapes_are_kept_for_scalars_and_empty_arrays() -> None:
    for shape in ((), (0, 3), (2, 0), (1, 2, 3)):
        assert bfloat16.from_float32(np.zeros(shape, np.float32)).shape == shape
        assert bfloat16.from_float64(np.zeros(shape)).shape == shape
        assert bfloat16.to_float32(np.zeros(shape, np.uint16)).shape == shape

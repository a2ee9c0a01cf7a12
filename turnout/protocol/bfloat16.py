"""BF16 by bit operations: numpy has no bfloat16, so its arrays contain the upper 16 bits of the FP32 as `uint16`.

Rounding is to nearest, ties to even; a NaN stays a NaN of the same sign.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def to_float32(bits: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """Return the exact numbers of BF16 bits."""
    return np.left_shift(bits.astype(np.uint32), np.uint32(16)).view(np.float32)


def from_float32(numbers: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Return the bits of the nearest BF16; larger numbers become infinity."""
    bits = np.ascontiguousarray(numbers, np.float32).reshape(numbers.shape).view(np.uint32)
    ties_to_even = np.uint32(0x7FFF) + (np.right_shift(bits, np.uint32(16)) & np.uint32(1))
    rounded = np.right_shift(bits + ties_to_even, np.uint32(16))
    quiet = np.right_shift(bits, np.uint32(16)) | np.uint32(0x0040)
    return np.where(np.isnan(numbers), quiet, rounded).astype(np.uint16)


def from_float64(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.uint16]:
    """Return the bits of the nearest BF16, rounded once.

    It converts to an FP32 rounded to odd first: two roundings to nearest would round a number close to a tie in the
    wrong direction.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        nearest: npt.NDArray[Any] = np.asarray(numbers.astype(np.float32))
    back = nearest.astype(np.float64)
    inexact = (back != numbers) & np.isfinite(numbers)
    bits = nearest.view(np.uint32) - (inexact & (np.abs(back) > np.abs(numbers))).astype(np.uint32)
    return from_float32((bits | inexact.astype(np.uint32)).view(np.float32))

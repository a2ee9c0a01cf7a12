"""Compares two versions' answers to one request, output by output.

No answer raises an exception: a NaN equals a NaN, an infinity equals itself; an output that one side lacks or whose
shape differs disagrees.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from turnout.manifest.judgement import OutputRule
from turnout.protocol.tensors.datatypes import Array

ARGMAX = OutputRule("argmax")
"""Scores of classes: two good models never have equal scores, and the highest one decides."""

EQUAL = OutputRule("equal")
"""The rule for labels, counts, flags and texts."""

NEAR = OutputRule("relative", 0.05)
"""The rule for a single number, for which there is no highest one."""


@dataclass(frozen=True, slots=True)
class OutputComparison:
    """One output of two answers.

    Args:
        measure: measure of the rule: `equal`, `argmax`, `absolute`, `relative` or `cosine`.
        value: the measured value: for `equal` and `argmax` the share of equal elements or rows, otherwise the error or
            the cosine.
        agrees: whether the rule is satisfied.
        max_absolute: largest difference of two elements; infinite if it cannot be measured.
        max_relative: largest difference relative to the larger magnitude of the two elements, 0-2; infinite as above.
        cosine: the lowest cosine of two rows, a row being the last dimension; 1 for equal ones.
        argmax_equal: whether all rows have their largest element at the same index.
        problem: why nothing could be measured, or empty.
    """

    measure: str
    value: float
    agrees: bool
    max_absolute: float = math.inf
    max_relative: float = math.inf
    cosine: float = 0.0
    argmax_equal: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two answers to one request; they agree if all their outputs do."""

    agrees: bool
    outputs: Mapping[str, OutputComparison]


def compare_outputs(
    baseline: Mapping[str, Array], canary: Mapping[str, Array], rules: Mapping[str, OutputRule]
) -> Comparison:
    """Compare every output of either side.

    Args:
        baseline: name -> array; texts in object arrays.
        canary: the same.
        rules: output name -> its rule; `default_rule` applies to the others.
    """
    names = [*baseline, *(name for name in canary if name not in baseline)]
    outputs = {name: _compare(baseline.get(name), canary.get(name), rules.get(name)) for name in names}
    return Comparison(all(output.agrees for output in outputs.values()), outputs)


def default_rule(values: Array) -> OutputRule:
    """Return the rule for an output without one in the manifest.

    Floats in rows of two or more are scores, `argmax`; other floats may differ by 5%; anything else must be `equal`.
    """
    if values.dtype.kind != "f":
        return EQUAL
    return ARGMAX if _has_rows(values) else NEAR


def _has_rows(values: Array) -> bool:
    return values.ndim > 1 and values.shape[-1] > 1


def _compare(baseline: Array | None, canary: Array | None, rule: OutputRule | None) -> OutputComparison:
    if baseline is None or canary is None:
        measure = (rule or EQUAL).measure
        return OutputComparison(measure, 0.0, agrees=False, problem="missing in one of the two responses")
    rule = rule or default_rule(baseline)
    problem = ""
    if baseline.shape != canary.shape:
        problem = f"shapes {list(baseline.shape)} and {list(canary.shape)}"
    elif _is_numeric(baseline) != _is_numeric(canary):
        problem = "numbers and texts"
    if problem:
        return OutputComparison(rule.measure, 0.0, agrees=False, problem=problem)
    if not _is_numeric(baseline):
        share = _mean(baseline == canary)
        equal = share == 1.0
        apart = 0.0 if equal else math.inf
        return OutputComparison(EQUAL.measure, share, equal, apart, apart, float(equal), equal)
    return _compare_numbers(baseline, canary, rule)


def _compare_numbers(baseline: Array, canary: Array, rule: OutputRule) -> OutputComparison:
    same = (baseline == canary) | (_is_nan(baseline) & _is_nan(canary))
    left, right = baseline.astype(np.float64), canary.astype(np.float64)
    with np.errstate(all="ignore"):  # infinities and NaN are handled below
        absolute = np.where(same, 0.0, np.nan_to_num(np.abs(left - right), nan=math.inf, posinf=math.inf))
        larger = np.maximum(np.abs(left), np.abs(right))
        relative = np.where(same, 0.0, np.nan_to_num(absolute / larger, nan=math.inf, posinf=math.inf))
    max_absolute, max_relative = (float(errors.max(initial=0.0)) for errors in (absolute, relative))
    cosine = _least_cosine(left, right, same)
    argmax = _mean(_same_argmax(left, right))
    if rule.measure == ARGMAX.measure and not _has_rows(baseline):
        rule = NEAR if baseline.dtype.kind == "f" else EQUAL
    value, agrees = {
        "equal": (_mean(same), bool(same.all())),
        "argmax": (argmax, argmax == 1.0),
        "absolute": (max_absolute, max_absolute <= rule.bound),
        "relative": (max_relative, max_relative <= rule.bound),
        "cosine": (cosine, cosine >= rule.bound),
    }[rule.measure]
    return OutputComparison(rule.measure, value, agrees, max_absolute, max_relative, cosine, argmax == 1.0)


def _is_numeric(values: Array) -> bool:
    return values.dtype.kind in "biuf"


def _is_nan(values: Array) -> npt.NDArray[np.bool_]:
    return np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, np.bool_)


def _mean(flags: npt.NDArray[np.bool_]) -> float:
    """Return the share of true elements; 1 if there are none."""
    return float(np.mean(flags)) if flags.size else 1.0


def _rows(values: Array) -> Array:
    """Return the values as rows of the last dimension; values with at most one dimension are one row."""
    return values.reshape(-1, values.shape[-1]) if values.ndim > 1 else values.reshape(1, -1)


def _same_argmax(left: Array, right: Array) -> npt.NDArray[np.bool_]:
    """Whether each row has the same argmax.

    NaN is never the largest, and the rows' NaNs must be at the same indices.
    """
    if left.size == 0:
        return np.ones(0, np.bool_)
    left, right = _rows(left), _rows(right)
    holes = np.isnan(left)
    highest = np.where(holes, -math.inf, left).argmax(-1) == np.where(np.isnan(right), -math.inf, right).argmax(-1)
    same: npt.NDArray[np.bool_] = highest & (holes == np.isnan(right)).all(-1)
    return same


def _least_cosine(left: Array, right: Array, same: npt.NDArray[np.bool_]) -> float:
    """Return the lowest cosine of all rows; equal rows have 1, others with a NaN, an infinity or only zeros have 0."""
    if left.size == 0:
        return 1.0
    equal = _rows(same).all(-1)
    left, right = _rows(left), _rows(right)
    with np.errstate(all="ignore"):
        # scaled so that the squares stay finite
        left, right = (row / np.abs(row).max(-1, keepdims=True) for row in (left, right))
        products = (left * right).sum(-1) / np.sqrt((left * left).sum(-1) * (right * right).sum(-1))
    cosines = np.where(equal, 1.0, np.nan_to_num(products, nan=0.0, posinf=0.0, neginf=0.0))
    return float(np.clip(cosines.min(), -1.0, 1.0))

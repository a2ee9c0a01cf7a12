"""Generates credit applications with a fixed seed, and whether each was paid back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

EMPLOYMENTS = ("employed", "self-employed", "retired", "student", "unemployed")
PURPOSES = ("car", "education", "home", "other")

FIELDS = {
    "age": np.dtype(np.int64),  # years
    "income": np.dtype(np.float32),  # a year
    "amount": np.dtype(np.float32),
    "duration_months": np.dtype(np.int64),
    "debt_ratio": np.dtype(np.float32),  # share of the income that pays other debts, 0-1
    "owns_home": np.dtype(np.bool_),
    "defaulted_before": np.dtype(np.bool_),
    "employment": np.dtype(object),  # one of EMPLOYMENTS; any other value counts as none of them
    "purpose": np.dtype(object),  # one of PURPOSES, likewise
}
"""Every field of an application, and its type."""

Columns = dict[str, NDArray[Any]]


def make_applications(count: int, seed: int) -> tuple[Columns, NDArray[np.bool_]]:
    """Generate applications, and whether each defaulted (about a fifth)."""
    source = np.random.default_rng(seed)
    columns = {
        "age": source.integers(18, 80, count),
        "income": np.exp(source.normal(10.4, 0.5, count)).round(-2),
        "amount": np.exp(source.normal(9.0, 0.8, count)).round(-2),
        "duration_months": source.choice([12, 24, 36, 48, 60], count),
        "debt_ratio": source.beta(2, 5, count).round(3),
        "owns_home": source.random(count) < 0.4,
        "defaulted_before": source.random(count) < 0.1,
        "employment": source.choice(EMPLOYMENTS, count, p=[0.6, 0.15, 0.1, 0.08, 0.07]),
        "purpose": source.choice(PURPOSES, count),
    }
    score = (
        -2.2
        + 1.5 * np.log(columns["amount"] / columns["income"] + 0.2)
        + 3.0 * columns["debt_ratio"]
        + 0.02 * columns["duration_months"]
        - 0.8 * columns["owns_home"]
        + 1.6 * columns["defaulted_before"]
        + 1.4 * (columns["employment"] == "unemployed")
        - 0.01 * (columns["age"] - 40)
    )
    defaulted = source.random(count) < 1 / (1 + np.exp(-score))
    return {name: columns[name].astype(dtype) for name, dtype in FIELDS.items()}, defaulted

"""Proves that a graph answers like its original: sends the same rows to both and compares each value."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from turnout.artifacts.examples import Tolerance
from turnout.conversion.converters.exchange import Arrays, read_arrays
from turnout.conversion.errors import ConversionError
from turnout.layout import model_lambdas_package
from turnout.protocol.telemetry import TELEMETRY_OFF

CHILD = "turnout.conversion.graph_child"

SHOWN_ROWS = 10
"""Number of differing rows that a report lists."""

SHORT = 80
"""Longest text in a report, in characters."""

CAUSES = (
    "float32 against float64: a value near a tree's threshold takes another branch, or sums differ (--rtol, --atol)",
    "ties: two classes with the same probability, of which the library and onnxruntime choose different ones",
    "missing values and unseen categories, which the library handles and the graph does not",
    "text: words are split or lowercased by other rules than in Python (locale)",
    "a parameter that the converter ignores, such as `base_score` or `missing` of XGBoost",
    "an output of dicts (`zipmap`), or classes in another order",
)


NETWORK_CAUSES = (
    "float32: a deep network adds in another order, and large values differ in their last digits (--rtol, --atol)",
    "missing or infinite values, which operators such as LSTM and Relu treat differently",
    "layers that behave differently in training: dropout, batch normalization, augmentation",
    "images that are resized or padded inside of the model, where borders are computed differently",
)
"""Causes of differences for models whose inputs are whole tensors."""


@dataclass(frozen=True, slots=True)
class OutputProof:
    """One output over all rows.

    Args:
        name: the output's name.
        values: the number of compared values, over all batch sizes.
        worst_absolute: the largest absolute difference of floats; 0 for other types.
        worst_relative: the largest relative difference of floats.
        differing: the number of values that differ by more than the tolerance.
    """

    name: str
    values: int
    worst_absolute: float
    worst_relative: float
    differing: int


@dataclass(frozen=True, slots=True)
class DifferingRow:
    """One row for which the answers differ.

    Args:
        row: its number, from 0.
        group: the group that it was drawn for.
        batch: the number of rows in the request.
        inputs: name -> value.
        expected: output -> what the original returned.
        got: output -> what the graph returned.
    """

    row: int
    group: str
    batch: int
    inputs: Mapping[str, Any]
    expected: Mapping[str, Any]
    got: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Proof:
    """The result of a comparison.

    Args:
        groups: name of a group of rows -> number of rows.
        refused: groups that the original itself rejects, which were not compared -> its reason.
        tolerance: for floats; everything else must be equal.
        batches: the sizes of the requests.
        outputs: the result for each output.
        disagreeing_rows: the number of rows with a difference.
        disagreements: the first of these rows.
    """

    groups: Mapping[str, int]
    refused: Mapping[str, str]
    tolerance: Tolerance
    batches: tuple[int, ...]
    outputs: tuple[OutputProof, ...]
    disagreeing_rows: int
    disagreements: tuple[DifferingRow, ...]

    @property
    def rows(self) -> int:
        """The number of compared rows."""
        return sum(self.groups.values())

    @property
    def holds(self) -> bool:
        """Whether all values agree."""
        return not self.disagreeing_rows

    @property
    def worst(self) -> float:
        """The largest difference of any float."""
        return max((output.worst_absolute for output in self.outputs), default=0.0)

    def to_json(self) -> dict[str, Any]:
        """The result as JSON."""
        return {"rows": self.rows, "holds": self.holds, **asdict(self)}


def prove(
    folder: Path,
    model: Path,
    transform: Path | None,
    groups: Sequence[Mapping[str, Any]],
    refused: Mapping[str, str],
    tolerance: Tolerance,
    *,
    seconds: float,
) -> Proof:
    """Run the graph on the rows that the original answered, and compare the answers.

    Args:
        folder: has `inputs` and `expected`; the graph's answers are written to it.
        model: the graph's file.
        transform: the transform that runs before it, or None.
        groups: name and number of rows of each group, in the order of the rows.
        refused: groups that the original rejected.
        tolerance: for floats.
        seconds: time limit of the graph's process.

    Raises:
        ConversionError: the graph cannot be run.
    """
    job = {
        "folder": str(folder),
        "model": str(model),
        "transform": str(transform) if transform else "",
        "package": model_lambdas_package(),
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", CHILD, json.dumps(job)],
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            stdin=subprocess.DEVNULL,
            env=_variables(),
        )
    except subprocess.TimeoutExpired:
        raise ConversionError(
            f"the converted graph needs more than {seconds:g} s for the rows of the proof",
            "Allow more with --time-limit SECONDS.",
        ) from None
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ConversionError(f"the converted graph cannot be run: {reason[:500]}", code=1)
    return compare_folder(folder, groups, refused, tolerance)


def compare_folder(
    folder: Path, groups: Sequence[Mapping[str, Any]], refused: Mapping[str, str], tolerance: Tolerance
) -> Proof:
    """Compare the answers that the original and the graph wrote to a folder."""
    expected, inputs = read_arrays(folder / "expected"), read_arrays(folder / "inputs")
    runs = {name: read_arrays(folder / name) for name in ("whole", "alone", "hundred")}
    return compare(inputs, expected, runs, {row["name"]: row["rows"] for row in groups}, refused, tolerance)


def _variables() -> dict[str, str]:
    import os

    return {**os.environ, **TELEMETRY_OFF}


def compare(
    inputs: Arrays,
    expected: Arrays,
    runs: Mapping[str, Arrays],
    groups: Mapping[str, int],
    refused: Mapping[str, str],
    tolerance: Tolerance,
) -> Proof:
    """Compare the graph's answers with the original's.

    Args:
        inputs: all rows.
        expected: the original's answers.
        runs: the graph's answers. `whole` has all rows; other runs have the numbers of their rows in `row`.
        groups: name of a group -> number of rows, in the order of the rows.
        refused: groups that the original rejects.
        tolerance: for floats.
    """
    count = len(next(iter(inputs.values())))
    batches = {"whole": count, "alone": 1, "hundred": 100}
    outputs: list[OutputProof] = []
    wrong_rows: dict[int, tuple[str, int]] = {}
    for name, want in expected.items():
        values = differing = 0
        worst_absolute = worst_relative = 0.0
        for run, answers in runs.items():
            rows = answers.get("row", np.arange(count))
            have, wanted = answers[name], want[rows]
            wrong, absolute, relative = _differences(wanted, have, tolerance)
            values += wanted.size
            differing += int(wrong.sum())
            worst_absolute, worst_relative = max(worst_absolute, absolute), max(worst_relative, relative)
            for at in np.flatnonzero(wrong.reshape(len(rows), -1).any(axis=1)).tolist():
                wrong_rows.setdefault(int(rows[at]), (run, at))
        outputs.append(OutputProof(name, values, worst_absolute, worst_relative, differing))
    starts = np.cumsum([0, *groups.values()])
    names = list(groups)
    shown = []
    for row, (run, at) in sorted(wrong_rows.items())[:SHOWN_ROWS]:
        group = names[int(np.searchsorted(starts, row, side="right")) - 1]
        shown.append(
            DifferingRow(
                row,
                group,
                batches[run],
                {name: _short(array[row]) for name, array in inputs.items()},
                {name: _short(array[row]) for name, array in expected.items()},
                {name: _short(runs[run][name][at]) for name in expected},
            )
        )
    return Proof(groups, refused, tolerance, (1, 100, count), tuple(outputs), len(wrong_rows), tuple(shown))


def _differences(want: Any, have: Any, tolerance: Tolerance) -> tuple[Any, float, float]:
    """Return which values differ, and the largest absolute and relative difference of floats."""
    if have.size != want.size:
        return np.ones((len(want), 1), dtype=bool), 0.0, 0.0
    have = have.reshape(want.shape)
    if want.dtype.kind != "f" or have.dtype.kind != "f":
        return np.asarray(have != want, dtype=bool), 0.0, 0.0
    want, have = want.astype(np.float64), have.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        near = np.isclose(have, want, rtol=tolerance.relative, atol=tolerance.absolute, equal_nan=True)
        off = np.abs(have - want)
        off = np.where(np.isfinite(off), off, 0.0)
        relative = np.where(want != 0, off / np.abs(want), 0.0)
        # a relative difference says nothing for tiny values
        relative = np.where(off > tolerance.absolute, relative, 0.0)
    return ~near, float(off.max(initial=0.0)), float(relative.max(initial=0.0))


def _short(value: Any) -> Any:
    """A value of a row, shortened for reports."""
    if isinstance(value, np.ndarray):
        return [_short(item) for item in value.tolist()] if value.ndim else _short(value.item())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list):
        return [_short(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    if isinstance(value, str) and len(value) > SHORT:
        return f"{value[:SHORT]}... ({len(value):,} characters)"
    return value

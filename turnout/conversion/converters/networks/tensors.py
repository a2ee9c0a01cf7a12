"""Models whose inputs are whole tensors, such as images and sequences: rows, samples and the conversion.

Other models have columns of single values (`features`). The rows contain random values, zeros, large and missing
values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx

from ..convert import Progress, package_versions
from ..exchange import Arrays, as_objects, write_arrays
from ..graphs import check_versions, open_session, save, set_output_shapes, tidy
from ..start import RefusedJob

ROWS = 100
FEW_ROWS = 16
LARGE_ROW = 20_000
"""Number of values in a row from which only `FEW_ROWS` are drawn: the original answers every row three times."""

FREE_LENGTH = 9
"""Length of a dimension that the model leaves free, besides the batch."""


@dataclass(frozen=True, slots=True)
class TensorInput:
    """One input.

    Args:
        name: name for clients.
        dtype: numpy's dtype.
        shape: shape without the batch; None for a dimension of any length.
        values: for integers, the number of values that the model knows; 0 if it is unknown.
        lengths: the shape of drawn rows; empty for a shape with `FREE_LENGTH` in the place of each None.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]
    values: int = 0
    lengths: tuple[int, ...] = ()

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return the shape of the drawn rows."""
        return self.lengths or tuple(FREE_LENGTH if size is None else size for size in self.shape)


class TensorModel(Protocol):
    """A model in its own format, open."""

    inputs: Sequence[TensorInput]
    notes: list[str]

    def predict(self, feed: Arrays) -> dict[str, np.ndarray[Any, Any]]:
        """Return the outputs by name, in the graph's order."""
        ...

    def convert(self, opset: int, /) -> onnx.ModelProto:
        """Return the graph; its inputs and outputs are in this model's order."""
        ...


def convert_tensors(
    model: TensorModel,
    job: Mapping[str, Any],
    packages: Sequence[str],
    progress: Progress,
    examples: Arrays | None = None,
) -> dict[str, Any]:
    """Convert one model into `job["out"]`; return what Turnout has to know.

    Args:
        model: the original.
        job: the converter's arguments.
        packages: the packages that the report names.
        progress: called with each step.
        examples: rows that the original's file has.
    """
    out = Path(job["out"])
    samples = read_tensors(Path(job["samples"]), model.inputs) if job.get("samples") else None
    groups, refused, answers = _answer(model, draw_tensors(model.inputs, samples, examples))
    feed = {row.name: np.concatenate([rows[row.name] for _, rows in groups]) for row in model.inputs}
    progress("converting")
    try:
        graph = model.convert(job["opsets"][""])
        _require_versions(graph, job["opsets"])
        names = [row.name for row in model.inputs]
        tidy(graph, list(answers), dict(zip([row.name for row in graph.graph.input], names, strict=True)))
        _free_dimensions(graph, model.inputs)
        path = out / "model" / "model.onnx"
        path.parent.mkdir()
        save(graph, path, job)
        names = [row.name for row in graph.graph.input]
        session = open_session(path)
        got = session.run(list(answers), {name: feed[name][:1] for name in names})
        groups, answers = _without_lost_holes(session, names, groups, refused, answers)
    except RefusedJob:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise RefusedJob(f"this model cannot be converted: {lines[0][:300]}", HINT) from error
    if all(None not in row.shape for row in model.inputs):
        set_output_shapes(path, [value.shape for value in got])
    write_arrays(out / "inputs", {name: np.concatenate([rows[name] for _, rows in groups]) for name in names})
    write_arrays(out / "expected", answers)
    return {
        "groups": [{"name": name, "rows": len(next(iter(rows.values())))} for name, rows in groups],
        "refused": refused,
        "transform": "",
        "notes": model.notes,
        "packages": package_versions(packages),
    }


def _require_versions(graph: onnx.ModelProto, opsets: Mapping[str, int]) -> None:
    if reason := check_versions(graph, opsets):
        raise RefusedJob(f"this model cannot be converted: {reason}", HINT)


HINT = "Serve it as Python instead: see docs/runtimes.md."

HOLES = "missing values"

Group = tuple[str, dict[str, np.ndarray[Any, Any]]]
"""The purpose of some rows, and the rows by input."""


def _answer(
    model: TensorModel, groups: Sequence[Group]
) -> tuple[list[Group], dict[str, str], dict[str, np.ndarray[Any, Any]]]:
    """Return the original's answers; groups that it rejects are left out, except the first."""
    kept: list[Group] = []
    refused: dict[str, str] = {}
    parts: list[dict[str, np.ndarray[Any, Any]]] = []
    for name, rows in groups:
        try:
            outputs = {key: as_objects(value) for key, value in model.predict(rows).items()}
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            if not kept:
                raise RefusedJob(f"the original fails for some rows ({name}): {reason}") from error
            refused[name] = reason
            continue
        count = len(next(iter(rows.values())))
        if any(len(np.atleast_1d(value)) != count for value in outputs.values()):
            raise RefusedJob("an output does not have one value for each row of a request", HINT)
        kept.append((name, rows))
        parts.append(outputs)
    return kept, refused, {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _without_lost_holes(
    session: Any,
    names: Sequence[str],
    groups: list[Group],
    refused: dict[str, str],
    answers: dict[str, np.ndarray[Any, Any]],
) -> tuple[list[Group], dict[str, np.ndarray[Any, Any]]]:
    """Leave out missing values if the original only passes them on and an operator of ONNX replaces them."""
    name, rows = groups[-1]
    count = len(next(iter(rows.values())))
    if name != HOLES:
        return groups, answers
    wanted = {key: values[-count:] for key, values in answers.items()}
    got = session.run(list(answers), {key: rows[key] for key in names})
    pairs = [(want, have) for want, have in zip(wanted.values(), got, strict=True) if want.dtype.kind == "f"]
    if not any((np.isnan(want) & ~np.isnan(have)).any() for want, have in pairs):
        return groups, answers
    refused[name] = "it answers NaN, and the ONNX model a number"
    return groups[:-1], {key: values[:-count] for key, values in answers.items()}


def _free_dimensions(graph: onnx.ModelProto, inputs: Sequence[TensorInput]) -> None:
    """Declare the inputs' shapes: converters give free dimensions random names, or omit them."""
    known = {row.name: row for row in inputs}
    for value in graph.graph.input:
        shape = value.type.tensor_type.shape
        shape.Clear()
        shape.dim.add().dim_param = "batch"
        for at, size in enumerate(known[value.name].shape, 1):
            if size is None:
                shape.dim.add().dim_param = f"size_{at}"
            else:
                shape.dim.add().dim_value = size


def draw_tensors(
    inputs: Sequence[TensorInput], samples: Arrays | None, examples: Arrays | None = None, *, seed: int = 0
) -> list[Group]:
    """Return the rows on which original and graph are compared, in groups; samples come first.

    All rows have the same shape: that of the samples where there are any.
    """
    random = np.random.default_rng(seed)
    if samples is not None:
        inputs = [replace(row, lengths=samples[row.name].shape[1:]) for row in inputs]
    size = sum(int(np.prod(row.sizes, dtype=np.int64)) for row in inputs)
    count = FEW_ROWS if size > LARGE_ROW else ROWS
    base = {row.name: _draw(row, count, random) for row in inputs}
    groups: list[Group] = [("samples", dict(samples))] if samples is not None else []
    if examples is not None:
        groups.append(("the examples in the file", dict(examples)))
    groups.append(("drawn from the model's schema", base))
    floats = [row.name for row in inputs if row.dtype.kind == "f"]
    zeros = {row.name: np.zeros((1, *row.sizes), row.dtype) for row in inputs}
    groups.append(("zeros", zeros))
    if floats:
        few = {name: rows[:4] for name, rows in base.items()}
        groups.append(("large values", {name: rows * 1000 if name in floats else rows for name, rows in few.items()}))
        groups.append(("negative values", {name: -abs(rows) if name in floats else rows for name, rows in few.items()}))
        holes = {name: rows.copy() for name, rows in few.items()}
        for name in floats:
            holes[name].reshape(len(holes[name]), -1)[:, 0] = np.nan
        groups.append((HOLES, holes))
    return groups


def _draw(row: TensorInput, count: int, random: np.random.Generator) -> np.ndarray[Any, Any]:
    shape = (count, *row.sizes)
    if row.dtype.kind == "b":
        return random.integers(0, 2, shape).astype(bool)
    if row.dtype.kind in "iu":
        top = row.values or (256 if row.dtype == np.uint8 else 2)
        return random.integers(0, top, shape).astype(row.dtype)
    return random.standard_normal(shape).astype(row.dtype)


def read_tensors(path: Path, inputs: Sequence[TensorInput]) -> dict[str, np.ndarray[Any, Any]]:
    """Return the samples in a file: .npz or JSON with each input's values by name; .npy or CSV for a single input.

    Raises:
        RefusedJob: the file cannot be read, or lacks an input.
    """
    suffix = path.suffix.lower()
    if suffix not in {".npy", ".npz", ".json", ".csv"}:
        raise RefusedJob(
            f"{path.name} is not a file of samples", "Name a file that ends with .npy, .npz, .json or .csv."
        )
    names = [row.name for row in inputs]
    try:
        given = _read(path, suffix, names)
    except (OSError, EOFError, ValueError, TypeError) as error:
        raise RefusedJob(f"{path.name} cannot be read: {error}") from None
    if missing := [name for name in names if name not in given]:
        raise RefusedJob(f"{path.name} has no values for {missing[0]!r}", f"The model's inputs: {', '.join(names)}.")
    result = {}
    for row in inputs:
        try:
            values = np.asarray(given[row.name]).astype(row.dtype)
        except (TypeError, ValueError) as error:
            raise RefusedJob(f"{path.name}: {row.name!r} must hold {row.dtype} values: {error}") from None
        shape = values.shape[1:]
        fits = len(shape) == len(row.shape) and all(a is None or a == b for a, b in zip(row.shape, shape, strict=True))
        if not fits:
            want = ", ".join("any" if size is None else str(size) for size in row.shape)
            raise RefusedJob(f"{path.name}: the shape of {row.name!r} must be [rows, {want}], got {list(values.shape)}")
        result[row.name] = values
    if len({len(values) for values in result.values()}) > 1:
        raise RefusedJob(f"{path.name}: its inputs must have equally many rows")
    if not len(next(iter(result.values()))):
        raise RefusedJob(f"{path.name} has no rows")
    return result


def _read(path: Path, suffix: str, names: Sequence[str]) -> Mapping[str, Any]:
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    if suffix == ".json":
        given = json.loads(path.read_text())
        if isinstance(given, dict):
            return given
        values: Any = given
    elif suffix == ".csv":
        values = np.genfromtxt(path, delimiter=",", skip_header=_header_lines(path), ndmin=2)
    else:
        values = np.load(path, allow_pickle=False)
    if len(names) != 1:
        raise ValueError(f"the model has {len(names)} inputs: use .npz or a JSON object of {', '.join(names)}")
    return {names[0]: values}


def _header_lines(path: Path) -> int:
    with path.open() as file:
        first = file.readline().strip().split(",")
    try:
        [float(cell) for cell in first]
    except ValueError:
        return 1
    return 0

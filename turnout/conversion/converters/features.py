"""What is known about a model's inputs, column by column, and the rows that are generated from it.

Random values rarely reveal conversion errors. Therefore rows also hit both sides of every threshold of a tree, in steps
of float64 and float32, and groups of rows contain what clients send by mistake: missing values, unknown categories,
other alphabets.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .start import RefusedJob

DRAWN_ROWS = 200
MOST_THRESHOLDS = 60
"""Most thresholds tested in each column; if there are more, they are chosen evenly."""

SMALLEST, LARGEST = 1e-30, 1e30
"""Thresholds beyond these stand for zero and infinity in some libraries; rows do not come near them."""

MOST_SAMPLES = 100_000

WORDS = ("the", "a", "good", "bad", "not", "very", "2024", "order", "late", "thank", "you", "x", "e-mail", "don't")
LONG_TEXT = "word and another word, " * 2000
EMPTY_TEXTS = ("", " ", "\t\n", "a", LONG_TEXT)
FOREIGN_TEXTS = (
    "ÄPFEL und Öl",
    "straße NAÏVE café",
    "日本 語 文字",
    "l\u2019été à ÉVRY",
    "ΣΊΣΥΦΟΣ",
    "İstanbul",
    "e\u0301te\u0301",
    "😀 ok",
    "½ ² ١٢",
)
UNSEEN = "(none of the known categories)"

Batch = dict[str, np.ndarray[Any, Any]]
"""Column name -> a value for each row."""


@dataclass(slots=True)
class Feature:
    """One column.

    Args:
        name: the column's name.
        kind: `float`, `int`, `bool` or `text`.
        categories: the values in training, if an encoder stores them; empty otherwise.
        thresholds: values at which a tree splits the column.
        center: a typical value.
        scale: typical distance from the center.
        is_words: whether it is text that is split into words.
        vocabulary: words that matter in it.
        used: whether the model reads it.
    """

    name: str
    kind: str = "float"
    categories: list[Any] = field(default_factory=list)
    thresholds: list[float] = field(default_factory=list)
    center: float = 0.0
    scale: float = 1.0
    is_words: bool = False
    vocabulary: list[str] = field(default_factory=list)
    used: bool = True


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Rows that are generated for one reason."""

    name: str
    rows: Batch


DTYPES = {
    "float": np.dtype(np.float64),
    "int": np.dtype(np.int64),
    "bool": np.dtype(np.bool_),
    "text": np.dtype(object),
}


def draw_groups(features: Sequence[Feature], samples: Batch | None, *, seed: int = 0) -> list[RowGroup]:
    """Return the groups of rows on which the original and the graph are compared; samples come first."""
    random = np.random.default_rng(seed)
    base = samples if samples is not None else {row.name: _draw(row, DRAWN_ROWS, random) for row in features}
    groups = [RowGroup("samples" if samples is not None else "drawn from the model's schema", base)]
    makers = {
        "around the thresholds of trees": _threshold_rows,
        "missing values": _missing_rows,
        "unseen categories": _unseen_rows,
        "empty and long text": lambda rows, own, _: _text_rows(rows, own, EMPTY_TEXTS),
        "text beyond ASCII": lambda rows, own, _: _text_rows(rows, own, FOREIGN_TEXTS),
        "large values": _large_rows,
    }
    for name, make in makers.items():
        rows = list(make(features, base, random))
        if rows:
            groups.append(RowGroup(name, stack(features, rows)))
    return groups


def stack(features: Sequence[Feature], rows: Sequence[Mapping[str, Any]]) -> Batch:
    """Return rows as columns."""
    batch: Batch = {}
    for feature in features:
        column = np.empty(len(rows), dtype=DTYPES[feature.kind])
        column[:] = [row[feature.name] for row in rows]
        batch[feature.name] = column
    return batch


def _draw(feature: Feature, number: int, random: np.random.Generator) -> np.ndarray[Any, Any]:
    if feature.categories:
        picked = [feature.categories[at] for at in random.integers(0, len(feature.categories), number)]
    elif feature.kind == "text":
        words = [*feature.vocabulary[:500], *WORDS]
        picked = [" ".join(random.choice(words, random.integers(1, 12)).tolist()) for _ in range(number)]
    elif feature.kind == "bool":
        picked = list(random.integers(0, 2, number).astype(bool))
    elif any(abs(edge) < LARGEST for edge in feature.thresholds):
        edges = np.array([edge for edge in feature.thresholds if abs(edge) < LARGEST])
        width = max(float(np.ptp(edges)), abs(float(edges.mean())) * 0.1, 1e-3)
        values = random.uniform(edges.min() - width / 2, edges.max() + width / 2, number)
        picked = list(np.round(values, 2) if width > 1 else values)
    else:
        picked = list(feature.center + feature.scale * random.standard_normal(number) * 2)
    if feature.kind == "int":
        picked = [round(float(value)) for value in picked]
    column = np.empty(number, dtype=DTYPES[feature.kind])
    column[:] = picked
    return column


def _row(batch: Batch, at: int) -> dict[str, Any]:
    length = len(next(iter(batch.values())))
    return {name: column[at % length] for name, column in batch.items()}


def _threshold_rows(features: Sequence[Feature], base: Batch, random: np.random.Generator) -> Iterator[dict[str, Any]]:
    for feature in features:
        edges = sorted({edge for edge in feature.thresholds if edge == 0 or SMALLEST < abs(edge) < LARGEST})
        step = max(1, -(-len(edges) // MOST_THRESHOLDS))
        for edge in edges[::step]:
            for value in _neighbours(edge):
                near = int(np.floor(value)) if feature.kind == "int" else value
                yield {**_row(base, int(random.integers(1 << 30))), feature.name: near}


def _neighbours(edge: float) -> Iterator[float]:
    """Return a threshold, its neighbors on both sides in float64, and its nearest numbers in float32."""
    single = np.float32(edge)
    yield from (edge, float(np.nextafter(edge, np.inf)), float(np.nextafter(edge, -np.inf)))
    with np.errstate(over="ignore"):
        for near in (single, np.nextafter(single, np.float32(np.inf)), np.nextafter(single, np.float32(-np.inf))):
            if np.isfinite(near):
                yield float(near)


def _missing_rows(features: Sequence[Feature], base: Batch, _: np.random.Generator) -> Iterator[dict[str, Any]]:
    numbers = [feature for feature in features if feature.kind == "float" and feature.used]
    for at, feature in enumerate(numbers[:50]):
        yield {**_row(base, at), feature.name: np.nan}
    if numbers:
        yield {**_row(base, 0), **{feature.name: np.nan for feature in numbers}}


def _unseen_rows(features: Sequence[Feature], base: Batch, _: np.random.Generator) -> Iterator[dict[str, Any]]:
    for at, feature in enumerate(feature for feature in features if feature.categories):
        if feature.kind == "text":
            unseen: Iterable[Any] = (UNSEEN, "", str(feature.categories[0]).swapcase() + " ")
        elif feature.kind in {"int", "float"}:
            unseen = (max(feature.categories) + 1, min(feature.categories) - 1)
        else:
            unseen = ()
        for value in unseen:
            yield {**_row(base, at), feature.name: value}


def _text_rows(features: Sequence[Feature], base: Batch, texts: Sequence[str]) -> Iterator[dict[str, Any]]:
    for feature in features:
        if feature.is_words:
            known = [word for word in feature.vocabulary if not word.isascii()][:20]
            for at, text in enumerate((*texts, *(word.upper() for word in known if texts is FOREIGN_TEXTS))):
                yield {**_row(base, at), feature.name: text}


def _large_rows(features: Sequence[Feature], base: Batch, _: np.random.Generator) -> Iterator[dict[str, Any]]:
    numbers = [row for row in features if row.kind == "float" and row.used and not row.categories]
    for at, feature in enumerate(numbers[:20]):
        for factor in (1e3, -1e3):
            yield {**_row(base, at), feature.name: float(feature.center + factor * max(feature.scale, 1e-9))}
        yield {**_row(base, at), feature.name: 0.0}


def read_samples(path: Path, features: Sequence[Feature]) -> Batch:
    """Return the rows of a CSV, Parquet, JSON or .npy file, by the model's columns.

    Raises:
        RefusedJob: the file cannot be read, or lacks a column.
    """
    frame = _read_frame(path, features)
    missing = [feature.name for feature in features if feature.used and feature.name not in frame]
    if missing:
        known = ", ".join(map(str, list(frame)[:20]))
        hint = f"Its columns are: {known}."
        if path.suffix.lower() != ".json" and not any(feature.name in frame for feature in features):
            hint += f" Columns with other names are read by their order, if there are exactly {len(features)}."
        raise RefusedJob(f"{path.name} has no column {missing[0]!r}", hint)
    length = len(next(iter(frame.values()), ()))
    if not length:
        raise RefusedJob(f"{path.name} has no rows")
    batch: Batch = {}
    for feature in features:
        column = np.empty(length, dtype=DTYPES[feature.kind])
        try:
            column[:] = [_value(feature, value) for value in frame.get(feature.name, [_default(feature)] * length)]
        except (TypeError, ValueError) as error:
            raise RefusedJob(f"{path.name}: column {feature.name!r} must hold {feature.kind} values: {error}") from None
        batch[feature.name] = column
    return batch


def note_texts(path: Path, features: Sequence[Feature]) -> None:
    """Set the kind of each column with text samples to text, unless the model itself defines the kind.

    Raises:
        RefusedJob: the file cannot be read.
    """
    frame = _read_frame(path, features)
    for feature in features:
        if not feature.categories and any(isinstance(value, str) for value in frame.get(feature.name, ())):
            feature.kind = "text"


def _default(feature: Feature) -> Any:
    return feature.categories[0] if feature.categories else "" if feature.kind == "text" else feature.center


def _value(feature: Feature, value: Any) -> Any:
    if feature.kind == "text":
        return "" if value is None or value != value else str(value)  # noqa: PLR0124 - NaN
    if value is None:
        value = np.nan
    return float(value) if feature.kind == "float" else int(value)


def _read_frame(path: Path, features: Sequence[Feature]) -> dict[str, Sequence[Any]]:
    names = [feature.name for feature in features]
    readers = {".npy": _from_array, ".json": _from_json, ".csv": _from_csv, ".parquet": _from_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        known = ", ".join(readers)
        raise RefusedJob(f"{path.name} is not a file of samples", f"Name a file that ends with one of {known}.")
    try:
        return reader(path, features, names)
    except (OSError, EOFError, ValueError, TypeError) as error:
        raise RefusedJob(f"{path.name} cannot be read: {error}") from None


def _from_array(path: Path, _: Sequence[Feature], names: Sequence[str]) -> dict[str, Sequence[Any]]:
    array = np.atleast_1d(np.load(path, allow_pickle=False))
    if array.ndim == 1 and len(names) == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] != len(names):
        raise ValueError(f"its shape must be [rows, {len(names)}], got {list(array.shape)}")
    return {name: array[:MOST_SAMPLES, at].tolist() for at, name in enumerate(names)}


def _from_csv(path: Path, features: Sequence[Feature], names: Sequence[str]) -> dict[str, Sequence[Any]]:
    import pandas as pd

    texts = {feature.name: str for feature in features if feature.kind == "text"}
    return _columns_of(pd.read_csv(path, nrows=MOST_SAMPLES, dtype=texts), names)


def _from_parquet(path: Path, _: Sequence[Feature], names: Sequence[str]) -> dict[str, Sequence[Any]]:
    import pandas as pd

    return _columns_of(pd.read_parquet(path).head(MOST_SAMPLES), names)


def _columns_of(frame: Any, names: Sequence[str]) -> dict[str, Sequence[Any]]:
    if not set(names) & set(map(str, frame.columns)) and len(frame.columns) == len(names):
        frame.columns = list(names)  # a matrix: the model has no names for its columns
    values = frame.astype(object).where(frame.notna(), None)  # pandas spells a missing value as NaN, None, NaT or NA
    return {str(name): values[name].tolist() for name in frame.columns}


def _from_json(path: Path, _: Sequence[Feature], names: Sequence[str]) -> dict[str, Sequence[Any]]:
    """Read a list of objects, a list of lists, or an object of lists."""
    rows = json.loads(path.read_text())
    if isinstance(rows, dict):
        columns: dict[str, Sequence[Any]] = {str(name): list(column)[:MOST_SAMPLES] for name, column in rows.items()}
        if len({len(column) for column in columns.values()}) > 1:
            raise ValueError("its columns must be equally long")
        return columns
    if not isinstance(rows, list):
        raise TypeError("must be a list of rows, or an object of columns")
    rows = rows[:MOST_SAMPLES]
    if len({type(row) if isinstance(row, dict | list) else None for row in rows}) > 1:
        raise TypeError("its rows must be of one kind: all objects, all lists, or all values")
    if rows and isinstance(rows[0], dict):
        known = dict.fromkeys(name for row in rows for name in row)
        return {name: [row.get(name) for row in rows] for name in known}
    if rows and not isinstance(rows[0], list):
        rows = [[row] for row in rows]
    if any(len(row) != len(names) for row in rows):
        raise ValueError(f"each row must have {len(names)} values")
    return {name: [row[at] for row in rows] for at, name in enumerate(names)}

"""Sample files: CSV, JSON and .npy are read in process, Parquet in a converter's environment that has pyarrow."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conversion.conftest import environment
from turnout.conversion.converters.features import Feature, read_samples
from turnout.conversion.converters.start import RefusedJob
from turnout.conversion.registry import LOCKS

FEATURES = [
    Feature("age", "float"),
    Feature("rooms", "int"),
    Feature("new", "bool"),
    Feature("city", "text", categories=["Rome", "Oslo"]),
]
RIGHT = {"age": [1.5, None], "rooms": [2, 3], "new": [True, False], "city": ["Oslo", ""]}


def write(path: Path, content: Any) -> Path:
    """Write a sample file: text and bytes unchanged, an array as .npy, anything else as JSON."""
    if isinstance(content, np.ndarray):
        np.save(path, content)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def plain(batch: dict[str, Any]) -> dict[str, list[Any]]:
    """Return the values of a batch, with None for NaN."""
    return {name: [None if value != value else value for value in column] for name, column in batch.items()}  # noqa: PLR0124


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("objects.json", [{"age": 1.5, "rooms": 2, "new": True, "city": "Oslo"}, {"new": False, "rooms": 3}]),
        ("lists.json", [[1.5, 2, True, "Oslo"], [None, 3, False, None]]),
        ("columns.json", {"more": [0, 0], **RIGHT}),
        ("rows.csv", "city,age,rooms,new\nOslo,1.5,2,True\n,,3,False\n"),
        ("ROWS.CSV", "a,b,c,d\n1.5,2,True,Oslo\n,3,False,\n"),
    ],
)
def test_rows_are_read(name: str, content: Any, tmp_path: Path) -> None:
    assert plain(read_samples(write(tmp_path / name, content), FEATURES)) == RIGHT


def test_values_of_one_column_and_arrays_are_read(tmp_path: Path) -> None:
    text = [Feature("text", "text")]
    assert plain(read_samples(write(tmp_path / "texts.json", ["a", "b"]), text)) == {"text": ["a", "b"]}
    two = [Feature("a"), Feature("b")]
    assert plain(read_samples(write(tmp_path / "x.npy", np.eye(2)), two)) == {"a": [1, 0], "b": [0, 1]}
    assert plain(read_samples(write(tmp_path / "y.npy", np.arange(2.0)), two[:1])) == {"a": [0, 1]}


@pytest.mark.parametrize(
    ("name", "content", "is_by_order"),
    [
        ("rows.csv", "a,b\n1,2\n", True),
        ("rows.csv", "age,b\n1,2\n", False),
        ("rows.json", [{"a": 1, "b": 2}], False),
    ],
)
def test_a_table_with_other_names_reports_how_many_columns_it_needs(
    name: str, content: Any, is_by_order: bool, tmp_path: Path
) -> None:
    with pytest.raises(RefusedJob, match="has no column") as caught:
        read_samples(write(tmp_path / name, content), FEATURES)
    assert ("read by their order, if there are exactly 4." in caught.value.hint) == is_by_order


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.json", [{"age": 1, "rooms": 2, "new": 1}], "a.json has no column 'city'"),
        ("a.json", [[1, 2, 0]], "each row must have 4 values"),
        ("a.json", [{"age": 1}, [1, 2, 0, "Oslo"]], "must be of one kind"),
        ("a.json", [[1, 2, 0, "Oslo"], 5], "must be of one kind"),
        ("a.json", [], "a.json has no rows"),
        ("a.json", {"age": 1}, "a.json cannot be read"),
        ("a.json", 5, "must be a list of rows, or an object of columns"),
        ("a.json", "{", "a.json cannot be read"),
        ("a.json", b"\xff", "a.json cannot be read"),
        ("a.json", {**RIGHT, "age": ["x", 1]}, "column 'age' must hold float values"),
        ("a.json", {**RIGHT, "rooms": [None, 1]}, "column 'rooms' must hold int values"),
        ("a.json", {**RIGHT, "city": ["Oslo"]}, "its columns must be equally long"),
        ("a.csv", "", "a.csv cannot be read"),
        ("a.csv", "age,rooms,new,city\n", "a.csv has no rows"),
        ("a.npy", np.eye(3), r"its shape must be \[rows, 4\], got \[3, 3\]"),
        ("a.npy", b"", "a.npy cannot be read"),
        ("a.xlsx", b"", "is not a file of samples"),
        ("missing.json", None, "missing.json cannot be read"),
    ],
)
def test_an_invalid_file_is_rejected(name: str, content: Any, says: str, tmp_path: Path) -> None:
    path = tmp_path / name if content is None else write(tmp_path / name, content)
    with pytest.raises(RefusedJob, match=says):
        read_samples(path, FEATURES)


PARQUET = """
import json, sys
sys.path.insert(0, sys.argv[1])
import pandas as pd
from converters.features import Feature, read_samples
from converters.start import RefusedJob
from pathlib import Path
features = [Feature(*row) for row in json.loads(sys.argv[3])]
folder = Path(sys.argv[2])
nullable = {"age": "Float64", "rooms": "Int64", "new": "boolean", "city": "string"}
frame = pd.DataFrame(json.loads(sys.argv[4]))
frames = {
    "plain": frame,
    "nullable": frame.astype(nullable).assign(city=pd.array(["Oslo", pd.NA], dtype="string")),
    "categories": frame.astype({"city": "category", "age": "float32"}),
    "lacks": frame.drop(columns="city"),
}
for name, frame in frames.items():
    path = folder / f"{name}.parquet"
    frame.to_parquet(path)
(folder / "broken.parquet").write_bytes(b"PAR1 is how it begins")
for path in sorted(folder.glob("*.parquet")):
    try:
        batch = read_samples(path, features)
        result = {name: [None if x != x else x for x in column.tolist()] for name, column in batch.items()}
    except RefusedJob as error:
        result = error.message
    print(json.dumps([path.stem, result]))
"""


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Name of a Parquet file -> its columns, or the error, as the converter's environment reads it."""
    folder = tmp_path_factory.mktemp("parquet")
    features = json.dumps([[feature.name, feature.kind] for feature in FEATURES])
    arguments = [str(LOCKS.parent), str(folder), features, json.dumps(RIGHT)]
    done = subprocess.run(
        [str(environment("sklearn")), "-I", "-B", "-c", PARQUET, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(line) for line in done.stdout.splitlines()).__getitem__


@pytest.mark.parametrize("name", ["plain", "nullable", "categories"])
def test_parquet_is_read(name: str, parquet: Callable[[str], Any]) -> None:
    assert parquet(name) == RIGHT


def test_invalid_parquet_is_rejected(parquet: Callable[[str], Any]) -> None:
    assert parquet("lacks") == "lacks.parquet has no column 'city'"
    assert parquet("broken").startswith("broken.parquet cannot be read: ")

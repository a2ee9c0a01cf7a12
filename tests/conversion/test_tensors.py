"""Rows and samples of models whose inputs are whole tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from turnout.conversion.converters.networks.tensors import FREE_LENGTH, TensorInput, draw_tensors, read_tensors
from turnout.conversion.converters.start import RefusedJob

IMAGE = TensorInput("image", np.dtype(np.float32), (4, 4, 3))
WORDS = TensorInput("words", np.dtype(np.int32), (None,), values=30)
MATRIX = TensorInput("X", np.dtype(np.float32), (3,))


def test_rows_fit_the_inputs_and_contain_edge_values() -> None:
    groups = dict(draw_tensors([IMAGE, WORDS], None))
    assert list(groups) == [
        "drawn from the model's schema",
        "zeros",
        "large values",
        "negative values",
        "missing values",
    ]
    for rows in groups.values():
        assert rows["image"].shape[1:] == (4, 4, 3)
        assert rows["words"].shape[1:] == (FREE_LENGTH,)
        assert (rows["image"].dtype, rows["words"].dtype) == (np.float32, np.int32)
        assert rows["words"].min() >= 0
        assert rows["words"].max() < 30
    assert np.isnan(groups["missing values"]["image"]).any()
    assert not np.isnan(groups["large values"]["image"]).any()
    assert len(groups["drawn from the model's schema"]["image"]) == 100
    large = dict(draw_tensors([TensorInput("x", np.dtype(np.float32), (200, 200))], None))
    assert len(large["drawn from the model's schema"]["x"]) == 16


def test_rows_have_the_shape_of_the_samples_and_the_examples_come_before_drawn_rows() -> None:
    samples = {"words": np.ones((3, 5), np.int32)}
    groups = draw_tensors([WORDS], samples)
    assert {rows["words"].shape[1:] for _, rows in groups} == {(5,)}
    examples = {"X": np.ones((2, 3), np.float32)}
    assert [name for name, _ in draw_tensors([MATRIX], None, examples)][:2] == [
        "the examples in the file",
        "drawn from the model's schema",
    ]
    long = TensorInput("words", np.dtype(np.int64), (None,), values=30, lengths=(20,))
    assert draw_tensors([long], None)[0][1]["words"].shape == (100, 20)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".json", ".csv"])
def test_samples_are_read_from_each_kind_of_file(suffix: str, tmp_path: Path) -> None:
    rows = np.array([[1.5, 2, 3], [4, 5, 6]], np.float32)
    path = tmp_path / f"rows{suffix}"
    if suffix == ".npy":
        np.save(path, rows)
    elif suffix == ".npz":
        np.savez(path, X=rows)
    else:
        path.write_text(json.dumps({"X": rows.tolist()}) if suffix == ".json" else "a,b,c\n1.5,2,3\n4,5,6\n")
    assert read_tensors(path, [MATRIX])["X"].tolist() == rows.tolist()
    groups = draw_tensors([MATRIX], read_tensors(path, [MATRIX]))
    assert groups[0][0] == "samples"
    assert groups[0][1]["X"].dtype == np.float32


@pytest.mark.parametrize(
    ("name", "content", "inputs", "says"),
    [
        ("rows.txt", "1", [MATRIX], "is not a file of samples"),
        ("rows.json", "{", [MATRIX], "cannot be read"),
        ("rows.json", {"Y": [1]}, [MATRIX], "has no values for 'X'"),
        ("rows.json", {"X": [[1, 2]]}, [MATRIX], r"must be \[rows, 3\], got \[1, 2\]"),
        ("rows.json", {"X": [1, 2, 3]}, [MATRIX], r"must be \[rows, 3\], got \[3\]"),
        ("rows.json", {"X": [["a", "b", "c"]]}, [MATRIX], "must hold float32 values"),
        ("rows.json", [[1, 2, 3]], [MATRIX, WORDS], "the model has 2 inputs"),
        ("rows.json", {"X": [[1, 2, 3]], "words": [[1], [2]]}, [MATRIX, WORDS], "equally many rows"),
    ],
)
def test_samples_that_do_not_fit_are_rejected(
    name: str, content: Any, inputs: list[TensorInput], says: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(RefusedJob, match=says):
        read_tensors(tmp_path / name, inputs)

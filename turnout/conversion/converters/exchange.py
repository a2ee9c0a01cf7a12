"""Tensors in a folder, as converters write them and Turnout reads them: without pickle, texts as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray[Any, Any]]
"""Arrays by name; texts are `str` in object arrays."""


def write_arrays(folder: Path, arrays: Arrays) -> None:
    """Write the arrays into a new folder."""
    folder.mkdir(parents=True)
    index = []
    for number, (name, array) in enumerate(arrays.items()):
        if array.dtype == object:
            (folder / f"{number}.json").write_text(json.dumps([str(text) for text in array.ravel()]))
        else:
            np.save(folder / f"{number}.npy", array, allow_pickle=False)
        index.append({"name": name, "shape": list(array.shape), "is_text": array.dtype == object})
    (folder / "index.json").write_text(json.dumps(index))


def read_arrays(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Read what `write_arrays` wrote."""
    result: dict[str, np.ndarray[Any, Any]] = {}
    for number, row in enumerate(json.loads((folder / "index.json").read_text())):
        if row["is_text"]:
            texts = json.loads((folder / f"{number}.json").read_text())
            array = np.empty(len(texts), dtype=object)
            array[:] = texts
            result[row["name"]] = array.reshape(row["shape"])
        else:
            result[row["name"]] = np.load(folder / f"{number}.npy", allow_pickle=False)
    return result


def as_objects(values: Any) -> np.ndarray[Any, Any]:
    """Return texts of any array as `str` in an object array; other arrays unchanged."""
    array = np.asarray(values)
    if array.dtype.kind not in "OUSTM":
        return array
    texts = np.empty(array.size, dtype=object)
    texts[:] = [value.decode() if isinstance(value, bytes) else str(value) for value in array.ravel().tolist()]
    return texts.reshape(array.shape)

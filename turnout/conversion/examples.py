"""Makes a version's examples from the rows of its proof: the requests, and the original's answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson

from turnout.conversion.converters.exchange import Arrays, read_arrays
from turnout.conversion.proof import Proof

ROWS = 5
LARGEST_TEXT = 500
LARGE_ROW = 2000
"""Number of values in a row from which one example is enough: the examples are JSON."""

DATATYPES = {
    "f8": "FP64",
    "f4": "FP32",
    "f2": "FP16",
    "i8": "INT64",
    "i4": "INT32",
    "b1": "BOOL",
    "u1": "UINT8",
    "O": "BYTES",
}


def make_examples(folder: Path, proof: Proof, *, from_samples: bool) -> bytes:
    """Return an examples.json with the first rows one by one, then together.

    Args:
        folder: contains `inputs`, `expected` and `whole`.
        proof: the proof whose first group contains the rows.
        from_samples: whether the user provided the rows, which determines their names.
    """
    inputs, expected = read_arrays(folder / "inputs"), read_arrays(folder / "expected")
    got = read_arrays(folder / "whole")
    first = next(iter(proof.groups.values()))
    size = sum(np.size(array[0]) for array in inputs.values())  # a list of texts has plain texts
    number_of_rows = 1 if size > LARGE_ROW else ROWS
    rows = [at for at in range(first) if _is_plain(inputs, at) and _is_plain(expected, at)][:number_of_rows]
    word = "sample" if from_samples else "drawn row"
    tolerance = {"absolute": proof.tolerance.absolute, "relative": proof.tolerance.relative}
    made = [_example(f"{word} {number}", [at], inputs, expected, got) for number, at in enumerate(rows, 1)]
    if len(rows) > 1:
        made.append(_example(f"{word}s 1-{len(rows)}", rows, inputs, expected, got))
    return orjson.dumps([{**row, "tolerance": tolerance} for row in made], option=orjson.OPT_INDENT_2)


def _is_plain(arrays: Arrays, at: int) -> bool:
    """Whether a row can be written as readable JSON."""
    for array in arrays.values():
        for value in np.ravel(array[at]).tolist():
            if isinstance(value, float) and not np.isfinite(value):
                return False
            if isinstance(value, str) and len(value) > LARGEST_TEXT:
                return False
    return True


def _example(name: str, rows: list[int], inputs: Arrays, expected: Arrays, got: Arrays) -> dict[str, Any]:
    outputs = []
    for output, want in expected.items():
        shape, kind = got[output].shape[1:], got[output].dtype
        values = want[rows].reshape(len(rows), *shape)
        outputs.append(_tensor(output, values if kind.hasobject else values.astype(kind)))
    return {
        "name": name,
        "request": {"inputs": [_tensor(column, array[rows]) for column, array in inputs.items()]},
        "response": {"outputs": outputs},
    }


def _tensor(name: str, array: np.ndarray[Any, Any]) -> dict[str, Any]:
    code = "O" if array.dtype == object else array.dtype.str[1:]
    return {
        "name": name,
        "shape": list(array.shape),
        "datatype": DATATYPES[code],
        "data": array.ravel().tolist(),
    }

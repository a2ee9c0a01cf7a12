from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson

from turnout.conversion.converters.exchange import write_arrays
from turnout.conversion.examples import make_examples
from turnout.conversion.proof import Proof, Tolerance


def test_a_list_of_texts_becomes_examples(tmp_path: Path) -> None:
    """The input of a text pipeline has rank 1, so each of its elements is a plain text."""
    texts = np.empty(3, dtype=object)
    texts[:] = ["good film", "", "bad film"]
    labels = np.array([1, 0, 0], np.int64)
    for name, arrays in (("inputs", {"text": texts}), ("expected", {"label": labels}), ("whole", {"label": labels})):
        write_arrays(tmp_path / name, arrays)
    proof = Proof({"samples": 3}, {}, Tolerance(), (1, 3), (), 0, ())
    rows = orjson.loads(make_examples(tmp_path, proof, from_samples=True))
    assert [row["name"] for row in rows] == ["sample 1", "sample 2", "sample 3", "samples 1-3"]
    together = rows[-1]
    assert together["request"]["inputs"] == [
        {"name": "text", "shape": [3], "datatype": "BYTES", "data": ["good film", "", "bad film"]}
    ]
    assert together["response"]["outputs"][0]["data"] == [1, 0, 0]

"""Runs a converted graph for the proof, in a process of its own, with the session that will serve it.

A graph may crash its process, and the command must survive that.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import resource
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from turnout.conversion.converters.exchange import as_objects, read_arrays, write_arrays

BATCH = 100
ALONE = 60
"""Number of rows that are also sent one by one."""


def main() -> None:
    """Run the graph of the job in the first argument."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answer_rows(json.loads(sys.argv[1]))


def answer_rows(job: Mapping[str, str]) -> None:
    """Run a graph on the rows in a folder, and write the answers to a subfolder for each batch size."""
    folder = Path(job["folder"])
    inputs = read_arrays(folder / "inputs")
    session_module = importlib.import_module(f"{job['package']}.onnx_model.session")
    session = session_module.open_session(Path(job["model"]), 1769)
    names = [row.name for row in session.get_outputs()]
    prepare = _load_transform(Path(job["transform"])) if job["transform"] else _keep

    def run(at: np.ndarray[Any, Any]) -> dict[str, Any]:
        feed = prepare({name: array[at] for name, array in inputs.items()})
        return dict(zip(names, map(as_objects, session.run(names, feed)), strict=True))

    count = len(next(iter(inputs.values())))
    write_arrays(folder / "whole", run(np.arange(count)))
    alone = np.unique(np.linspace(0, count - 1, min(count, ALONE)).astype(int))
    answers = [run(alone[at : at + 1]) for at in range(len(alone))]
    write_arrays(
        folder / "alone", {"row": alone, **{name: np.concatenate([row[name] for row in answers]) for name in names}}
    )
    hundred = np.arange(BATCH) % count
    write_arrays(folder / "hundred", {"row": hundred, **run(hundred)})


def _keep(feed: dict[str, Any]) -> dict[str, Any]:
    return feed


def _load_transform(path: Path) -> Callable[[dict[str, Any]], dict[str, Any]]:
    spec = importlib.util.spec_from_file_location("transform", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def prepare(feed: dict[str, Any]) -> dict[str, Any]:
        encoded = {name: _encode(array) if array.dtype == object else array for name, array in feed.items()}
        return {name: as_objects(array) for name, array in module.preprocess(encoded).items()}

    return prepare


def _encode(texts: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    encoded = np.empty(texts.size, dtype=object)
    encoded[:] = [text.encode() for text in texts.ravel().tolist()]
    return encoded.reshape(texts.shape)


if __name__ == "__main__":
    main()

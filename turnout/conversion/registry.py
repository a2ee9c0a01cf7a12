"""`CONVERTERS`: which converter reads a file, and in which environment it runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from turnout.conversion.errors import ConversionError
from turnout.conversion.proof import CAUSES, NETWORK_CAUSES

SAVED_MODEL = "saved_model.pb"
"""The file that makes a folder a SavedModel."""

LOCKS = Path(__file__).with_name("converters")


@dataclass(frozen=True, slots=True)
class Converter:
    """One kind of model.

    Args:
        name: the name in `--converter` and `source.converter`.
        title: the name in messages.
        files: the files that it reads, for messages.
        reads: returns whether a file is of this kind.
        module: its module in turnout/conversion/converters/.
        environment: the name of its requirements: converters/NAME.in, pinned in NAME.lock.
        causes: the usual causes of a difference.
    """

    name: str
    title: str
    files: str
    reads: Callable[[Path], bool]
    module: str
    environment: str
    causes: tuple[str, ...] = CAUSES


def _has_suffix(*suffixes: str) -> Callable[[Path], bool]:
    return lambda path: path.suffix.lower() in suffixes


def _is_xgboost(path: Path) -> bool:
    if path.suffix.lower() == ".ubj":
        return True
    if path.suffix.lower() != ".json":
        return False
    try:
        with path.open("rb") as file:
            start = file.read(4096)
        return b'"learner"' in start or "learner" in json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False


def _is_lightgbm(path: Path) -> bool:
    if path.suffix.lower() not in {".txt", ".lgb", ".model"}:
        return False
    try:
        with path.open("rb") as file:
            return file.read(5) == b"tree\n"
    except OSError:
        return False


def _is_saved_model(path: Path) -> bool:
    return (path / SAVED_MODEL).is_file()


CONVERTERS: Mapping[str, Converter] = {
    row.name: row
    for row in (
        Converter(
            "sklearn",
            "scikit-learn",
            ".skops; .joblib and .pkl with --trust-pickle",
            _has_suffix(".skops", ".joblib", ".pkl", ".pickle"),
            "sklearn_model",
            "sklearn",
        ),
        Converter("xgboost", "XGBoost", ".ubj, .json", _is_xgboost, "xgboost_model", "xgboost"),
        Converter("lightgbm", "LightGBM", ".txt", _is_lightgbm, "lightgbm_model", "lightgbm"),
        Converter("catboost", "CatBoost", ".cbm", _has_suffix(".cbm"), "catboost_model", "catboost"),
        Converter(
            "keras",
            "Keras",
            ".keras, .h5",
            _has_suffix(".keras", ".h5", ".hdf5"),
            "networks.keras_model",
            "keras",
            NETWORK_CAUSES,
        ),
        Converter(
            "tensorflow",
            "TensorFlow",
            "the folder of a SavedModel",
            _is_saved_model,
            "networks.keras_model",
            "keras",
            NETWORK_CAUSES,
        ),
        Converter("torch", "PyTorch", ".pt2", _has_suffix(".pt2"), "networks.torch_model", "torch", NETWORK_CAUSES),
    )
}
"""Converters by name. To add one, add an entry here, and a module and a requirements file in converters/, and run
`make lock-converters`."""

PYTHON_CONVERTERS = frozenset({"sklearn", "catboost"})
"""Converters that also write predict.py, for `--runtime python`."""

PICKLES = frozenset({".joblib", ".pkl", ".pickle"})


def find_converter(path: Path, name: str = "") -> Converter | None:
    """The converter of a file; None for ONNX.

    Args:
        path: the file or folder.
        name: the converter that the user chose, or empty.

    Raises:
        ConversionError: no converter reads the file, or none has this name.
    """
    if name:
        if name not in CONVERTERS:
            raise ConversionError(f"unknown converter {name!r}", f"Known converters: {', '.join(CONVERTERS)}.")
        return CONVERTERS[name]
    if path.suffix.lower() in {".onnx", ".ort"}:
        return None
    for converter in CONVERTERS.values():
        if converter.reads(path):
            return converter
    raise ConversionError(f"{path.name} is not a kind of model that Turnout knows", known_kinds())


def known_kinds() -> str:
    """The kinds of models that can be added, one per line."""
    rows = [("ONNX", ".onnx"), *((row.title, row.files) for row in CONVERTERS.values()), ("Python code", ".py")]
    return "Known kinds:\n" + "\n".join(f"        {title}: {files}" for title, files in rows)

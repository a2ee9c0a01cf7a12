"""Finds the model file in a folder: an MLflow model names it, any other folder must have exactly one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from turnout.conversion.downloads import safe_path
from turnout.conversion.errors import ConversionError
from turnout.conversion.registry import CONVERTERS, SAVED_MODEL, known_kinds

USUAL = "onnx/model.onnx"
"""The usual place of the graph in folders of Hugging Face, which also contain quantized copies."""

FLAVORS: Mapping[str, tuple[str, str, str]] = {
    "onnx": ("", "data", "model.onnx"),
    "sklearn": ("sklearn", "pickled_model", "model.pkl"),
    "xgboost": ("xgboost", "data", "model.xgb"),
    "lightgbm": ("lightgbm", "data", "model.lgb"),
    "catboost": ("catboost", "data", "model.cb"),
}
"""Flavor of MLflow -> converter, the key of its file, and that file's usual name."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """The file to convert.

    Args:
        path: the file.
        converter: the converter's name if the folder names it, else empty.
        samples: rows that came with it, or None.
    """

    path: Path
    converter: str = ""
    samples: Path | None = None


def find_model_file(path: Path) -> ModelFile:
    """Return the model file of a file or folder.

    Raises:
        ConversionError: a folder contains none, or several.
    """
    if path.is_file():
        return ModelFile(path)
    if (path / "MLmodel").is_file():
        return _of_mlflow(path)
    if (path / SAVED_MODEL).is_file():
        return ModelFile(path, "tensorflow")
    files = [file for file in sorted(path.iterdir()) if file.is_file()]
    result = [file for file in files if file.suffix == ".onnx"]
    if not result and (path / USUAL).is_file():
        return ModelFile(path / USUAL)
    if not result:
        result = [file for file in files if any(row.reads(file) for row in CONVERTERS.values())]
    if len(result) != 1:
        what = f"has several models: {', '.join(file.name for file in result)}" if result else "has no model"
        raise ConversionError(f"{path.name} {what}", "Name the file." if result else known_kinds())
    return ModelFile(result[0])


def _of_mlflow(folder: Path) -> ModelFile:
    try:
        description: Any = yaml.safe_load((folder / "MLmodel").read_text())
        flavors = dict(description["flavors"])
    except (yaml.YAMLError, KeyError, TypeError, ValueError, OSError) as error:
        raise ConversionError(f"{folder.name}/MLmodel cannot be read: {error}") from error
    for flavor, (converter, key, usual) in FLAVORS.items():
        if flavor in flavors:
            name = str(flavors[flavor].get(key) or usual)
            path = safe_path(folder, name, folder.name)
            if path.is_dir():
                path = find_model_file(path).path
            if not path.is_file():
                raise ConversionError(f"{folder.name}/MLmodel names {name}, which is missing")
            return ModelFile(path, converter)
    known = ", ".join(FLAVORS)
    raise ConversionError(
        f"the MLflow model has the flavors {', '.join(flavors)}, none of which is converted",
        f"Known flavors: {known}. Serve others as Python: see docs/runtimes.md.",
    )

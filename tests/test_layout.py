"""The location of our own files in this checkout. (tests/cli build the wheel and look there.)"""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from turnout import layout


@pytest.mark.parametrize("name", ["models", "inference-request", "inference-response", "error"])
def test_schema_exists(name: str, root: Path) -> None:
    assert layout.schema_path(name) == root / "schemas" / f"{name}.schema.json"
    assert layout.schema_path(name).is_file()


def test_unknown_schema_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(FileNotFoundError, match="no schema 'nothing'; there are: error, inference-request"):
        layout.schema_path("nothing")


def test_sample_exists() -> None:
    assert (layout.sample_dir() / "models" / "iris" / "v1" / "model.onnx").is_file()


def test_model_lambdas_can_be_imported() -> None:
    assert importlib.import_module(f"{layout.model_lambdas_package()}.onnx_model")


def test_installed_layout_is_inside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "models.schema.json").write_text("{}")
    monkeypatch.setattr(layout, "PACKAGE", tmp_path)
    assert layout.schema_path("models") == tmp_path / "schemas" / "models.schema.json"
    assert layout.sample_dir() == tmp_path / "sample"
    assert layout.model_lambdas_package() == "turnout.model_lambdas"

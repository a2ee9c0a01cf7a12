"""Requirements are pinned to Lambda's resolved releases, and a layer that is too large is rejected with its sizes."""

from __future__ import annotations

from pathlib import Path

import pytest

from turnout.packaging import layer_size
from turnout.packaging.layer import LayerError, LayerSpec
from turnout.packaging.layer_size import LayerSizeError, MeasuredLayer, check_layer, pin_requirements

MB = 1024 * 1024


@pytest.mark.parametrize(
    ("requirement", "pinned"),
    [
        ("pillow", "pillow==12.0.1"),
        ("Pillow>=11,<13", "Pillow==12.0.1"),
        ("pillow==12.0.1", "pillow==12.0.1"),
        ("typing.extensions ~= 4.0", "typing.extensions==4.16.0"),
        ("moto[s3,sqs]>5", "moto[s3,sqs]==5.2.5"),
        ("pillow>1; python_version>'3'", "pillow==12.0.1; python_version>'3'"),
        ("pywin32; sys_platform == 'win32'", "pywin32; sys_platform == 'win32'"),
        ("own @ https://host/own-1-py3-none-any.whl", "own @ https://host/own-1-py3-none-any.whl"),
    ],
)
def test_requirement_is_pinned_to_the_resolved_release(requirement: str, pinned: str) -> None:
    resolved = ("moto[s3,sqs]==5.2.5", "pillow==12.0.1", "typing-extensions==4.16.0")
    assert pin_requirements([requirement], resolved) == (pinned,)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[MeasuredLayer, Path]:
    parent = tmp_path_factory.mktemp("scratch")
    spec = LayerSpec("arm64", "3.13", ("markupsafe>=3",), "python")
    try:
        return check_layer("m v1", spec, 1000, parent), parent
    except LayerError as error:
        pytest.skip(f"the package index is out of reach: {error}")


def test_layer_is_measured_per_package(measured: tuple[MeasuredLayer, Path]) -> None:
    layer, parent = measured
    assert layer.requirements[0].startswith("markupsafe==3.")
    assert layer.pinned == layer.requirements
    assert sum(layer.packages.values()) == layer.unzipped_bytes
    assert next(iter(layer.packages)) == "numpy"
    assert 0 < layer.packages["markupsafe"] < MB
    assert 30 * MB < layer.unzipped_bytes < 80 * MB
    assert not list(parent.iterdir())


def refuse(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, measure: MeasuredLayer | LayerError, model_bytes: int
) -> LayerSizeError:
    def stand_in(*_: object) -> MeasuredLayer:
        if isinstance(measure, LayerError):
            raise measure
        return measure

    monkeypatch.setattr(layer_size, "measure_layer", stand_in)
    with pytest.raises(LayerSizeError) as caught:
        check_layer("wine v1", LayerSpec("arm64", "3.13", ("torch",), "python"), model_bytes, tmp_path)
    return caught.value


def test_oversized_layer_is_rejected_with_its_largest_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    layer = MeasuredLayer(("torch==2",), ("torch==2",), 300 * MB, {"torch": 200 * MB, "numpy": 100 * MB})
    error = refuse(monkeypatch, tmp_path, layer, 0)
    assert error.message == (
        "the packages of wine v1 take 300.0 MB unzipped, and Lambda allows 250.0 MB for all of a function's files"
    )
    assert "The largest are torch 200.0 MB, numpy 100.0 MB." in error.hint


def test_layer_and_model_together_are_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    layer = MeasuredLayer(("scipy==2",), ("scipy==2",), 200 * MB, {"scipy": 200 * MB})
    error = refuse(monkeypatch, tmp_path, layer, 60 * MB)
    assert "take 200.0 MB unzipped and its model 60.0 MB" in error.message
    assert check_layer("wine v1", LayerSpec("arm64", "3.13", ("scipy",), "python"), 40 * MB, tmp_path) is layer


def test_conflicting_releases_are_rejected_and_unreachable_index_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = (
        "error: No solution found when resolving dependencies\n"
        "  cause: Because you require numpy<2 and numpy==2.5.5, we can conclude that your requirements are "
        "unsatisfiable."
    )
    error = refuse(monkeypatch, tmp_path, LayerError(text), 0)
    assert "on Lambda: you require numpy<2 and numpy==2.5.5" in error.message
    assert "Python 3.13 on Linux arm64" in error.hint
    for offline in ("Failed to fetch: connection refused", f"{text}\nhint: the network was disabled"):
        monkeypatch.undo()

        def fail(*_: object, text: str = offline) -> None:
            raise LayerError(text)

        monkeypatch.setattr(layer_size, "measure_layer", fail)
        with pytest.raises(LayerError):
            check_layer("wine v1", LayerSpec("arm64", "3.13", ("torch",), "python"), 0, tmp_path)

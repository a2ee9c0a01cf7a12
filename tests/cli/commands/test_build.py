"""`turnout build`: its output and the location of the zips."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from turnout.cli.__main__ import main
from turnout.cli.commands.build import say_built
from turnout.packaging.build import BuiltPackage


@pytest.fixture
def project(root: Path, tmp_path: Path) -> Path:
    """The sample project with only the model iris."""
    shutil.copytree(root / "models/iris", tmp_path / "models/iris")
    manifest = tmp_path / "models.yaml"
    manifest.write_text(
        "platform: shop\nmodels:\n  iris:\n    versions:\n"
        "      v1: {artifact: models/iris/v1/model.onnx, examples: models/iris/v1/examples.json}\n"
        'stages:\n  dev: {serve: {"*": newest}}\n'
    )
    return manifest


def test_packages_are_next_to_the_manifest_and_built_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "--here", "--manifest", str(project), "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert [package["name"] for package in first] == ["layer_here_python", "iris_v1", "router"]
    assert {Path(package["path"]).parent for package in first} == {project.parent / ".turnout/packages"}
    assert main(["build", "--here", "--manifest", str(project)]) == 0
    reported = capsys.readouterr()
    assert "3 packages" in reported.out
    assert "0 built, 3 unchanged" in reported.out
    assert reported.err == ""


def test_a_layer_that_cannot_be_built_is_reported(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(project.parent / "empty-cache"))
    assert main(["build", "--here", "--manifest", str(project)]) == 1
    assert capsys.readouterr().err.startswith("turnout: cannot build the layer: ")


def test_sizes_are_compared_with_lambdas_limits_and_equal_notes_are_shown_once(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    mega = 1024 * 1024
    layer = BuiltPackage("layer_arm64", "layer", tmp_path, "a" * 64, 25 * mega, 70 * mega, cached=True, notes=("slow",))
    large = BuiltPackage(
        "a_v1", "function", tmp_path, "b" * 64, 60 * mega, 200 * mega, cached=False, notes=("slow",), layer=layer.name
    )
    say_built((layer, large), tmp_path)
    reported = capsys.readouterr()
    entry = next(line for line in reported.out.splitlines() if line.startswith("a_v1")).split("  ")
    assert [cell.strip() for cell in entry if cell.strip()] == [
        "a_v1", "built", "60.0 MB", "120% OVER", "200.0 MB", "270.0 MB", "108% OVER", "b" * 12,
    ]  # fmt: skip
    assert reported.err == "note: 2 packages: slow\n"

"""Python versions in zips and layers, opened with exactly what they get there."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.builders.python_project import PREDICT, write_python_project
from tests.builders.shared_layers import shared_layers
from turnout.packaging.build import BuildTarget, BuiltPackage, build_packages
from turnout.packaging.transform_imports import ImportsReport, check_transform_imports
from turnout.project.project import load_project


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose installed packages are kept between tests."""
    return write_python_project(tmp_path_factory.mktemp("python"))


@pytest.fixture(scope="module")
def built(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, BuiltPackage]:
    with shared_layers(folder / "out", tmp_path_factory) as out:
        packages = build_packages(load_project(folder), out=out, target=BuildTarget(python=""))
    return {package.name: package for package in packages}


def names_of(package: BuiltPackage) -> set[str]:
    with zipfile.ZipFile(package.path) as archive:
        return set(archive.namelist())


def test_a_zip_contains_the_folder_the_runtime_and_its_bytecode(built: dict[str, BuiltPackage]) -> None:
    names = names_of(built["echo_v2"])
    assert {name for name in names if name.startswith("model/") and not name.endswith(".pyc")} == {
        "model/predict.py",
        "model/helper.py",
        "model/factor.json",
        "model/notes/about.txt",
    }
    assert any(name.startswith("model/__pycache__/predict.") for name in names)
    assert any(name.startswith("model/__pycache__/helper.") for name in names)
    assert "model_lambdas/python_model/predictor.py" in names
    assert not any(name.startswith("model_lambdas/onnx_model/") for name in names)
    assert not any(name.startswith("model_lambdas/python_model/") for name in names_of(built["echo_v1"]))
    with zipfile.ZipFile(built["echo_v2"].path) as archive:
        fields = json.loads(archive.read("function.json"))
    assert (fields["opener"], fields["artifact"]) == ("python_model.predictor", "model/predict.py")
    assert fields["signature"]["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]


def test_each_runtime_has_its_own_layer(built: dict[str, BuiltPackage]) -> None:
    assert built["echo_v2"].layer == built["echo_v3"].layer != built["echo_v1"].layer
    layer = names_of(built[built["echo_v2"].layer])
    assert any(name.startswith("python/numpy/") for name in layer)
    assert any(name.startswith("python/orjson/") for name in layer)
    # SciPy runs `from numpy import *`, which imports every public module.
    modules = [made for made in (getattr(np, name) for name in np.__all__) if isinstance(made, ModuleType)]
    site = Path(np.__file__).parents[1]
    files = {f"python/{Path(str(made.__file__)).relative_to(site)}" for made in modules}
    assert "python/numpy/f2py/__init__.py" in files
    assert files - layer == set()
    assert not any(name.startswith("python/onnxruntime/") for name in layer)
    assert built["echo_v2"].notes == ()


def test_requirements_are_installed_into_a_layer_of_the_version(folder: Path, built: dict[str, BuiltPackage]) -> None:
    text = (folder / "models.yaml").read_text()
    (folder / "more.yaml").write_text(text.replace("v3/predict.py,", "v3/predict.py, requirements: [markupsafe],"))
    project = load_project(folder / "more.yaml")
    again = {
        build_package.name: build_package
        for build_package in build_packages(project, out=folder / "out", target=BuildTarget(python=""))
    }
    assert again["echo_v2"].path == built["echo_v2"].path
    assert again["echo_v2"].cached
    assert any("/markupsafe/" in name for name in names_of(again[again["echo_v3"].layer]))


def check(folder: Path, source: str = PREDICT, more: str = "") -> ImportsReport:
    path = folder / "models/echo/v3/predict.py"
    path.write_text(source)
    text = (folder / "models.yaml").read_text()
    manifest = folder / "checked.yaml"
    manifest.write_text(text.replace("v3/predict.py,", f"v3/predict.py, {more}"))
    try:
        return check_transform_imports(load_project(manifest))
    finally:
        path.write_text(PREDICT)


def test_valid_versions_have_no_problem(folder: Path) -> None:
    assert check(folder) == ImportsReport((), ())


@pytest.mark.parametrize(
    ("source", "place", "message", "hint"),
    [
        (
            "import markupsafe\n",
            "artifact",
            "predict.py imports `markupsafe`, which is neither a file next to it nor one of its packages",
            "Add to echo v3: requirements: [markupsafe",
        ),
        (
            "def later():\n    import jinja2\n",
            "artifact",
            "predict.py imports `jinja2`, which is neither a file next to it nor one of its packages",
            "Add to echo v3: requirements: [jinja2",
        ),
        ("raise RuntimeError('no')\n", "artifact", "predict.py cannot be run: RuntimeError: no", ""),
        (
            "def load(folder):\n    open(folder / 'gone')\n",
            "artifact",
            "`load` of predict.py failed: FileNotFoundError",
            "",
        ),
        ("def predict(inputs):\n    return inputs.nothing\n", "artifact", "predict fails: AttributeError", ""),
        (
            "def predict(inputs):\n    return {'y': inputs['x'].astype('f8')}\n",
            "signature",
            "predict returned FP64 for `y`, declared FP32",
            "Change `predict`, or the signature.",
        ),
    ],
)
def test_what_would_fail_on_lambda_is_a_problem_with_its_place(
    folder: Path, source: str, place: str, message: str, hint: str
) -> None:
    head = "def load(folder):\n    pass\ndef predict(inputs):\n    return {'y': inputs['x']}\n"
    report = check(folder, head + source)
    (problem,) = report.problems
    assert problem.path == ("models", "echo", "versions", "v3", place)
    assert message in problem.message
    assert problem.hint.startswith(hint)


def test_generated_values_may_be_rejected(folder: Path) -> None:
    head = "def load(folder):\n    pass\n"
    for body in ("raise ValueError('no')", "raise OSError('no')"):
        assert check(folder, f"{head}def predict(inputs):\n    {body}\n").problems == ()


def test_a_first_example_must_work(folder: Path) -> None:
    output = {"name": "y", "shape": [1, 4], "datatype": "FP32", "data": [0, 0, 0, 0]}
    example = {"name": "one", "request": {"inputs": {"x": [[-1, 0, 0, 0]]}}, "response": {"outputs": [output]}}
    (folder / "examples.json").write_text(json.dumps([example]))
    (problem,) = check(folder, more="examples: examples.json, ").problems
    assert problem.message == "its first example is refused: -1 is refused"

"""Transforms imported with what their versions get, without this machine's packages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.graphs import write_identity
from turnout.cli.__main__ import main
from turnout.packaging import transform_imports
from turnout.packaging.layer import LayerError
from turnout.packaging.transform_imports import ImportsReport, check_transform_imports, package_of
from turnout.project.project import load_project

STEP = "def preprocess(inputs):\n    return inputs\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose packages, installed for the transforms, are kept between tests."""
    result = tmp_path_factory.mktemp("imports")
    (result / "v1").mkdir()
    write_identity(result / "v1" / "model.onnx")
    return result


@pytest.fixture(autouse=True)
def nothing_beside(folder: Path) -> Iterator[None]:
    yield
    for path in folder.glob("v1/*.py"):
        path.unlink()


def write(folder: Path, source: str, more: str = "", **files: str) -> None:
    (folder / "v1" / "t.py").write_text(source + STEP)
    for name, text in files.items():
        (folder / "v1" / f"{name}.py").write_text(text)
    (folder / "models.yaml").write_text(
        f"models:\n  m:\n    versions:\n      v1: {{artifact: v1/model.onnx, transform: v1/t.py{more}}}\n"
        "stages: {dev: {serve: {m: v1}}}\n"
    )


def check(folder: Path) -> ImportsReport:
    return check_transform_imports(load_project(folder / "models.yaml"))


@pytest.mark.parametrize(
    "source",
    [
        "",
        "import numpy, orjson, json\nfrom turnout.protocol.errors import Refused\n",
        "import helper\nfrom . import helper as again\n",
        "def later():\n    import helper, numpy, json.decoder\n    from .helper import x\n",
        "try:\n    import jinja2\nexcept ImportError:\n    jinja2 = None\n",
        "def later():\n    try:\n        import jinja2\n    except ImportError:\n        pass\n",
        "print('loud')\n",
        "import os\nassert 'HOME' not in os.environ\n",
    ],
)
def test_a_transform_with_all_of_its_imports_is_valid(folder: Path, source: str) -> None:
    write(folder, source, helper="x = 1\n")
    assert check(folder) == ImportsReport((), ())


@pytest.mark.parametrize(
    "source",
    [
        "import jinja2\n",
        "from jinja2 import Template\n",
        "import helper\n",
        "def later():\n    if True:\n        import jinja2.sandbox\n",
    ],
)
def test_a_missing_module_is_a_problem_with_the_line_to_add(
    folder: Path, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, source, helper="import jinja2\n")
    (problem,) = check(folder).problems
    assert str(problem).startswith(f"{folder}/models.yaml:4:")
    assert "models.m.versions.v1.transform: t.py imports `jinja2" in str(problem)
    assert f"Add to m v1: requirements: [{package_of('jinja2')}]" in problem.hint
    assert main(["validate", "-m", str(folder)]) == 2
    assert "requirements: [jinja2" in capsys.readouterr().err
    assert main(["build", "-m", str(folder)]) == 2


def test_a_module_that_layers_leave_out_is_a_problem(folder: Path) -> None:
    """As on Lambda: otherwise a version passes the check, and cannot be opened there."""
    write(folder, "import numpy._pyinstaller\n")
    (problem,) = check(folder).problems
    assert "t.py imports `numpy._pyinstaller`" in str(problem)


def test_requirements_of_a_version_are_installed(folder: Path) -> None:
    write(folder, "import markupsafe\n", ", requirements: [markupsafe>=3]")
    assert check(folder) == ImportsReport((), ())


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("raise ValueError('no weights')\n", "ValueError: no weights"),
        ("import os\nos._exit(3)\n", "ended with status 3"),
        ("raise SystemExit(4)\n", "SystemExit: 4"),
        ("from helper import nothing\n", "cannot import name 'nothing' from 'helper'"),
    ],
)
def test_a_transform_that_cannot_be_imported_is_a_problem(folder: Path, source: str, text: str) -> None:
    write(folder, source, helper="")
    (problem,) = check(folder).problems
    assert "t.py cannot be imported: " in problem.message
    assert text in problem.message
    assert "_turnout_" not in problem.message


def test_a_transform_that_hangs_is_a_problem(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, "import time\ntime.sleep(600)\n")
    monkeypatch.setattr(transform_imports, "PATIENCE_S", 2.0)
    assert "did not end within 2 s" in check(folder).problems[0].message


def test_without_installable_packages_there_is_a_note(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise LayerError("no index within reach")

    monkeypatch.setattr(transform_imports, "resolve_requirements", fail)
    write(folder, "", ", requirements: [markupsafe>=3.0]")
    result = check(folder)
    assert result.problems == ()
    assert "markupsafe>=3.0 cannot be installed: no index within reach" in result.notes[0]


@pytest.mark.parametrize(
    ("module", "package"), [("cv2", "opencv-python-headless"), ("nowhere_at_all", "nowhere_at_all")]
)
def test_packages_are_named_as_in_the_index(module: str, package: str) -> None:
    assert package_of(module) == package
    assert package_of("numpy.linalg").startswith("numpy==")

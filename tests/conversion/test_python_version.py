"""`turnout add --runtime python`, with a real estimator of a custom class, its real packages and Lambda's limits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import write_project
from tests.conversion.conftest import environment
from tests.conversion.test_python_code import OWN, job_of
from turnout.artifacts.examples import Tolerance
from turnout.cli.__main__ import main
from turnout.conversion.converters import sklearn_model
from turnout.conversion.errors import ConversionError
from turnout.conversion.python_version import check_converter, prove_python
from turnout.conversion.registry import CONVERTERS
from turnout.project.project import load_project

TRAIN = """
import sys
import numpy as np, skops.io, own_estimators
x = np.random.default_rng(0).normal(size=(50, 3))
skops.io.dump(own_estimators.Capped().fit(x, None), sys.argv[1])
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(tmp_path_factory.mktemp("python") / "project")


@pytest.fixture(scope="module")
def trained(project: Path) -> Path:
    """Return a folder with model.skops and own_estimators.py."""
    environment("sklearn")
    folder = project.parent / "train"
    folder.mkdir()
    (folder / "own_estimators.py").write_text(OWN)
    subprocess.run([sys.executable, "-c", TRAIN, str(folder / "model.skops")], cwd=folder, check=True)
    return folder


def test_estimator_of_a_custom_class_is_served_by_its_library(
    project: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["add", "sums", "v1", str(trained / "model.skops"), "--runtime", "python", "-m", str(project)]
    own = ["--trust", "own_estimators.Capped", "--module", str(trained / "own_estimators.py")]
    assert main([*command, *own]) == 0
    printed = capsys.readouterr().out
    assert "all agree" in printed
    assert "of Lambda's 250 MB: scipy " in printed
    version = load_project(project).manifest.model("sums").version("v1")
    assert (version.runtime, version.artifact) == ("python", "models/sums/v1/predict.py")
    assert [name.partition("==")[0] for name in version.requirements] == ["scikit-learn", "skops"]
    assert all("==" in name for name in version.requirements)
    assert version.source is not None
    assert version.source.converter == "sklearn"
    assert json.loads((project / version.source.report).read_text())["proof"]["rows"] >= 200
    assert main(["test", "sums", "-m", str(project)]) == 0


def test_python_code_with_other_answers_is_rejected(project: Path, trained: Path, tmp_path: Path) -> None:
    job = job_of(
        trained / "model.skops",
        tmp_path,
        modules=[str(trained / "own_estimators.py")],
        trusted_types=["own_estimators.Capped"],
    )
    done = sklearn_model.main(job, lambda _: None)
    code = tmp_path / "python" / "predict.py"
    code.write_text(code.read_text().replace("predict(table)", "predict(table.round(2))"))
    imports = project / ".turnout" / "imports"
    made = prove_python(tmp_path, done, (), Tolerance(relative=1e-4), imports, seconds=120)
    assert not made.proof.holds
    assert made.proof.disagreeing_rows > 100
    code.write_text("import nowhere\n" + code.read_text())
    with pytest.raises(ConversionError, match="No module named 'nowhere'") as caught:
        prove_python(tmp_path, done, (), Tolerance(relative=1e-4), imports, seconds=120)
    assert "--requirement" in caught.value.hint


def test_code_is_generated_only_for_known_libraries() -> None:
    assert check_converter(CONVERTERS["sklearn"], "model.skops") is CONVERTERS["sklearn"]
    with pytest.raises(ConversionError, match="writes no Python code for XGBoost"):
        check_converter(CONVERTERS["xgboost"], "model.ubj")
    with pytest.raises(ConversionError, match="is an ONNX file, which needs no Python"):
        check_converter(None, "model.onnx")

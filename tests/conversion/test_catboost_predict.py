"""The predict.py of CatBoost's models answers like CatBoost, which is not imported here."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import write_project
from tests.conversion.conftest import Trained
from tests.conversion.test_python_code import check
from turnout.cli.__main__ import main
from turnout.conversion.converters.served.catboost_predict import city_hash
from turnout.project.project import load_project

HASHES = {"Oslo": -34516710, "Rom": -1591529882, "São Paulo": 607502683}
"""Categories and the hashes that CatBoost 1.2.10 saved."""


def test_categories_have_the_hashes_of_catboost() -> None:
    assert {text: city_hash(text.encode()) & 0xFFFFFFFF for text in HASHES} == {
        text: number % 2**32 for text, number in HASHES.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["multiclass", "binary", "each", "counts", "variance", "halves", "lossguide"])
def test_trees_answer_like_catboost(name: str, trained: Trained) -> None:
    result: Any = trained("catboost")[f"python-{name}"]
    assert "error" not in result, result
    groups = {group["name"] for group in result["groups"]}
    assert name == "lossguide" or {"samples", "unseen categories", "missing values"} <= groups
    check(Path(result["out"]), result["signature"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["categories", "two-targets", "lossguide"])
def test_rejected_model_names_the_command_that_serves_it(name: str, trained: Trained) -> None:
    hint = str(trained("catboost")[name]["hint"])
    assert f"turnout add MODEL VERSION {name}.cbm --runtime python" in hint
    assert ("--samples" in hint) == (name == "categories")


@pytest.mark.slow
def test_model_with_categories_becomes_a_version(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(str(trained("catboost")["python-multiclass"]["out"])).parent
    project = write_project(tmp_path / "project")
    command = ["add", "sizes", "v1", str(folder / "python-multiclass.cbm"), "-m", str(project)]
    assert main(command) == 2
    printed = capsys.readouterr().err
    assert "has categories (city, floor), which CatBoost's ONNX export leaves out" in printed
    words = shlex.split(printed.splitlines()[-1])
    assert words == ["turnout", *command[:4], "--runtime", "python", *command[4:], "--samples", "rows.csv"]
    assert main([*command, "--runtime", "python"]) == 2
    assert "does not name the categories of city, floor" in capsys.readouterr().err
    samples = ["--samples", str(folder.parent / "catboost-rows.csv")]
    assert main([*command, *samples]) == 2
    words = shlex.split(capsys.readouterr().err.splitlines()[-1])
    assert words == ["turnout", *command[:4], "--runtime", "python", *samples, *command[4:]]
    assert main(words[1:]) == 0
    assert "all agree" in capsys.readouterr().out
    version = load_project(project).manifest.model("sizes").version("v1")
    assert (version.runtime, version.requirements) == ("python", ())
    assert version.signature is not None
    inputs = {tensor.name: tensor.datatype for tensor in version.signature.inputs}
    assert inputs == {"city": "BYTES", "floor": "BYTES", "size": "FP32"}
    assert main(["test", "sizes", "-m", str(project)]) == 0

from __future__ import annotations

import json
from pathlib import Path

import pytest

from turnout.cli.__main__ import main


def test_a_valid_project_is_ok_with_its_counts(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "-m", str(project)]) == 0
    assert capsys.readouterr() == (f"{project}/models.yaml: ok: 1 model, 2 versions, 2 stages.\n", "")


def test_a_valid_project_as_json(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "-m", str(project), "--json"]) == 0
    reported = json.loads(capsys.readouterr().out)
    assert reported == {"ok": True, "problems": [], "notes": [], "models": 1, "versions": 2, "stages": 2}


def break_twice(project: Path) -> None:
    path = project / "models.yaml"
    path.write_text(path.read_text().replace("{echo: v1}", "{echo: v9}").replace("rate: 100", "rate: fast"))


def test_all_problems_are_reported_with_their_places(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    break_twice(project)
    assert main(["validate", "-m", str(project)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "models.yaml:13:" in err
    assert "stages.prod.throttle.rate" in err
    assert err.endswith("turnout: 2 problems found.\n")


def test_problems_as_json_are_printed_to_standard_output(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    break_twice(project)
    assert main(["validate", "-m", str(project), "--json"]) == 2
    out, err = capsys.readouterr()
    reported = json.loads(out)
    assert (reported["ok"], err) == (False, "")
    assert [(problem["path"], problem["line"]) for problem in reported["problems"]] == [
        (["stages", "prod", "serve", "echo"], 13),
        (["stages", "prod", "throttle", "rate"], 16),
    ]
    assert all(problem["source"].endswith("models.yaml") and problem["message"] for problem in reported["problems"])


def test_a_key_without_an_effect_yet_is_noted(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = project / "models.yaml"
    path.write_text(path.read_text().replace("v2/model.onnx}", "v2/model.onnx, warm: {provisioned: 2}}"))
    assert main(["validate", "-m", str(project)]) == 0
    out, err = capsys.readouterr()
    assert "ok" in out
    assert err.startswith("note: models.echo.versions.v2.warm")

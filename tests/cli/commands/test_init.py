from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from turnout import __version__
from turnout.cli.__main__ import main
from turnout.project.project import load_project


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_new_project_is_complete_and_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "deep" / "my-models"
    assert main(["init", str(folder)]) == 0
    assert f"cd {folder}\n    turnout serve\n" in capsys.readouterr().out
    assert files_of(folder) == {
        ".gitignore",
        "Pulumi.yaml",
        "README.md",
        "infra/__main__.py",
        "models.yaml",
        "models/iris/v1/examples.json",
        "models/iris/v1/model.onnx",
        "models/iris/v2/examples.json",
        "models/iris/v2/model.onnx",
        "requirements.txt",
        "schemas/models.schema.json",
    }
    project = load_project(folder)
    assert set(project.artifacts) == {("iris", "v1"), ("iris", "v2")}
    assert ".turnout/" in (folder / ".gitignore").read_text().splitlines()


def test_a_new_project_records_the_version_that_made_it(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    assert main(["init", str(folder)]) == 0
    lines = (folder / "requirements.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [f"turnout[aws]=={__version__}"]


def test_an_empty_folder_and_a_fresh_repository_are_accepted(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    assert main(["init", str(tmp_path)]) == 0
    assert (tmp_path / "models.yaml").is_file()


def test_a_folder_with_files_is_rejected_and_unchanged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["init", str(tmp_path)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert files_of(tmp_path) == {"notes.txt"}


def test_force_adds_missing_files_and_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "models.yaml").write_text("mine")
    assert main(["init", str(tmp_path), "--force"]) == 0
    out, err = capsys.readouterr()
    assert err == f"kept {tmp_path}/models.yaml\n"
    assert "Created 10 files" in out
    assert (tmp_path / "models.yaml").read_text() == "mine"


def test_the_current_folder_needs_no_cd(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "."]) == 0
    assert capsys.readouterr().out == "Created 11 files in the current folder. Next:\n\n    turnout serve\n"


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_file_in_place_of_a_folder_is_rejected(
    force: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    assert main(["init", str(tmp_path / "file"), *force]) == 2
    assert "is a file" in capsys.readouterr().err


def test_a_failure_halfway_leaves_nothing_and_names_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mine"
    (folder / "models" / "iris" / "v2").mkdir(parents=True)
    (folder / "models" / "iris" / "v1").touch()  # a file where a folder must be
    assert main(["init", str(folder), "--force"]) == 1
    assert f"{folder}/models/iris/v1" in capsys.readouterr().err
    assert files_of(folder) == {"models/iris/v1"}


LIMITED = """
import resource, sys
from turnout import __version__
from turnout.cli.__main__ import main
before = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))  # files may grow to this, as on a disk that is nearly full
code = main(["init", sys.argv[1]])
resource.setrlimit(resource.RLIMIT_FSIZE, before)
sys.exit(code)
"""


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "mine")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"turnout: {tmp_path}/mine/schemas/models.schema.json: File too large\n"
    assert list(tmp_path.iterdir()) == []

"""`turnout plan --against` in a real repository, whose working tree stays unchanged."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.builders.graphs import write_scaled
from turnout.cli.__main__ import main

GIT = shutil.which("git") or "git"


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Ana", "-c", "user.email=ana@example.com")
    done = subprocess.run([GIT, "-C", str(folder), *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def repository(project: Path) -> Path:
    """The project, committed below the root of a repository, with an uncommitted edit."""
    git(project.parent, "init", "-q", "-b", "main")
    (project / ".gitignore").write_text(".turnout/\n")
    git(project, "add", "-A", ".")
    git(project, "commit", "-q", "-m", "first")
    return project


def edit(project: Path, before: str, after: str) -> None:
    path = project / "models.yaml"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def against(project: Path, *arguments: str) -> int:
    return main(["plan", "-m", str(project), "--against", "main", *arguments])


def test_a_change_is_described_and_the_working_tree_is_unchanged(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert against(repository) == 0
    assert capsys.readouterr().out == "Nothing changes compared with main.\n"
    edit(repository, "rate: 100", "rate: 10")
    status = git(repository, "status", "--porcelain")
    assert against(repository) == 0
    out = capsys.readouterr().out
    assert out.startswith("1 change compared with main, none breaks callers.\n")
    assert "- prod: the throttle changes from 100/s, burst 200 to 10/s, burst 200." in out
    assert git(repository, "status", "--porcelain") == status


def test_fail_on_determines_the_exit_code(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(repository, "rate: 100", "rate: 10")
    assert against(repository, "--fail-on", "breaking,cost") == 0
    assert against(repository, "--fail-on", "breaking, traffic") == 1
    assert against(repository, "--fail-on", "everything") == 2
    assert "Known kinds: breaking, disagreement, contract, traffic" in capsys.readouterr().err


def test_markdown_and_json(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(repository, "auth: api_key", "auth: iam")
    assert against(repository, "--markdown", "--fail-on", "breaking") == 1
    assert "### Breaking for callers\n" in capsys.readouterr().out
    assert against(repository, "--json") == 0
    changes = json.loads(capsys.readouterr().out)["changes"]
    assert {"kind": "breaking", "subject": "prod", "text": "`auth` changes from api\\_key to iam"} in changes or {
        "kind": "breaking", "subject": "prod", "text": "`auth` changes from api_key to iam"
    } in changes  # fmt: skip


def test_models_missing_in_git_are_read_from_the_working_tree(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    git(repository, "rm", "-q", "--cached", "-r", "models")
    git(repository, "commit", "-q", "-m", "models elsewhere")
    assert against(repository) == 0
    assert capsys.readouterr().out == "Nothing changes compared with main.\n"


@pytest.mark.parametrize(
    ("ref", "message"),
    [("nowhere", "unknown git revision 'nowhere'"), ("--output=x", "unknown git revision"), ("", "")],
)
def test_unknown_revision_is_rejected(
    repository: Path, ref: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["plan", "-m", str(repository), f"--against={ref}"])
    assert code == (2 if message else 0)
    assert message in capsys.readouterr().err
    assert not (repository / "x").exists()


def test_folder_without_git_is_rejected(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert against(project) == 2
    assert "is not in a git repository" in capsys.readouterr().err


def test_comparison_options_need_a_comparison(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-m", str(project), "--fail-on", "breaking"]) == 2
    assert "have no effect without --against" in capsys.readouterr().err


def capture(folder: Path, requests: int = 3) -> Path:
    """Write a capture of requests to echo."""
    path = folder / "capture.jsonl"
    body = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
    fields = {
        "time": 1.0, "stage": "prod", "model": "echo", "version": "v1", "canary": False,
        "content_type": "application/json", "body": body, "status": 200, "duration_ms": 1.0,
    }  # fmt: skip
    path.write_text(f"{json.dumps({'turnout_capture': fields})}\n" * requests)
    return path


@pytest.mark.slow
def test_both_versions_answer_captured_requests(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    requests = ("--requests", str(capture(tmp_path)))
    edit(repository, "serve: {echo: v1}\n    canary: {percent: 10, serve: {echo: v2}}", "serve: {echo: v2}")
    assert against(repository, *requests, "--fail-on", "disagreement") == 0
    line = "- echo: v2 instead of v1 in prod: 3 of 3 answers to captured requests agree (100%)."
    assert line in capsys.readouterr().out

    write_scaled(repository / "models" / "echo" / "v2" / "model.onnx", -1.0)
    assert against(repository, *requests, "--fail-on", "disagreement", "--markdown", "--cold-start") == 1
    out = capsys.readouterr().out
    assert "### Answers that differ\n" in out
    assert "- **echo: v2 instead of v1 in prod**: 0 of 3 answers" in out
    assert "### Cold starts, measured on this machine\n\n- **echo v2**: a first call in a fresh process takes" in out
    assert "v1, which it replaces, takes" in out
    assert against(repository, *requests, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    (agreement,) = [entry for entry in result["agreement"] if entry["before"] == "v1"]
    assert (agreement["compared"], agreement["agreed"], agreement["floor"]) == (3, 0, 1.0)
    assert "cold_starts" not in result


def test_unreadable_requests_are_rejected(repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "capture.jsonl"
    assert against(repository, "--requests", str(file)) == 2
    assert "cannot read" in capsys.readouterr().err
    file.write_text("nothing\n")
    assert against(repository, "--requests", str(file)) == 2
    assert "contains no captured requests" in capsys.readouterr().err
    file.write_text('{"turnout_capture": {}}\n')
    assert against(repository, "--requests", str(file)) == 2
    assert "line 1: cannot read the captured request" in capsys.readouterr().err
    assert against(repository, "--fail-on", "disagreement") == 2
    assert "Add --requests FILE." in capsys.readouterr().err
    assert main(["plan", "-m", str(repository), "--requests", str(file)]) == 2
    assert "Add --against REF." in capsys.readouterr().err

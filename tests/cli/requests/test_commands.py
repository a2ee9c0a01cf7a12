"""`turnout requests` on a queue that no server processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.builders.queued_requests import new_request
from turnout.cli.app import run
from turnout.gateway.requests import store
from turnout.gateway.requests.database import connect, transaction
from turnout.gateway.requests.rows import NewRequest, StoredAnswer
from turnout.protocol.requests import states


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Requests `waiting` and `failed` of the stage dev, and another `waiting` of prod."""
    (tmp_path / "models.yaml").write_text("models: {}\n")
    connection = connect(tmp_path / ".turnout" / "requests")
    failure = {"error": "the model failed", "code": "MODEL_FAILED", "details": {}}
    with transaction(connection):
        for stage, identifier in (("dev", "failed"), ("dev", "waiting"), ("prod", "waiting")):
            store.accept(connection, make_request(stage, identifier), 1 << 30)
        (claim,) = store.claim(connection, 1, 1.0, most=1, most_running=1, max_stored_bytes={})
        answer = StoredAnswer(500, failure=failure)
        store.finish(connection, claim, lambda progress: states.fail(progress, 2.0, is_final=True), answer, 2.0)
    connection.close()
    return tmp_path


def make_request(stage: str, identifier: str) -> NewRequest:
    return new_request(
        identifier, stage=stage, function="turnout-local_iris_v1", model="iris", path="/models/iris/inference"
    )


def state_of(project: Path, identifier: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert run(["requests", "show", identifier, "--stage", "dev", "-m", str(project)]) == 0
    return str(json.loads(capsys.readouterr().out)["state"])


def test_requests_are_listed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["requests", "list", "-m", str(project)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["ID", "STATE", "STAGE", "VERSION", "ATTEMPTS", "ACCEPTED", "REASON"]
    assert [line.split()[:3] for line in lines[1:]] == [
        ["waiting", "queued", "prod"],
        ["waiting", "queued", "dev"],
        ["failed", "failed", "dev"],
    ]
    assert lines[3].split()[-1] == "MODEL_FAILED"
    assert run(["requests", "list", "--state", "failed", "--json", "-m", str(project)]) == 0
    (failed,) = json.loads(capsys.readouterr().out)
    assert failed["error"] == {"error": "the model failed", "code": "MODEL_FAILED", "details": {}, "status": 500}
    assert run(["requests", "list", "--state", "done", "-m", str(project)]) == 0
    assert capsys.readouterr().out == "No requests found.\n"


def test_failed_request_is_redriven(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["requests", "redrive", "failed", "-m", str(project)]) == 0
    assert capsys.readouterr().out == "Queued request failed.\n"
    assert state_of(project, "failed", capsys) == "queued"
    assert run(["requests", "redrive", "failed", "-m", str(project)]) == 2
    assert capsys.readouterr().err == "turnout: request failed: cannot redrive a request that is queued.\n"


def test_all_failed_requests_are_redriven(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["requests", "redrive", "--all-failed", "-m", str(project)]) == 0
    assert capsys.readouterr().out == "Queued 1 request.\n"
    assert state_of(project, "failed", capsys) == "queued"
    assert run(["requests", "redrive", "-m", str(project)]) == 2


def test_waiting_request_is_canceled(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["requests", "cancel", "waiting", "-m", str(project)]) == 2
    assert "several stages have a request waiting: dev, prod." in capsys.readouterr().err
    assert run(["requests", "cancel", "/dev/requests/waiting", "-m", str(project)]) == 0
    assert capsys.readouterr().out == "Canceled request waiting.\n"
    assert state_of(project, "waiting", capsys) == "canceled"


@pytest.mark.parametrize("command", ["show", "cancel", "redrive"])
def test_unknown_request_is_an_error(project: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["requests", command, "nobody", "-m", str(project)]) == 2
    assert "there is no request nobody." in capsys.readouterr().err


def test_project_without_requests_gets_no_queue(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "models.yaml").write_text("models: {}\n")
    assert run(["requests", "list", "-m", str(tmp_path)]) == 2
    assert "this project has no asynchronous requests." in capsys.readouterr().err
    assert not (tmp_path / ".turnout").exists()


def test_secret_of_webhooks_stays_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "models.yaml").write_text("models: {}\n")
    assert run(["requests", "secret", "-m", str(tmp_path)]) == 0
    first = capsys.readouterr().out
    assert run(["requests", "secret", "-m", str(tmp_path)]) == 0
    assert capsys.readouterr().out == first
    assert len(first.strip()) == 64

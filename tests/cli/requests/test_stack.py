"""`turnout requests --stack`: the requests of a stack on AWS, simulated by moto's S3 and SQS."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.builders.aws_requests import IRIS, Deployment, FunctionError, aws_account, deploy, echo
from turnout.cli.app import run
from turnout.protocol.requests.webhooks import webhook_secret

MANIFEST = """
platform: turnout
models:
  iris: {versions: {v1: {artifact: iris.onnx}}}
stages:
  prod: {serve: {iris: v1}, async: {}}
"""


def failing(_event: Mapping[str, Any], _context: Any) -> dict[str, Any]:
    raise FunctionError("failed")


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    (tmp_path / "models.yaml").write_text(MANIFEST)
    monkeypatch.chdir(tmp_path)
    for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "REGION": "eu-west-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with aws_account() as opened:
        yield deploy(opened, max_attempts=1)


def test_dead_letters_are_listed_and_redriven(made: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    made.add(IRIS, failing)
    first, second = made.submit().json["id"], made.submit().json["id"]
    made.finish()
    assert len(made.dead_letters()) == 2
    assert run(["requests", "list", "--stack", "local", "--state", "failed"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines[1:]} == {first, second}
    assert all(line.split()[1:5] == ["failed", "prod", "iris", "v1"] for line in lines[1:])
    assert all(line.endswith("FUNCTION_FAILED") for line in lines[1:])
    made.add(IRIS, echo)
    assert run(["requests", "redrive", first, "--stack", "local"]) == 0
    assert capsys.readouterr().out == f"Queued request {first}.\n"
    assert made.dead_letters() == [{"stage": "prod", "id": second}]
    assert run(["requests", "redrive", "--all-failed", "--stack", "local"]) == 0
    assert capsys.readouterr().out == "Queued 1 request.\n"
    assert made.dead_letters() == []
    made.finish()
    assert made.state(first)["state"] == made.state(second)["state"] == "done"
    assert run(["requests", "redrive", first, "--stack", "local"]) == 2
    assert capsys.readouterr().err == f"turnout: request {first}: cannot redrive a request that is done.\n"


def test_requests_are_shown_and_canceled(made: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    identifier = made.submit().json["id"]
    assert run(["requests", "show", f"/prod/requests/{identifier}", "--stack", "local"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "queued"
    assert run(["requests", "cancel", identifier, "--stack", "local"]) == 0
    assert made.state(identifier)["state"] == "canceled"
    assert run(["requests", "show", "nobody", "--stack", "local"]) == 2
    assert "there is no request nobody." in capsys.readouterr().err.removeprefix(f"Canceled request {identifier}.")


def test_secret_command_prints_the_webhooks_secret(made: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["requests", "secret", "--stack", "local"]) == 0
    assert capsys.readouterr().out == f"{webhook_secret(made.store.load_secret())}\n"


def test_stack_without_a_queue_is_an_error(made: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["requests", "list", "--stack", "other"]) == 2
    assert "the stack other has no asynchronous requests." in capsys.readouterr().err

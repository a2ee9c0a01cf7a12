"""Replayed requests are not captured, sampled or counted, and other clients cannot send such requests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.builders.graphs import write_identity
from tests.builders.running_server import RunningServer, running_server
from turnout.canary.observation.samples import fetch_samples
from turnout.cli.__main__ import main
from turnout.replay.replay import replay_headers

MANIFEST = """\
models:
  level:
    versions: {v1: {artifact: same.onnx}, v2: {artifact: same.onnx}}
  split:
    versions: {v1: {artifact: same.onnx}, v2: {artifact: same.onnx}, v3: {artifact: same.onnx}}
    routing: {shadow: {version: v3, percent: 100}}
stages:
  dev: {serve: {level: v1}, weights: {split: {v1: 50, v2: 50}}}
  prod:
    serve: {level: v1, split: v1}
    canary: {percent: 50, serve: {level: v2}, agreement: {percent: 100, floor: 0.9}}
    auth: api_key
"""
REQUESTS = 20
BODY = {"instances": [[1, 2, 3, 4]]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("trace")
    write_identity(folder / "same.onnx")
    (folder / "models.yaml").write_text(MANIFEST)
    with running_server(folder, "--workers", "2", "--capture", str(folder / "capture.jsonl")) as running:
        yield running


def url_of(server: RunningServer) -> str:
    return f"http://127.0.0.1:{server.port}"


def captured(server: RunningServer) -> int:
    return (server.project / "capture.jsonl").read_bytes().count(b"\n")


def settle(server: RunningServer, lines: int) -> None:
    """Wait until this number of lines is captured, then long enough for another one to arrive, if there were any."""
    server.await_log(lambda _: captured(server) >= lines)
    before = len(server.stdout.read_text().splitlines())
    with server.client() as client:
        client.post("/nowhere/models/level/inference", BODY)  # reaches no function, so it is logged but not captured
    server.await_log(lambda text: len(text.splitlines()) > before)


def counted(server: RunningServer, stage: str) -> dict[tuple[str, bool], int]:
    response = server.request("GET", f"/turnout/metrics?stage={stage}").json()
    return {(function["function"], function["canary"]): sum(function["statuses"]) for function in response["functions"]}


@pytest.fixture(scope="module")
def asked(server: RunningServer) -> int:
    """Send some callers' requests; return how many lines they produce."""
    with server.client() as client:
        for stage in ("dev", "prod"):
            for _ in range(REQUESTS):
                answer = client.post(f"/{stage}/models/level/inference", BODY, x_api_key=server.api_key("prod"))
                assert answer.status == 200
    settle(server, 2 * REQUESTS)
    assert captured(server) == 2 * REQUESTS
    return 2 * REQUESTS


@pytest.mark.parametrize("stage", ["dev", "prod"])
@pytest.mark.parametrize("against", [("level/v2", "level/v1"), ("level/v2",)])
def test_a_replay_against_the_capturing_server_is_not_captured(
    stage: str, against: tuple[str, ...], server: RunningServer, asked: int, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch_samples(url_of(server), "prod")
    before, lines = counted(server, stage), captured(server)
    options = [word for version in against for word in ("--against", version)]
    arguments = ["replay", str(server.project / "capture.jsonl"), *options, "--stage", stage, "--url", url_of(server)]
    for _ in range(2):
        logged = server.stdout.read_text().count(f" /{stage}/models/level/v2/inference 200 ")
        assert main([*arguments, "-m", str(server.project)]) == 0
        assert "100.00% agree: " in capsys.readouterr().out
        # The access log still contains each of them.
        server.await_log(
            lambda text, before=logged: text.count(f" /{stage}/models/level/v2/inference 200 ") >= before + asked
        )
    settle(server, lines)
    assert captured(server) == lines
    assert counted(server, stage) == before
    assert fetch_samples(url_of(server), "prod") == []


def test_a_replayed_request_is_not_copied_to_the_shadow(server: RunningServer) -> None:
    headers = {"content-type": "application/json", **replay_headers(url_of(server))}
    with server.client() as client:
        for _ in range(REQUESTS):
            answer = client.request("POST", "/dev/models/split/inference", b'{"instances":[[1,2,3,4]]}', headers)
            assert answer.status == 200
    assert not any("split" in function for function, _ in counted(server, "dev"))


STRANGERS: list[dict[str, str]] = [{"x-turnout-replay": sent} for sent in ("1", "true", "", "a" * 32, "é")]


@pytest.mark.parametrize("headers", STRANGERS, ids=lambda headers: repr(headers["x-turnout-replay"]))
@pytest.mark.parametrize("path", ["/dev/models/level/inference", "/dev/models/level/v1/inference"])
def test_another_client_cannot_hide_a_request(path: str, headers: dict[str, str], server: RunningServer) -> None:
    lines, before = captured(server), sum(counted(server, "dev").values())
    sent = {"content-type": "application/json", **headers}
    latin = {name: value.encode() for name, value in sent.items()}
    with server.client() as client:
        assert client.request("POST", path, b"{bad", latin).status == 400  # type: ignore[arg-type]
    settle(server, lines + 1)
    assert captured(server) == lines + 1
    assert sum(counted(server, "dev").values()) == before + 1


@pytest.mark.parametrize(
    "headers", [{"x-forwarded-for": "10.0.0.7"}, {"origin": "https://example.com"}, {"host": "example.com"}]
)
def test_only_a_program_on_this_machine_can_read_the_replay_token(
    headers: dict[str, str], server: RunningServer
) -> None:
    answer = server.request("GET", "/turnout/replay", headers=headers)
    assert answer.status == 403
    assert b"mark" not in answer.body


def test_each_run_has_another_token(server: RunningServer, tmp_path: Path) -> None:
    def token(running: RunningServer) -> Any:
        return running.request("GET", "/turnout/replay").json()["mark"]

    assert {token(server) for _ in range(5)} == {token(server)}  # of all workers
    write_identity(tmp_path / "same.onnx")
    (tmp_path / "models.yaml").write_text(MANIFEST)
    with running_server(tmp_path, "--workers", "1") as other:
        assert token(other) != token(server)

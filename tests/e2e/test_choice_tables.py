"""Canaries of `turnout serve` with so many models that a stage's choices are in a table."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.builders.canary_commands import Commands
from tests.builders.graphs import write_identity
from tests.builders.running_server import RunningServer, running_server
from tests.builders.table_project import LONG, OLD, table_manifest

BODY = {"instances": [[1, 2, 3, 4]]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("tables")
    write_identity(folder / "same.onnx")
    (folder / "models.yaml").write_text(table_manifest("same.onnx"))
    with running_server(folder, "--no-access-log", "--workers", "2") as server:
        yield server


def served(server: RunningServer, model: str, requests: int = 12) -> set[str]:
    with server.client() as client:
        answers = [client.post(f"/prod/models/{model}/inference", BODY) for _ in range(requests)]
        pages = [client.request("GET", f"/prod/models/{model}").json()["serves"] for _ in range(2)]
    assert {answer.status for answer in answers} == {200}
    assert {share["version"] for page in pages for share in page} == {
        answer.headers["x-turnout-version"] for answer in answers
    }
    return {answer.headers["x-turnout-version"] for answer in answers}


def test_a_canary_moves_its_model_only_and_is_promoted(
    server: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    canary = Commands(server, capsys)
    before = canary.text()
    assert served(server, LONG[0]) == served(server, LONG[1]) == {OLD}
    canary("start", "prod", "--model", LONG[0], "--to", "v2", "--percent", "100", *canary.now)
    assert (served(server, LONG[0]), served(server, LONG[1])) == ({"v2"}, {OLD})
    assert served(server, "d7") == {"v1"}
    assert canary.status("prod")["warnings"] == []
    canary("set", "prod", "--percent", "0", *canary.now)
    assert served(server, LONG[0]) == {OLD}
    canary("promote", "prod", *canary.now)
    assert served(server, LONG[0]) == {"v2"}
    canary("rollback", "prod", "--to-previous", *canary.now)
    assert (served(server, LONG[0]), canary.status("prod")["warnings"]) == ({OLD}, [])
    assert canary.text() == before
    kept = list((server.project / ".turnout" / "choices" / "prod").glob("*.json"))
    assert sorted(json.loads(file.read_text())[LONG[0]] for file in kept) == [OLD, "v2"]

"""Pools of real models in `turnout serve`, in one process and isolated: the same answers, canaries included."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from model_lambdas.function.pool_log import end_call, make_called
from tests.builders.canary_commands import Commands
from tests.builders.isolated_project import share_packages
from tests.builders.markdown import read_blocks, run_in
from tests.builders.pool_project import MANIFEST, REQUEST, write_pool_project
from tests.builders.running_server import RunningServer, running_server
from turnout.cli.__main__ import main

JUDGED = MANIFEST.replace(
    "models:\n  iris", "defaults: {canary: {bake_minutes: 0.01, confidence: 0.8}}\nmodels:\n  iris"
)


@pytest.fixture(scope="module", params=[(), ("--isolated",)], ids=["one process", "isolated"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = write_pool_project(tmp_path_factory.mktemp("pools"), JUDGED)
    share_packages(folder, tmp_path_factory)
    with running_server(folder, "--workers", "1", *request.param) as running:
        yield running
        assert running.stop() == 0


def value(server: RunningServer, path: str) -> tuple[float, str, str]:
    answer = server.post(path, REQUEST)
    assert answer.status == 200, answer.body
    headers = answer.headers
    return answer.json()["outputs"][0]["data"][0], headers["x-turnout-model"], headers["x-turnout-version"]


def test_each_version_gives_its_own_answers(server: RunningServer) -> None:
    assert value(server, "/prod/models/iris/inference") == (1.5, "iris", "v1")
    assert value(server, "/prod/models/iris/v2/inference") == (202.5, "iris", "v2")
    assert value(server, "/prod/models/digits/inference") == (111.5, "digits", "v1")
    assert value(server, "/prod/models/digits/v2/inference") == (12.5, "digits", "v2")
    assert value(server, "/v2/models/iris/versions/v2/infer") == (202.5, "iris", "v2")
    assert value(server, "/prod/models/credit/inference") == (21.5, "credit", "v1")
    assert server.post("/prod/models/iris/v9/inference", REQUEST).status == 403
    assert server.post("/prod/models/iris/v1/inference", {"inputs": []}).status == 400


def test_health_and_metadata_include_pooled_versions(server: RunningServer) -> None:
    assert server.request("GET", "/prod/health/ready").json() == {"ready": True}
    assert server.request("GET", "/v2/models/iris/versions/v2/ready").json() == {"name": "iris", "ready": True}
    assert [entry["name"] for entry in server.request("GET", "/prod/models").json()["models"]] == [
        "iris",
        "digits",
        "credit",
    ]


def test_canary_between_two_versions_of_a_pool_is_judged_and_promoted(
    server: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    canary = Commands(server, capsys)
    canary("start", "prod", "--model", "iris", "--to", "v2", "--percent", "50", *canary.now)
    seen = {value(server, "/prod/models/iris/inference")[2] for _ in range(60)}
    assert seen == {"v1", "v2"}
    metrics = server.request("GET", "/turnout/metrics?stage=prod").json()
    counted = {(entry["function"], entry["canary"]): sum(entry["statuses"]) for entry in metrics["functions"]}
    assert counted["turnout-local_iris_v2", True] > 5
    assert counted["turnout-local_iris_v1", False] > 5
    assert value(server, "/prod/models/digits/inference")[2] == "v1"  # which the canary does not move
    canary("promote", "prod", *canary.now)
    assert {value(server, "/prod/models/iris/inference")[2] for _ in range(20)} == {"v2"}


def test_plan_and_validate_show_pools(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_pool_project(tmp_path / "project")
    assert main(["validate", "--manifest", str(folder / "models.yaml")]) == 0
    capsys.readouterr()
    assert main(["plan", "--manifest", str(folder / "models.yaml")]) == 0
    lines = capsys.readouterr().out.splitlines()
    header = next(line for line in lines if line.startswith("POOL"))
    assert header.split("  ")[0] == "POOL"
    entry = lines[lines.index(header) + 1].split()
    assert entry[:2] == ["small", "3"]
    assert entry[-1] == "$0.60"
    assert main(["plan", "--json", "--manifest", str(folder / "models.yaml")]) == 0
    assert json.loads(capsys.readouterr().out)["pools"][0]["function"] == "turnout-local_small_pool"
    text = (folder / "models.yaml").read_text()
    (folder / "models.yaml").write_text(text.replace("memory_mb: 512", "memory_mb: 128"))
    assert main(["plan", "--manifest", str(folder / "models.yaml")]) == 2
    assert "does not fit into the pool `small`" in capsys.readouterr().err


PAGE = Path(__file__).resolve().parents[2] / "docs" / "pools.md"


def test_page_shows_the_output_of_its_command(tmp_path: Path, root: Path) -> None:
    manifest, command, *_ = read_blocks(PAGE.read_text())
    (tmp_path / "models.yaml").write_text(manifest.text)
    (tmp_path / "models").symlink_to(root / "models")
    assert command.output is not None
    assert run_in(command, tmp_path, {"COLUMNS": "120"}).rstrip() == command.output.rstrip()


def test_page_shows_a_line_of_the_log_unchanged(capsys: pytest.CaptureFixture[str]) -> None:
    shown = next(json.loads(block.text) for block in read_blocks(PAGE.read_text()) if block.language == "json")
    context = SimpleNamespace(
        invoked_function_arn=f"arn:aws:lambda:eu-west-1:123456789012:function:{shown['Resource']}"
    )
    call = make_called({}, context, shown["Model"], shown["Version"], shown["digest"], 0.0)
    end_call(call, shown["status"], shown["duration_ms"], print, loaded=shown["loaded"])
    assert json.loads(capsys.readouterr().out) == shown

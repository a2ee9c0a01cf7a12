"""`turnout canary` against `turnout serve`: the same commands, boto3 calls and traffic as against AWS."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.aws_clients import aws_client
from tests.builders.canary_commands import Commands
from tests.builders.control_scene import COPIES, OVERRIDES, PERCENT, Operation, removing, replacing
from tests.builders.graphs import write_identity
from tests.builders.running_server import RunningServer, running_server
from tests.builders.waiting import PATIENCE_S

STAGES = (
    "life",
    "quiet",
    "teams",
    "drift",
    "cut",
    "stopped",
    "one",
    "back",
    "ended-rollback",
    "ended-promote",
    "ended-set",
    "boto3",
    "marked",
)
MANIFEST = f"""\
platform: shop
models:
  echo:
    versions:
      v1: {{artifact: same.onnx}}
      v2: {{artifact: same.onnx}}
      wide: {{artifact: wide.onnx}}
  mute: {{versions: {{v1: {{artifact: same.onnx}}, v2: {{artifact: same.onnx}}}}}}
defaults:
  canary: {{bake_minutes: 0.01, confidence: 0.8}}
stages:
{"".join(f"  {name}: {{serve: {{echo: v1, mute: v1}}}}  # {name}{chr(10)}" for name in STAGES)}
"""
BODY = {"instances": [[1, 2, 3, 4]]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("canary")
    write_identity(folder / "same.onnx")
    write_identity(folder / "wide.onnx", shape=("batch", 5))
    (folder / "models.yaml").write_text(MANIFEST)
    with running_server(folder, "--no-access-log", "--workers", "2") as server:
        yield server


def served(canary: Commands, stage: str, requests: int = 40) -> set[str]:
    """Return the versions that answered this number of requests."""
    with canary.server.client() as client:
        answers = [client.post(f"/{stage}/models/echo/inference", BODY) for _ in range(requests)]
    return {answer.headers["x-turnout-version"] for answer in answers}


@pytest.fixture
def canary(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(server, capsys)


def test_a_canary_from_start_to_promotion_affects_every_later_request(canary: Commands) -> None:
    before = canary.text()
    models = ("--model", "echo", "--to", "v2", "--model", "mute", "--to", "v2")
    said = canary("start", "life", *models, "--percent", "100", *canary.now)
    assert said.startswith("Started canary on life: echo v2 and mute v2 get 100% of requests (baseline v1, v1).\n")
    assert served(canary, "life") == {"v2"}
    canary("set", "life", "--percent", "0", *canary.now)
    assert served(canary, "life") == {"v1"}
    canary("promote", "life", "--model", "echo", *canary.now)
    assert served(canary, "life") == {"v2"}
    result = canary.status("life")
    assert result["canary"]["models"] == {"mute": {"baseline": "v1", "canary": "v2"}}
    assert result["warnings"] == []
    canary("promote", "life", *canary.now)
    assert canary.status("life")["warnings"] == []
    assert canary.text() == before.replace("life: {serve: {echo: v1, mute: v1}}", "life: {serve: {echo: v2, mute: v2}}")
    actions = [line.split()[4] for line in canary("history", "life").splitlines()[1:]]
    assert actions == ["start", "set", "promote", "promote"]
    rows = canary.history("life")
    assert rows[0]["from"] == {"echo": "v1", "mute": "v1"}


def test_models_of_several_teams_share_a_canary_and_end_separately(canary: Commands) -> None:
    before = canary.text()
    canary("start", "teams", "--model", "echo", "--to", "v2", "--percent", "100", *canary.now)
    said = canary("start", "teams", "--model", "mute", "--to", "v2", *canary.now)
    assert said.startswith("Started canary on teams: mute v2 gets 100% of requests (baseline v1).\n")
    models = {name: {"baseline": "v1", "canary": "v2"} for name in ("echo", "mute")}
    assert canary.status("teams")["canary"]["models"] == models
    assert served(canary, "teams") == {"v2"}
    said = canary("start", "teams", "--model", "mute", "--to", "v2", "--percent", "5", *canary.now, code=2)
    assert "turnout canary rollback teams --model mute" in said
    said = canary("rollback", "teams", "--model", "echo", *canary.now)
    assert said.startswith("Rolled back: teams serves echo v1 to all requests.\n")
    assert served(canary, "teams") == {"v1"}
    assert canary.status("teams")["canary"]["models"] == {"mute": models["mute"]}
    assert canary.status("teams")["warnings"] == []
    canary("rollback", "teams", "--model", "mute", *canary.now)
    assert canary.text() == before


def test_a_canary_without_traffic_keeps_its_share(canary: Commands) -> None:
    canary("start", "quiet", "--model", "echo", "--to", "v2", *canary.now)
    said = canary("run", "quiet", *canary.endpoint, code=1)
    assert "Stopped at 10%: inconclusive. errors: no requests" in said
    assert canary.status("quiet")["canary"]["percent"] == 10


def test_every_inconsistency_is_named(canary: Commands, tmp_path: Path) -> None:
    canary("start", "drift", "--model", "echo", "--to", "v2")
    assert "a canary in the manifest, but none in the live stage" in canary.status("drift")["warnings"]
    refused = canary("promote", "drift", *canary.now, code=2)
    assert "turnout: drift differs from the manifest: a canary" in refused
    outputs = tmp_path / "outputs.json"
    deployed = {"variables": {"echo": "v0", "mute": "v1", "alias": "live", "canary": "false"}, "canary": None}
    outputs.write_text(json.dumps({"stages": {"drift": deployed}}))
    said = canary("status", "drift", "--outputs", str(outputs))
    assert "- echo is v1 in the manifest, v0 in Pulumi's outputs\n" in said
    assert "- a canary in the manifest, but none in Pulumi's outputs\n" in said
    assert max(map(len, said.splitlines())) <= 80
    outputs.write_text("{}")
    assert "the outputs do not contain stage drift" in canary("status", "drift", "--outputs", str(outputs), code=2)
    canary("set", "drift", "--percent", "10", *canary.now)
    assert canary.status("drift")["warnings"] == []


def test_an_unreachable_stage_is_mended_later(canary: Commands) -> None:
    said = canary(
        "start", "cut", "--model", "echo", "--to", "v2", "--now", "--endpoint-url", "http://127.0.0.1:9", code=1
    )
    assert "http://127.0.0.1:9 cannot be reached" in said
    assert (
        canary("mend") == "Nothing to finish: no command was interrupted.\n"
    )  # the stage is queried before anything is started


KILLED = """
import os, signal, sys
from turnout.canary.rollout import rollout
from turnout.cli.__main__ import main
rollout.apply_change = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
main(sys.argv[1:])
"""


def test_a_killed_command_is_reported_and_mended(canary: Commands, server: RunningServer) -> None:
    arguments = ["canary", "start", "cut", "--model", "echo", "--to", "v2", "--percent", "100", "--now"]
    command = [sys.executable, "-c", KILLED, *arguments, *canary.endpoint, "-m", str(server.project)]
    assert subprocess.run(command, check=False, timeout=PATIENCE_S).returncode == -signal.SIGKILL
    assert served(canary, "cut") == {"v1"}
    assert "HALF-DONE" in canary("history", "cut")
    assert "was interrupted" in canary("start", "one", "--model", "echo", "--to", "v2", code=2)
    (warning, *_) = canary.status("cut")["warnings"]
    assert "is edited, and the stage may not be changed yet. Finish it with `turnout canary mend`" in warning
    assert canary("mend").startswith("Finished: Started canary on cut: echo v2 gets 100% of requests (baseline v1).")
    assert served(canary, "cut") == {"v2"}
    assert canary.status("cut")["warnings"] == []


def shares(canary: Commands, stage: str) -> set[tuple[str, str]]:
    """Return the version and `x-turnout-canary` of 40 answers."""
    with canary.server.client() as client:
        answers = [client.post(f"/{stage}/models/echo/inference", BODY) for _ in range(40)]
    return {(answer.headers["x-turnout-version"], answer.headers["x-turnout-canary"]) for answer in answers}


def test_canary_made_with_aws_tools_is_marked_and_its_promotion_by_copies_leaves_nothing_behind(
    canary: Commands, server: RunningServer
) -> None:
    stage = "boto3"
    with aws_client("apigateway", server.port) as client:
        (api,) = [item["id"] for item in client.get_rest_apis()["items"]]

        def update(*operations: Operation) -> None:
            client.update_stage(restApiId=api, stageName=stage, patchOperations=list(operations))

        # Only overrides, as set by a user who does not know Turnout.
        update(replacing(PERCENT, "100"), replacing(f"{OVERRIDES}/echo", "v2"))
        assert shares(canary, stage) == {("v2", "true")}
        update(removing("/canarySettings"))

        # Turnout's canary, promoted by AWS's documented copies.
        canary("start", stage, "--model", "echo", "--to", "v2", "--percent", "100", *canary.now)
        assert shares(canary, stage) == {("v2", "true")}
        update(replacing(PERCENT, "0.0"), *COPIES)
        update(removing("/canarySettings"))
        assert client.get_stage(restApiId=api, stageName=stage)["variables"]["canary"] == "true"
    assert shares(canary, stage) == {("v2", "false")}

    # Status names the difference, mend repairs it, and the next canary starts.
    assert any("marks every answer as the canary's" in warning for warning in canary.status(stage)["warnings"])
    assert "say where it is served" in canary("mend", stage, code=2)
    assert "Reset the stage variable `canary` of boto3 at http" in canary("mend", stage, *canary.endpoint)
    assert "Nothing to repair in" in canary("mend", stage, *canary.endpoint)
    assert not any("marks every answer" in warning for warning in canary.status(stage)["warnings"])
    canary("promote", stage)
    canary("start", stage, "--model", "mute", "--to", "v2", *canary.now)
    assert canary.status(stage)["warnings"] == []


def test_canary_starts_on_a_stage_with_a_marker_left_by_a_copy(canary: Commands, server: RunningServer) -> None:
    stage = "marked"
    with aws_client("apigateway", server.port) as client:
        (api,) = [item["id"] for item in client.get_rest_apis()["items"]]
        operations = [replacing("/variables/canary", "true")]
        client.update_stage(restApiId=api, stageName=stage, patchOperations=operations)
    assert shares(canary, stage) == {("v1", "false")}
    canary("start", stage, "--model", "echo", "--to", "v2", "--percent", "100", *canary.now)
    assert shares(canary, stage) == {("v2", "true")}
    canary("rollback", stage, *canary.now)
    assert shares(canary, stage) == {("v1", "false")}
    assert canary.status(stage)["warnings"] == []


def test_ctrl_c_leaves_the_canary_and_a_second_run_continues(canary: Commands, server: RunningServer) -> None:
    canary("start", "stopped", "--model", "echo", "--to", "v2", *canary.now)
    arguments = ["canary", "run", "stopped", "--steps", "30,70", "--bake", "100s", *canary.endpoint]
    command = [sys.executable, "-m", "turnout.cli", *arguments, "-m", str(server.project)]
    for begun in ("Canary run: 30%, 70%", "Resumed canary run: 30%, 70%"):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline(), process.stdout.readline()]  # the second line is from the first check
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
            process.wait()
        assert lines[0].startswith(begun)
        assert process.returncode == 130
        assert "The canary of stopped stays at 30%." in said
    assert canary.status("stopped")["canary"]["percent"] == 30
    assert canary("mend") == "Nothing to finish: no command was interrupted.\n"


def test_a_promotion_is_undone_with_the_command_that_rollback_suggests(canary: Commands) -> None:
    before = canary.text()
    canary("start", "back", "--model", "echo", "--to", "v2", *canary.now)
    canary("promote", "back", *canary.now)
    assert served(canary, "back") == {"v2"}
    promoted = canary.text()
    said = canary("rollback", "back", *canary.now, code=2)
    offer = said.strip().rpartition(": turnout canary ")[2].split()
    assert "back has no canary.\n    To return to echo v1, served before the promotion at " in said
    assert offer == ["rollback", "back", "--to-previous", *canary.now]
    assert (canary.text(), served(canary, "back")) == (promoted, {"v2"})
    assert canary(*offer).startswith("Rolled back: back serves echo v1 to all requests, instead of echo v2.\n")
    assert (canary.text(), served(canary, "back")) == (before, {"v1"})
    assert canary.status("back")["warnings"] == []
    assert [rollout["action"] for rollout in canary.history("back")] == ["start", "promote", "return"]
    assert "echo v2 > v1" in canary("history", "back")
    assert "no promotion of back to undo" in canary("rollback", "back", "--to-previous", *canary.now, code=2)


@pytest.mark.parametrize("move", ["rollback", "promote", "set"])
def test_a_run_ended_by_another_command_exits_with_1_as_its_help_says(
    move: str, canary: Commands, server: RunningServer
) -> None:
    stage = f"ended-{move}"
    canary("start", stage, "--model", "mute", "--to", "v2", *canary.now)
    arguments = ["canary", "run", stage, "--steps", "30,70", "--bake", "100s", *canary.endpoint]
    command = [sys.executable, "-m", "turnout.cli", *arguments, "-m", str(server.project)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Canary run: ")
        assert process.stdout.readline()
        canary(move, stage, *(("--percent", "20") if move == "set" else ()), *canary.now)
        _, said = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 1
    assert f"ran `turnout canary {move} {stage}` in the meantime" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["start", "one", "--model", "echo"], "Each --model needs a --to."),
        (
            ["start", "one", "--model", "echo", "--to", "v2", "--model", "echo", "--to", "v1"],
            "--model names the same model twice.",
        ),
        (["start", "one", "--model", "echo", "--to", "wide"], "`wide` is incompatible with `v1`"),
        (["start", "one", "--model", "echo", "--to", "v3"], "echo has no version v3"),
        (["start", "two", "--model", "echo", "--to", "v2"], "unknown stage two"),
        (["start", "one"], "the canary would change nothing"),
        (["start", "one", "--model", "echo", "--to", "v2", "--now"], "--now needs the address of the stage."),
        (["start", "one", "--model", "echo", "--to", "v2", "--stack", "x"], "have no effect without --now."),
        (["start", "one", "--release", "--now", "--stack", "x"], "--release cannot be combined with --now"),
        (["promote", "one"], "one has no canary"),
        (["rollback", "one"], "one has no canary"),
        (["set", "one", "--percent", "5"], "one has no canary"),
        (["set", "one", "--percent", "101"], "Invalid value for '--percent'"),
        (["run", "one"], "`turnout canary run` needs the address of the stage."),
        (["run", "one", "--steps", "5,5", "--stack", "x"], "--steps must be increasing percentages"),
        (["run", "one", "--steps", "100", "--stack", "x"], "--steps must be increasing percentages"),
        (["run", "one", "--bake", "soon", "--stack", "x"], "--bake must be a number with s, m or h"),
        (["status", "two"], "unknown stage two"),
        (["status", "one", "--endpoint-url", "127.0.0.1:8080"], "127.0.0.1:8080 is not an address such as http://"),
        (["status", "one", "--endpoint-url", "http://["], "--url: "),
        (["history", "two"], "unknown stage two"),
        (["status", "one", "--outputs", "models.yaml"], "models.yaml is not JSON"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_impossible_commands_are_rejected_and_change_nothing(
    canary: Commands, arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(canary.server.project)
    before = (canary.text(), canary("history", "--json"))
    assert sentence in canary(*arguments, code=2)
    assert (canary.text(), canary("history", "--json")) == before


def test_a_release_requires_its_prerequisites(canary: Commands) -> None:
    said = canary("start", "one", "--release", "--percent", "5")
    assert "`pulumi up` deploys the canary's code and routes." in said
    assert "(all)  as deployed  the new release" in canary("status", "one")
    assert "The next `pulumi up` moves the alias `live`" in canary("promote", "one")
    canary("start", "one", "--release")
    assert "would deploy them for all requests" in canary("rollback", "one")

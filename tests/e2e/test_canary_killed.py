"""Canary commands and runs that are killed at random moments: done, not done, or mended; nothing is lost or
half-applied.

tests/canary/rollout/test_rollout.py covers the whole grid of moments. This module uses real processes, a real file
system, and `turnout serve` with two workers.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.builders.aws_clients import aws_client
from tests.builders.canary_commands import Commands, traffic
from tests.builders.limits_project import BODIES, path_of, write_limits_project
from tests.builders.running_server import RunningServer, running_server
from tests.builders.waiting import PATIENCE_S
from turnout.cli.__main__ import run_and_exit

STAGES = """\
  killed: {serve: {step: v1, other: v1}}
  runs: {serve: {step: v1, other: v1}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("killed")
    write_limits_project(folder, STAGES)
    manifest = folder / "models.yaml"
    # A third of the requests suffices, so a busy machine answers enough of them. The canary is as fast and fails as
    # rarely as its baseline: no false alarm is likely.
    manifest.write_text(manifest.read_text().replace("confidence: 0.999", "confidence: 0.9"))
    with running_server(folder, "--no-access-log", "--workers", "2", "--preload") as running:
        yield running


@pytest.fixture
def canary(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(server, capsys)


@dataclass(frozen=True)
class Moment:
    """What is served after a command: versions of step and other, the canary's share and its version."""

    baseline: tuple[str, str]
    percent: float = 0.0
    overrides: tuple[tuple[str, str], ...] = ()


BOTH = (("other", "v2"), ("step", "v2"))
BACK = (("other", "v1"), ("step", "v1"))
LIFE = (
    ("start killed --model step --to v2 --model other --to v2 --percent 30", Moment(("v1", "v1"), 30, BOTH)),
    ("set killed --percent 60", Moment(("v1", "v1"), 60, BOTH)),
    ("promote killed --model other", Moment(("v1", "v2"), 60, BOTH[1:])),
    ("promote killed", Moment(("v2", "v2"))),
    ("start killed --model step --to v1 --percent 99.9", Moment(("v2", "v2"), 99.9, BACK[1:])),
    ("rollback killed", Moment(("v2", "v2"))),
    ("start killed --model step --to v1 --model other --to v1 --percent 5", Moment(("v2", "v2"), 5, BACK)),
    ("promote killed", Moment(("v1", "v1"))),
)
"""The steps of a canary, repeated: a command, and what is served after it."""

HALF_DONE = 2
MOST_KILLS = 20


def test_a_command_killed_at_any_moment_is_done_not_done_or_mended(
    canary: Commands, server: RunningServer, tmp_path: Path
) -> None:
    """Commands are killed at random moments of their effects, or when these start, until two were caught half-done. On
    a busy machine most attempts miss, so one must be enough.

    The effects are assumed to take as long as in the fastest completed command.
    """
    random_moment = random.Random(6)
    log, said = server.project / "rollouts.jsonl", tmp_path / "said"
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(
        ["boto3", "turnout.cli.__main__", "turnout.canary.rollout.rollout", "turnout.canary.observation.local"]
    )
    effects_s = PATIENCE_S
    half_done = done = 0
    for _ in range(MOST_KILLS):
        command, moment = LIFE[done % len(LIFE)]
        inode, text = inode_of(log), canary.text()
        arguments = ["canary", *command.split(), *canary.now, "-m", str(server.project)]
        process = processes.Process(target=run_command, args=(arguments, said))
        process.start()
        begun_s = await_first_write(process.is_alive, log, inode)
        if done:
            spin_until(begun_s + random_moment.uniform(0, 1.2) * effects_s)
            process.kill()
        process.join(PATIENCE_S)
        if process.exitcode == 0:
            effects_s = min(effects_s, time.monotonic() - begun_s)
        else:
            assert process.exitcode == -signal.SIGKILL, said.read_text()
        history = canary.history("killed")
        if len(history) == done:  # it was killed before it had started
            assert canary.text() == text
            continue
        if not history[-1]["done"]:
            half_done += 1
            assert "was interrupted" in canary("set", "killed", "--percent", "1", code=2)
            assert "Finish it with `turnout canary mend`" in canary.status("killed")["warnings"][0]
            assert canary("mend").startswith("Finished: ")
        done += 1
        assert served(server) == moment
        assert canary.status("killed")["warnings"] == []
        assert [rollout["done"] for rollout in canary.history("killed")] == [True] * done
        assert not list(server.project.glob(".*.turnout-*"))
        if half_done == HALF_DONE:
            break
    assert half_done > 0


def served(server: RunningServer) -> Moment:
    """Return the stage as API Gateway's own client sees it."""
    with aws_client("apigateway", server.port) as client:
        (api,) = client.get_rest_apis()["items"]
        stage = client.get_stage(restApiId=api["id"], stageName="killed")
    baseline = stage["variables"]["step"], stage["variables"]["other"]
    if "canarySettings" not in stage:
        return Moment(baseline)
    overrides = stage["canarySettings"]["stageVariableOverrides"]
    assert overrides.pop("canary") == "true"
    return Moment(baseline, stage["canarySettings"]["percentTraffic"], tuple(sorted(overrides.items())))


def run_command(arguments: list[str], output: Path) -> None:
    """Run `turnout` in its own process, with its output in a file."""
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    run_and_exit(arguments)


def inode_of(path: Path) -> int:
    return path.stat().st_ino if path.exists() else 0


def await_first_write(is_running: Callable[[], bool], log: Path, inode: int) -> float:
    """Wait until the process starts to write its record; return the time of that."""
    deadline = time.monotonic() + PATIENCE_S
    while inode_of(log) == inode and is_running():  # no pause: the kill must hit what follows
        assert time.monotonic() < deadline
    return time.monotonic()


def spin_until(moment_s: float) -> None:
    """Wait until a time of the monotonic clock, with microsecond precision."""
    while time.monotonic() < moment_s:
        pass


KILLS = (signal.SIGINT, signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGKILL)


def test_a_run_that_is_killed_repeatedly_is_promoted_in_the_end(canary: Commands, server: RunningServer) -> None:
    """The run is killed five times or, on a slow machine, until it has ended by itself."""
    random_moment = random.Random(6)
    canary("start", "runs", "--model", "step", "--to", "same", *canary.now)
    run = ["run", "runs", "--steps", "50,60", "--bake", "8s", *canary.endpoint, "-m", str(server.project)]
    command = [sys.executable, "-m", "turnout.cli", "canary", *run]
    path = path_of("runs")
    with traffic(server, path, BODIES, 0.002) as answers, traffic(server, path, BODIES, 0.002):
        for number, kill in enumerate((*KILLS, None)):
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            try:
                assert process.stdout is not None
                said = process.stdout.readline()
                begun = "Resumed canary run" if number else "Canary run"
                assert said.startswith(f"{begun}: 50%, 60%"), process.communicate()
                if kill is not None:
                    spin_until(time.monotonic() + random_moment.uniform(0, 2.5))
                    process.send_signal(kill)
                rest, _ = process.communicate(timeout=PATIENCE_S)
            finally:
                process.kill()
                process.wait()
            if process.returncode == 0:
                break
            assert kill is not None, rest
            assert process.returncode == {signal.SIGINT: 130, signal.SIGKILL: -signal.SIGKILL}[kill], rest
            assert canary("mend").startswith(("Nothing to finish: no command was interrupted.", "Finished: "))
    assert number > 0
    assert "Promoted: runs serves it to all requests." in rest
    assert {status for status, *_ in answers} == {200}
    assert [(rollout["action"], rollout["percent"]) for rollout in canary.history("runs")] == [
        ("start", 10),
        ("set", 50),
        ("set", 60),
        ("promote", 100),
    ]
    assert canary.status("runs")["warnings"] == []
    assert "  runs: {serve: {step: same, other: v1}}\n" in canary.text()

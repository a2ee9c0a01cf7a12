"""Canary runs that the console drives, on a real server: started, followed, stopped, resumed, ended by their
verdict.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.builders.echo_project import write_echo_project
from tests.builders.running_server import RunningServer, running_server
from tests.builders.waiting import wait_until
from tests.console.test_console import Browser, wish
from turnout.console.runs import RunFiles

MANIFEST = """\
platform: turnout
defaults:
  canary: {confidence: 0.8}
models:
  echo: # answers what it is sent
    versions:
      v1: {artifact: models/echo.onnx}
      v2: {artifact: models/echo.onnx}
      v3: {artifact: models/scaled.onnx}
stages:
  dev: {serve: {echo: v1}, canary: {percent: 20, serve: {echo: v2}}} # the first one
  worse: {serve: {echo: v1}, canary: {percent: 20, serve: {echo: v3}, agreement: {percent: 100, floor: 0.9}}}
  prod-eu: {serve: {echo: v1}, canary: {percent: 20, serve: {echo: v2}}}
  plain: {serve: {echo: v1}}
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    project = write_echo_project(tmp_path_factory.mktemp("runs"), MANIFEST, factor=-2.0)
    with running_server(project, "--workers", "2", "--no-access-log") as server:
        yield Browser(server)


def send(server: RunningServer, stage: str, count: int) -> None:
    with server.client() as client:
        for _ in range(count):
            client.post(f"/{stage}/models/echo/inference", {"instances": [[1.0, 2.0, 3.0, 4.0]]})


def run_of(browser: Browser, stage: str) -> Any:
    return browser.pulse()["runs"].get(stage)


def allowed(browser: Browser, stage: str) -> set[str]:
    result = next(candidate for candidate in browser.state()["stages"] if candidate["name"] == stage)
    return {action["action"] for action in result["actions"] if action["allowed"]}


def rollouts(browser: Browser, stage: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (browser.server.project / "rollouts.jsonl").read_text().splitlines()]
    return [entry for entry in rows if entry["stage"] == stage]


def test_a_run_is_stopped_resumed_and_promoted(browser: Browser) -> None:
    assert "run" in allowed(browser, "dev")
    start = wish(browser, "run", steps="30, 60", bake="600s")
    shown = browser.request("POST", "/preview", start).json()
    assert shown["sentence"].startswith("dev goes through 30%, 60%; at least 10 minutes per step;")
    assert "+" in shown["diff"]
    assert "percent: 30" in shown["diff"]
    url = f"http://127.0.0.1:{browser.server.port}"
    assert shown["command"] == f"turnout canary run dev --steps 30,60 --bake 600s --url {url}"
    assert shown["must_type"] is False

    done = browser.request("POST", "/act", start)
    assert done.status == 200, done.body
    assert done.json()["sentence"].startswith("Started canary run on dev: 30%, 60%;")
    run = run_of(browser, "dev")
    assert (run["is_driven"], run["step"], run["steps"], run["percent"]) == (True, 0, [30, 60], 30)
    assert allowed(browser, "dev") == {"start", "set", "promote", "rollback"}
    again = browser.request("POST", "/act", wish(browser, "run"))
    assert (again.status, again.json()["error"]) == (422, "a run of dev is in progress")

    stopped = browser.request("POST", "/stop-run", {"stage": "dev"})
    assert (stopped.status, stopped.json()["sentence"]) == (200, "Stopped the run. The canary stays at 30%.")
    run = run_of(browser, "dev")
    assert (run["is_driven"], run["is_over"], run["percent"]) == (False, False, 30)
    assert browser.request("POST", "/stop-run", {"stage": "dev"}).status == 422

    resume = wish(browser, "run", steps="30, 60", bake="600s")
    shown = browser.request("POST", "/preview", resume).json()
    assert shown["sentence"].startswith("the run continues at 30%:")
    assert (shown["diff"], shown["operations"]) == ("", [])
    sentence = browser.request("POST", "/act", resume).json()["sentence"]
    assert sentence.startswith("Resumed canary run on dev")
    assert browser.request("POST", "/stop-run", {"stage": "dev"}).status == 200

    # A busy machine sends enough requests for a verdict within three bakes.
    another = browser.request("POST", "/act", wish(browser, "run", steps="30, 60", bake="10s"))
    assert another.json()["sentence"].startswith("Started canary run on dev")

    def promoted() -> bool:
        send(browser.server, "dev", 200)
        return bool(rollouts(browser, "dev")[-1]["action"] == "promote")

    wait_until(promoted, lambda: f"the promotion: {run_of(browser, 'dev')}")
    wait_until(lambda: run_of(browser, "dev")["is_over"] and not run_of(browser, "dev")["is_driven"], "the run's end")
    assert run_of(browser, "dev")["ending"] == "Promoted: dev serves it to all requests."
    assert [rollout["percent"] for rollout in rollouts(browser, "dev")] == [30, 30, 60, 100]
    assert all(rollout["done"] for rollout in rollouts(browser, "dev"))
    assert "# the first one" in (browser.server.project / "models.yaml").read_text()


def test_a_run_whose_canary_disagrees_is_rolled_back(browser: Browser) -> None:
    started = browser.request("POST", "/act", wish(browser, "run", "worse", steps="40", bake="10s"))
    assert started.status == 200, started.body

    def ended() -> bool:
        send(browser.server, "worse", 20)
        return rollouts(browser, "worse")[-1]["action"] == "rollback"

    wait_until(ended, "the rollback")
    wait_until(lambda: not run_of(browser, "worse")["is_driven"], "the run's end")
    assert run_of(browser, "worse")["ending"].startswith("Rolled back: agreement of echo: 0% of ")
    assert allowed(browser, "worse") == {"start"}


def test_another_action_ends_the_run(browser: Browser) -> None:
    start = wish(browser, "run", "prod-eu", steps="30,60", bake="10m")
    assert browser.request("POST", "/preview", start).json()["must_type"] is True, "it promotes in production"
    assert browser.request("POST", "/act", start).status == 422
    assert browser.request("POST", "/act", {**start, "typed": "prod-eu"}).status == 200
    assert browser.request("POST", "/act", wish(browser, "rollback", "prod-eu")).status == 200
    wait_until(lambda: "start" in allowed(browser, "prod-eu"), "the run's end")
    wait_until(lambda: not RunFiles(browser.server.project / ".turnout" / "runs", "prod-eu").is_driven(), "its thread")
    noted = RunFiles(browser.server.project / ".turnout" / "runs", "prod-eu").noted()
    assert re.search(r"ran `turnout canary rollback prod-eu` in the meantime", noted["ending"])


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"steps": "50,5"}, 400, "`steps` must be increasing percentages"),
        ({"bake": "soon"}, 400, "`bake` must be a number with s, m or h"),
        ({"steps": [5]}, 400, "`steps` must be a string"),
        ({"stage": "plain"}, 422, "has no canary"),
        ({"stage": "nothing"}, 422, "nothing"),
        ({"generation": "old"}, 409, "has changed"),
    ],
)
def test_a_run_that_cannot_start_is_reported_with_the_reason(
    browser: Browser, change: dict[str, Any], status: int, words: str
) -> None:
    answer = browser.request("POST", "/act", {**wish(browser, "run", "plain", steps="5", bake="1s"), **change})
    assert (answer.status, words in answer.json()["error"]) == (status, True), answer.body
    assert not RunFiles(browser.server.project / ".turnout" / "runs", "plain").is_driven()


def test_the_system_releases_the_lock_when_its_process_dies(tmp_path: Path) -> None:
    files = RunFiles(tmp_path / "runs", "dev")
    assert not files.is_driven()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        files.lock()
        os.write(writer, b"x")
        time.sleep(600)  # killed before the sleep ends
        os._exit(1)
    assert os.read(reader, 1) == b"x"
    assert files.is_driven()
    assert files.lock() is None
    os.kill(child, 9)
    os.waitpid(child, 0)
    assert not files.is_driven()
    os.close(reader)
    os.close(writer)

"""A canary's judgement from the local gateway's counters: real processes, real requests, real inference."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.builders.graphs import write_identity
from tests.builders.running_server import RunningServer, running_server
from tests.builders.waiting import wait_until
from turnout.canary.judging.states import Check, Observation, Verdict, judge
from turnout.canary.observation.local import LocalSource
from turnout.manifest.judgement import Judgement
from turnout.plan.planner import make_plan
from turnout.plan.served_by import Watched, watched_of
from turnout.project.project import load_project

MANIFEST = """
platform: turnout
models:
  echo:
    versions:
      good: {artifact: models/echo.onnx}
      same: {artifact: models/echo.onnx}
      bad: {artifact: models/echo.onnx, transform: models/failing.py}
  guarded:
    versions:
      good: {artifact: models/echo.onnx}
      bad: {artifact: models/echo.onnx, transform: models/failing.py}
    routing: {fallback: good}
stages:
  fine: {serve: {"*": newest, echo: good}, canary: {percent: 50, serve: {echo: same}}}
  broken: {serve: {"*": newest, echo: good}, canary: {percent: 20, serve: {echo: bad}}}
  hidden: {serve: {"*": newest, guarded: good}, canary: {percent: 20, serve: {guarded: bad}}}
"""

FAILING = """
def preprocess(inputs):
    if inputs["x"][0, 0] > 0:
        raise RuntimeError("a positive number")
    return inputs
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    project = tmp_path_factory.mktemp("observed")
    (project / "models").mkdir()
    write_identity(project / "models" / "echo.onnx")
    (project / "models" / "failing.py").write_text(FAILING)
    (project / "models.yaml").write_text(MANIFEST)
    with running_server(project, "--workers", "2", "--no-access-log") as server:
        # A request that is not an inference does not count for the model.
        assert server.request("GET", "/fine/v2/models/echo/ready").status == 200
        yield server


def watched(project: Path, name: str) -> Sequence[Watched]:
    loaded = load_project(project / "models.yaml")
    plan = make_plan(loaded.manifest, loaded.artifacts)
    (stage,) = (stage for api in plan.apis for stage in api.stages if stage.name == name)
    assert stage.canary is not None
    return watched_of(plan, stage.variables, stage.canary.overrides)


def drive(server: RunningServer, stage: str, requests: int, model: str) -> Counter[tuple[str, int]]:
    """Send requests and return the answers by version and status; half of the requests contain a positive number."""
    seen: Counter[tuple[str, int]] = Counter()
    paths = f"/{stage}/models/{model}/inference", f"/{stage}/v2/models/{model}/infer"
    # The supervisor gives connections to the workers in turn.
    with server.client() as one, server.client() as other:
        for number in range(requests):
            entry = [float(number % 4 // 2), 0.0, 0.0, 0.0]
            tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": entry}
            answer = (one, other)[number % 2].post(paths[number % 5 == 0], {"inputs": [tensor]})
            seen[answer.headers["x-turnout-version"], answer.status] += 1
    return seen


def observed(
    server: RunningServer, stage: str, requests: int, model: str = "echo"
) -> tuple[Counter[tuple[str, int]], Observation]:
    """Return what callers and counters saw of the same requests; a request is counted shortly after its answer."""
    source, models = LocalSource(f"http://127.0.0.1:{server.port}"), watched(server.project, stage)
    start = source.start(stage, models)
    seen = drive(server, stage, requests, model)
    observation = source.observe(stage, models, start)

    def is_complete() -> bool:
        nonlocal observation
        observation = source.observe(stage, models, start)
        return observation.baseline.requests + observation.canary.requests == requests

    wait_until(is_complete, lambda: f"{requests} requests to be counted: {observation}")
    return seen, observation


def errors(observation: Observation) -> Check:
    return next(check for check in judge(Judgement(), observation) if check.name == "errors")


def test_counters_agree_with_what_the_callers_saw(server: RunningServer) -> None:
    seen, observation = observed(server, "broken", 600)
    assert (observation.baseline.requests, observation.baseline.errors) == (seen["good", 200], 0)
    assert (observation.canary.requests, observation.canary.errors) == (
        seen["bad", 200] + seen["bad", 500],
        seen["bad", 500],
    )
    assert sum(observation.baseline.durations) == observation.baseline.requests
    assert sum(observation.canary.durations) == observation.canary.requests
    assert errors(observation).verdict is Verdict.FAILED


def test_failures_hidden_by_a_fallback_count_for_the_canary(server: RunningServer) -> None:
    seen, observation = observed(server, "hidden", 600, "guarded")
    assert {status for _, status in seen} == {200}
    # In the canary's share, `bad` itself answers every other request.
    assert observation.baseline.errors == 0
    assert observation.canary.requests - observation.canary.errors == seen["bad", 200]
    assert observation.canary.errors > 0
    assert errors(observation).verdict is Verdict.FAILED


def test_an_equally_good_canary_passes(server: RunningServer) -> None:
    seen, observation = observed(server, "fine", 2400)
    assert (observation.baseline.requests, observation.canary.requests) == (seen["good", 200], seen["same", 200])
    assert errors(observation).verdict is Verdict.SUCCESSFUL


def test_the_counts_of_a_dead_worker_are_kept(server: RunningServer) -> None:
    source, models = LocalSource(f"http://127.0.0.1:{server.port}"), watched(server.project, "fine")
    before = source.start("fine", models)
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    first = int(children.read_text().split()[0])
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: str(first) not in children.read_text().split(), "the end of the worker")
    observation = source.observe("fine", models, before)
    assert (observation.baseline.requests, observation.canary.requests) == (0, 0)
    assert source.start("fine", models).run == before.run

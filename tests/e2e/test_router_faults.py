"""Versions that fail in every way, behind routers with and without a fallback, under load from real clients."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.builders.graphs import write_identity
from tests.builders.isolated_project import share_packages
from tests.builders.running_server import Answer, RunningServer, running_server

FAULTS = {
    "raising": "    raise RuntimeError('no')",
    "hanging": "    time.sleep(3)\n    return inputs",
    "rubbish": "    return {'x': 'rubbish', 'y': object()}",
    "leaving": "    os._exit(7)",
}
"""What each version's transform does; `throttled` has none and may not run at all."""

GATEWAY = {
    "hanging": (504, {"message": "Endpoint request timed out"}),
    "leaving": (502, {"message": "Internal server error"}),
    "throttled": (429, {"message": "Too Many Requests"}),
}
"""API Gateway's response if the function gave no answer; the other functions' own answers say what is wrong."""

IN_PROCESS = ("raising", "hanging", "rubbish")
ISOLATED = ("raising", "hanging", "rubbish", "leaving", "throttled")
BODY = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
CLIENTS = 4
CALLS = 2


@dataclass(frozen=True)
class Faulty:
    server: RunningServer
    faults: tuple[str, ...]

    def load(self, model: str) -> list[Answer]:
        """Return all answers to several clients that call the model concurrently."""
        answers: list[Answer] = []

        def call() -> None:
            with self.server.client() as client:
                answers.extend(client.post(f"/models/{model}/inference", BODY) for _ in range(CALLS))

        callers = [threading.Thread(target=call) for _ in range(CLIENTS)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert len(answers) == CLIENTS * CALLS
        return answers


def write_project(project: Path, faults: tuple[str, ...]) -> Path:
    """Write a model `safe-<fault>` and a model `bare-<fault>` for each fault; all of their traffic goes to the faulty
    version.

    In addition, `watched` has a shadow that hangs, and `plain` is not routed.
    """
    write_identity(project / "echo.onnx")
    for fault, does in FAULTS.items():
        (project / f"{fault}.py").write_text(f"import os\nimport time\n\n\ndef preprocess(inputs):\n{does}\n")
    sound = {"artifact": "echo.onnx"}
    models: dict[str, Any] = {"plain": {"versions": {"v1": sound}}}
    weights = {}

    def add(name: str, fault: str, routing: dict[str, Any], serve: str) -> None:
        how: dict[str, Any] = {"reserved_concurrency": 0} if fault == "throttled" else {"transform": f"{fault}.py"}
        how["timeout_s"] = 1 if fault == "hanging" else 20  # a busy machine may take seconds to start a process
        models[name] = {"versions": {"v1": sound, "v2": {**sound, **how}}, "routing": routing}
        weights[name] = {serve: 100}

    for fault in faults:
        add(f"safe-{fault}", fault, {"fallback": "v1"}, "v2")
        add(f"bare-{fault}", fault, {"sticky": {"header": "x-user-id"}}, "v2")
    add("watched", "hanging", {"shadow": {"version": "v2", "percent": 100}}, "v1")
    stages = {"dev": {"serve": {"*": "newest"}, "weights": weights}}
    (project / "models.yaml").write_text(json.dumps({"platform": "turnout", "models": models, "stages": stages}))
    return project


@pytest.fixture(scope="module", params=["in-process", "isolated"])
def faulty(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    isolated = request.param == "isolated"
    faults = ISOLATED if isolated else IN_PROCESS
    project = write_project(tmp_path_factory.mktemp(request.param), faults)
    if isolated:
        share_packages(project, tmp_path_factory)
    with running_server(project, "--workers", "1", *(["--isolated"] if isolated else [])) as server:
        yield Faulty(server, faults)


def test_no_caller_sees_an_error_if_there_is_a_fallback(faulty: Faulty) -> None:
    for fault in faulty.faults:
        for answer in faulty.load(f"safe-{fault}"):
            assert answer.status == 200, (fault, answer)
            assert answer.json()["outputs"][0]["data"] == [1, 2, 3, 4]
            seen = {name: answer.headers[f"x-turnout-{name}"] for name in ("version", "route", "fallback-from")}
            assert seen == {"version": "v1", "route": "fallback", "fallback-from": "v2"}, fault


def test_every_caller_sees_the_right_error_without_a_fallback(faulty: Faulty) -> None:
    for fault in faulty.faults:
        for answer in faulty.load(f"bare-{fault}"):
            if fault in GATEWAY:
                assert (answer.status, answer.json()) == GATEWAY[fault], fault
            else:
                assert (answer.status, answer.json()["code"]) == (500, "TRANSFORM_FAILED"), fault
                assert (answer.headers["x-turnout-version"], answer.headers["x-turnout-route"]) == ("v2", "weight")


def test_a_hanging_shadow_delays_no_answer(faulty: Faulty) -> None:
    """Answers do not wait for their copies: some arrive before the copies of three earlier requests have ended."""
    answers: list[Answer] = []
    most_open = 0
    with faulty.server.client() as client:
        assert client.post("/models/watched/inference", BODY).status == 200  # everything is loaded now
        for _ in range(20):
            answers.append(client.post("/models/watched/inference", BODY))
            ended = faulty.server.stderr.read_text().count("watched_v2: an asynchronous call: ")
            most_open = max(most_open, 1 + len(answers) - ended)

    assert most_open > 3
    assert {answer.status for answer in answers} == {200}
    assert {answer.headers["x-turnout-version"] for answer in answers} == {"v1"}


def test_plain_model_is_not_routed(faulty: Faulty) -> None:
    answers = faulty.load("plain")

    assert {answer.status for answer in answers} == {200}
    assert not any(name.startswith("x-turnout-route") for answer in answers for name in answer.headers)
    lines = faulty.server.await_log(lambda text: text.count(" /models/plain/") >= len(answers)).splitlines()
    functions = {line.partition(" function=")[2].split()[0] for line in lines if " /models/plain/" in line}
    assert functions == {"turnout-local_plain_v1:live"}

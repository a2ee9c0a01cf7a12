"""Versions that fail in every way, behind routers with a fallback and without one, under load from real clients."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.builders.graphs import write_identity
from tests.builders.isolated_project import share_packages
from tests.builders.running_server import Answer, RunningServer, running_server

FAULTS = {
    "raising": "    raise ValueError('no')",
    "hanging": "    time.sleep(3)\n    return inputs",
    "rubbish": "    return {'x': 'rubbish', 'y': object()}",
    "leaving": "    os._exit(7)",
}
"""What each one's transform does; `throttled` has none and may not run at all."""

GATEWAY = {
    "hanging": (504, {"message": "Endpoint request timed out"}),
    "leaving": (502, {"message": "Internal server error"}),
    "throttled": (429, {"message": "Too Many Requests"}),
}
"""What API Gateway says where the function gave no answer; the others' own answers tell what is wrong."""

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
        """All answers to several clients that call the model at once."""
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
    """A model `safe-<fault>` and a model `bare-<fault>` for each; all traffic goes to the faulty version."""
    write_identity(project / "echo.onnx")
    models, weights = ["  plain: {versions: {v1: {artifact: echo.onnx}}}"], []
    for fault in faults:
        how = "reserved_concurrency: 0" if fault == "throttled" else f"transform: {fault}.py"
        if fault in FAULTS:
            (project / f"{fault}.py").write_text(
                f"import os\nimport time\n\n\ndef preprocess(inputs):\n{FAULTS[fault]}\n"
            )
        for kind, routing in (("safe", "fallback: v1"), ("bare", "sticky: {header: x-user-id}")):
            models.append(
                f"  {kind}-{fault}:\n    routing: {{{routing}}}\n    versions:\n      v1: {{artifact: echo.onnx}}\n"
                f"      v2: {{artifact: echo.onnx, timeout_s: 1, {how}}}"
            )
            weights.append(f"{kind}-{fault}: {{v2: 100}}")
    text = "platform: turnout\nmodels:\n" + "\n".join(models)
    text += f'\nstages:\n  dev: {{serve: {{"*": newest}}, weights: {{{", ".join(weights)}}}}}\n'
    (project / "models.yaml").write_text(text)
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


def test_no_caller_sees_an_error_where_there_is_a_fallback(faulty: Faulty) -> None:
    for fault in faulty.faults:
        for answer in faulty.load(f"safe-{fault}"):
            assert answer.status == 200, (fault, answer)
            assert answer.json()["outputs"][0]["data"] == [1, 2, 3, 4]
            seen = {name: answer.headers[f"x-turnout-{name}"] for name in ("version", "route", "fallback-from")}
            assert seen == {"version": "v1", "route": "fallback", "fallback-from": "v2"}, fault


def test_every_caller_sees_the_right_error_where_there_is_none(faulty: Faulty) -> None:
    for fault in faulty.faults:
        for answer in faulty.load(f"bare-{fault}"):
            if fault in GATEWAY:
                assert (answer.status, answer.json()) == GATEWAY[fault], fault
            else:
                assert (answer.status, answer.json()["code"]) == (500, "TRANSFORM_FAILED"), fault
                assert (answer.headers["x-turnout-version"], answer.headers["x-turnout-route"]) == ("v2", "weight")


def test_plain_model_is_not_routed(faulty: Faulty) -> None:
    answers = faulty.load("plain")

    assert {answer.status for answer in answers} == {200}
    assert not any(name.startswith("x-turnout-route") for answer in answers for name in answer.headers)
    lines = faulty.server.await_log(lambda text: text.count(" /models/plain/") >= len(answers)).splitlines()
    functions = {line.partition(" function=")[2].split()[0] for line in lines if " /models/plain/" in line}
    assert functions == {"turnout-local_plain_v1:live"}

"""A canary's agreement as on AWS: requests from the functions' logs, backed by moto, answered by a real server.

How often the versions disagree is known in advance (tests/builders/limits_project.py).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.builders.canary_commands import Commands
from tests.builders.limits_project import BODIES, path_of, write_limits_project
from tests.builders.logs import log_lines, logs_client
from tests.builders.running_server import RunningServer, running_server
from tests.builders.stage import FakeFunctions, FakeStage, FakeTraffic
from tests.builders.waiting import wait_until
from turnout.canary.agreement import compare_on_aws
from turnout.canary.judging.observed import AgreementCounts, Arm, Observation
from turnout.canary.judging.states import Phase
from turnout.canary.observation.logged_samples import LAG_S
from turnout.canary.rollout.log import RolloutLog
from turnout.canary.rollout.rollout import StageConnection
from turnout.canary.rollout.stage_control import StageTarget
from turnout.canary.run import CanaryRun, RunSettings, Surroundings
from turnout.client.captured_lines import Sample, read_lines
from turnout.manifest.judgement import Agreement, Judgement
from turnout.manifest.parser import Manifest, Stage
from turnout.plan.stages import plan_stage
from turnout.project.project import load_project
from turnout.protocol.codecs.samples import write_line

STAGES = """\
  prod:
    serve: {step: v1, other: v1}
    canary: {percent: 50, serve: {step: v2}, agreement: {percent: 100, floor: 0.98}}
  keyed:
    serve: {step: v1, other: v1}
    auth: api_key
    canary: {percent: 50, serve: {step: v2}, agreement: {percent: 100, floor: 0.8}}
"""
FINE = Observation(Arm(9000, 0, (9000, 0)), Arm(9000, 0, (9000, 0)), (1.0,))
"""Everything is fine except the outputs."""

ASKED = BODIES[40:90]
"""As many requests as are read from one function's log; the versions disagree about ten of them."""

STACK = "live"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("agreement")
    write_limits_project(folder, STAGES)
    path = folder / "models.yaml"
    path.write_text(
        path.read_text()
        .replace("transform: passing.py}", "transform: passing.py, capture: {percent: 100}}", 1)
        .replace("v2: {artifact: v2.onnx}", "v2: {artifact: v2.onnx, capture: {percent: 100}}", 1)
    )
    with running_server(folder, "--no-access-log", "--capture", str(folder / "capture.jsonl")) as running:
        yield running


@pytest.fixture
def canary(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(server, capsys)


@pytest.fixture
def logs() -> Iterator[Any]:
    with logs_client() as client:
        yield client


def send(server: RunningServer, stage: str, **headers: str) -> list[Sample]:
    """Send `ASKED` requests, each once; return them as the server captured them."""
    with server.client() as client:
        for body in ASKED:
            assert client.post(path_of(stage), body, **headers).status == 200

    def captured() -> list[Sample]:
        lines = (server.project / "capture.jsonl").read_bytes().splitlines()
        return [sample for line in read_lines(lines) for sample in line.samples if sample.stage == stage]

    wait_until(lambda: len(captured()) == len(ASKED), "all lines are written")
    return captured()


def log_samples(logs: Any, samples: list[Sample]) -> None:
    """Log the samples as functions on AWS do: each to the log of the version that answered."""
    for version in ("v1", "v2"):
        lines = [(sample.time, write_line(sample).decode()) for sample in samples if sample.version == version]
        log_lines(logs, f"shop-{STACK}_step_{version}", lines)


def url_of(server: RunningServer) -> str:
    return f"http://127.0.0.1:{server.port}"


def key_of(server: RunningServer) -> str:
    return str(json.loads((server.project / ".turnout" / "api_keys.json").read_text())["keyed"])


def stage_of(folder: Path, name: str) -> tuple[Manifest, Stage]:
    manifest = load_project(folder).manifest
    return manifest, next(stage for stage in manifest.stages if stage.name == name)


def late() -> float:
    """A clock on which what is logged now has become visible."""
    return time.time() + LAG_S + 1


def test_disagreeing_versions_are_rolled_back_by_their_logged_requests(server: RunningServer, logs: Any) -> None:
    folder, began_s = server.project, time.time()
    log_samples(logs, send(server, "prod"))
    manifest, stage = stage_of(folder, "prod")
    control = FakeStage(plan_stage(stage, manifest.models), url=url_of(server))
    around = Surroundings(
        lambda: load_project(folder),
        folder / "models.yaml",
        RolloutLog(folder),
        StageTarget(STACK),
        StageConnection(control, FakeFunctions(), FakeTraffic(FINE)),
        compare_on_aws(manifest, stage, STACK, logs, control.url, "", clock=late),
        lambda: began_s,
        lambda _seconds: pytest.fail("one look is enough"),
    )
    (tick,) = CanaryRun(around, "prod", Judgement(agreement=Agreement(100, 0.98)), RunSettings()).ticks(1)
    assert tick.observation
    assert tick.observation.agreement == {"step": AgreementCounts(50, 40)}
    assert tick.state.phase is Phase.ROLLED_BACK
    assert tick.state.reason == "agreement of step: 80% of 50 answers agreed; at least 98% must"
    assert control.read().canary is None


def test_requests_to_a_stage_with_keys_carry_a_key(server: RunningServer, logs: Any) -> None:
    began_s = time.time()
    log_samples(logs, send(server, "keyed", x_api_key=key_of(server)))
    manifest, stage = stage_of(server.project, "keyed")

    def counts(api_key: str) -> AgreementCounts:
        result = compare_on_aws(manifest, stage, STACK, logs, lambda: url_of(server), api_key, clock=late)(began_s)
        return result["step"]

    assert counts(key_of(server)) == AgreementCounts(50, 40)
    refused = counts("wrong")
    assert (refused.compared, refused.agreed) == (0, 0)
    assert refused.note.startswith('HTTP 403: {"message":"Forbidden"}: The stage requires an API key: pass --api-key')
    assert counts("") == AgreementCounts(0, 0, "keyed requires an API key: pass --api-key")


def test_status_of_a_stack_reports_what_agreement_is_missing(
    server: RunningServer, logs: Any, canary: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """boto3 uses the gateway as API Gateway and Lambda, and moto as CloudWatch."""
    for name in ("AWS_ENDPOINT_URL_API_GATEWAY", "AWS_ENDPOINT_URL_LAMBDA"):
        monkeypatch.setenv(name, url_of(server))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.delenv("TURNOUT_API_KEY", raising=False)
    canary("set", "keyed", "--percent", "40", "--now", "--stack", "local")
    assert agreement_of(canary("status", "keyed", "--stack", "local")) == (
        "inconclusive. keyed requires an API key: pass --api-key."
    )
    result = agreement_of(canary("status", "keyed", "--stack", "local", "--api-key", key_of(server)))
    assert result.startswith("inconclusive. no answers compared yet; about ")


def agreement_of(said: str) -> str:
    """Return what a status says about agreement."""
    return " ".join(said.partition("- agreement of step: ")[2].split())

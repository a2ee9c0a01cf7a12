"""`turnout canary status`: observations, judgement and differences, in 80 columns."""

from __future__ import annotations

import json
import sys
from io import StringIO
from pathlib import Path

import pytest
from moto import mock_aws

from tests.builders.stage import FakeFunctions, FakeStage, FakeTraffic
from turnout.canary.judging.observed import AgreementCounts, Arm, Observation
from turnout.canary.observation.source import ObservationError
from turnout.canary.report import CanaryReport, make_report, report_to_json
from turnout.canary.rollout.log import RolloutLog
from turnout.canary.rollout.rollout import StageConnection
from turnout.canary.rollout.stage_control import StageTarget
from turnout.cli.__main__ import main
from turnout.cli.canary.status import say_report
from turnout.plan.stages import plan_stage
from turnout.project.project import load_project

SEEN = Observation(Arm(9012, 9, (9000, 12)), Arm(1001, 1, (1001, 0)), (0.004,))
HERE = StageTarget(endpoint_url="http://127.0.0.1:1")


@pytest.fixture
def traffic() -> FakeTraffic:
    return FakeTraffic(SEEN)


@pytest.fixture
def report(project: Path, traffic: FakeTraffic) -> CanaryReport:
    return make(project, traffic)


def make(project: Path, traffic: FakeTraffic) -> CanaryReport:
    path = project / "models.yaml"
    agreeing = "serve: {echo: v2}, agreement: {percent: 10, floor: 0.9}}"
    path.write_text(path.read_text().replace("serve: {echo: v2}}", agreeing))
    loaded = load_project(project)
    stage = FakeStage(plan_stage(loaded.manifest.stages[1], loaded.manifest.models))
    stage.update([{"op": "replace", "path": "/canarySettings/percentTraffic", "value": "20.0"}])
    connection = StageConnection(stage, FakeFunctions(), traffic)
    counts = {"echo": AgreementCounts(100, 20)}
    return make_report(
        loaded, "prod", RolloutLog(project), target=HERE, connection=connection, compare=lambda _since_s: counts
    )


REPORTED = """\
prod: the canary has 10% of the traffic.
Verdict: failed.

MODEL  BASELINE  CANARY
echo   v1        v2

SHARE     REQUESTS  ERRORS  ERROR RATE   P50   P99
baseline     9,012       9        0.1%  4 ms  4 ms
canary       1,001       1        0.1%  4 ms  4 ms

Checks
"""


def test_everything_is_reported_in_80_columns(report: CanaryReport, capsys: pytest.CaptureFixture[str]) -> None:
    say_report(report, is_asked=True)
    said = capsys.readouterr().out
    reported, checks, warnings = said.partition("- errors: ")[0], said.count("\n- "), said.rpartition("\n\n")[2]
    assert reported == REPORTED
    assert checks == 4
    assert "\n- agreement of echo: failed. 20% of 100 answers agreed; at least 90% must.\n" in said
    assert warnings == "Warnings\n- the canary's share is 10% in the manifest, 20% in the live stage\n"
    assert max(map(len, said.splitlines())) <= 80


def test_json_contains_the_same(report: CanaryReport) -> None:
    body = json.loads(json.dumps(report_to_json(report)))
    assert body["canary"] == {
        "percent": 10.0,
        "release": False,
        "models": {"echo": {"baseline": "v1", "canary": "v2"}},
    }
    assert body["shares"]["canary"] == {"requests": 1001, "errors": 1, "p50_s": 0.004, "p99_s": 0.004}
    assert [check["verdict"] for check in body["checks"]] == ["inconclusive", "successful", "failed"]
    assert body["verdict"] == "failed"
    assert body["warnings"] == ["the canary's share is 10% in the manifest, 20% in the live stage"]


def test_a_source_without_observations_is_reported(project: Path, traffic: FakeTraffic) -> None:
    traffic.answer = ObservationError("nobody counts")
    report = make(project, traffic)
    assert (report.observation, report.verdict, report.warnings[-1]) == (None, None, "nobody counts")


def test_an_unknown_stage_on_aws_is_reported(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with mock_aws():
        assert main(["canary", "status", "prod", "--stack", "live", "-m", str(project)]) == 0
    assert "- stack live has no REST API called shop-live_api_key\n" in capsys.readouterr().out


def test_outputs_can_be_read_from_a_pipe(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed = {"variables": {"echo": "v1", "alias": "live", "canary": "false"}, "canary": None}
    monkeypatch.setattr(sys, "stdin", StringIO(json.dumps({"stages": {"prod": deployed}})))
    assert main(["canary", "status", "prod", "--outputs", "-", "-m", str(project)]) == 0
    assert "- a canary in the manifest, but none in Pulumi's outputs\n" in capsys.readouterr().out


def test_outputs_that_are_not_an_object_are_rejected(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", StringIO("[]"))
    assert main(["canary", "status", "prod", "--outputs", "-", "-m", str(project)]) == 2
    assert "does not contain a JSON object" in capsys.readouterr().err


def test_a_stage_that_was_not_queried_is_shown_with_the_command_for_it(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["canary", "status", "prod", "-m", str(project)]) == 0
    assert "The live stage was not checked. Name it with --url or --stack." in capsys.readouterr().out

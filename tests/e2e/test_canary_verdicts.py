"""The promises of a canary's judgement, on `turnout serve` with two workers under load.

How often the versions disagree, and how often one fails, is known in advance (tests/builders/limits_project.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.builders.aws_clients import aws_client
from tests.builders.binomial import ODDS, band
from tests.builders.canary_commands import Commands, traffic
from tests.builders.limits_project import BODIES, draw, path_of, write_limits_project
from tests.builders.running_server import RunningServer, running_server
from tests.builders.waiting import wait_until

STAGES = """\
  several: {serve: {step: v1, other: v1}}  # several
  paced: {serve: {step: v1, other: v1}}  # paced
  unsure: {serve: {step: v1, other: v1}}
  release: {serve: {step: v1, other: v1}}
  strict:
    serve: {step: v1, other: v1}
    canary: {percent: 50, serve: {step: v2}, agreement: {percent: 100, floor: 0.98}}
  lenient:
    serve: {step: v1, other: v1}
    canary: {percent: 50, serve: {step: v2, other: v2}, agreement: {percent: 50, floor: 0.8}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("verdicts")
    write_limits_project(folder, STAGES)
    with running_server(folder, "--no-access-log", "--workers", "2", "--preload") as running:
        yield running


@pytest.fixture
def canary(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(server, capsys)


def test_several_models_are_promoted_one_by_one_under_load(canary: Commands, server: RunningServer) -> None:
    models = ("--model", "step", "--to", "v2", "--model", "other", "--to", "v2")
    canary("start", "several", *models, "--percent", "50", *canary.now)
    with (
        traffic(server, path_of("several"), BODIES) as steps,
        traffic(server, path_of("several", "other"), BODIES) as others,
    ):

        def both_served(answers: list[tuple[int, str, str]], since: int) -> bool:
            return {version for _, version, _ in answers[since:]} == {"v1", "v2"}

        wait_until(lambda: both_served(steps, 0) and both_served(others, 0), "both shares answer")
        canary("promote", "several", "--model", "step", *canary.now)
        promoted, other = len(steps) + 1, len(others)  # one may have been in flight
        wait_until(
            lambda: len(steps) > promoted + 50 and both_served(others, other), "the other model keeps its canary"
        )
        canary("promote", "several", *canary.now)
        ended = len(others) + 1
        wait_until(lambda: len(others) > ended + 50, "more answers")
    assert {status for status, *_ in (*steps, *others)} == {200}
    assert {version for _, version, _ in steps[promoted:]} == {"v2"}
    assert set(others[ended:]) == {(200, "v2", "false")}
    assert canary.status("several")["warnings"] == []
    assert "  several: {serve: {step: v2, other: v2}}  # several\n" in canary.text()
    assert [(rollout["action"], rollout["to"]) for rollout in canary.history("several")] == [
        ("start", {"step": "v2", "other": "v2"}),
        ("promote", {"step": "v2"}),
        ("promote", {"other": "v2"}),
    ]


def test_a_failing_canary_affects_few_answers(canary: Commands, server: RunningServer) -> None:
    """At a tenth of 200 requests a second, three of ten fail: six failed answers a second, with a check every two
    seconds.

    One request in 33 fails. The test with 95% confidence needs 5 to 15 failures (docs/judgement.md); at most twelve
    more arrive until the next check.
    """
    canary("start", "paced", "--model", "step", "--to", "failing", *canary.now)
    with traffic(server, path_of("paced"), BODIES, 1 / 200) as answers:
        said = canary("run", "paced", "--bake", "60s", *canary.endpoint, code=1)
        rolled_back = len(answers) + 1
        wait_until(lambda: len(answers) > rolled_back + 50, "more answers")
    bad = [answer for answer in answers if answer[0] >= 500]
    assert 0 < len(bad) <= 45
    assert {(version, share) for _, version, share in bad} <= {("failing", "true")}
    assert set(answers[rolled_back:]) == {(200, "v1", "false")}
    assert "Rolled back: errors: " in said
    result = canary.status("paced")
    assert (result["canary"], result["warnings"], result["since"]["verdict"]) == (None, [], "failed")
    assert "  paced: {serve: {step: v1, other: v1}}  # paced\n" in canary.text()


def test_versions_that_disagree_more_often_than_the_floor_allows_are_rolled_back(
    canary: Commands, server: RunningServer
) -> None:
    with traffic(server, path_of("strict"), BODIES):
        said = canary("run", "strict", "--bake", "60s", *canary.endpoint, code=1)
    ending = " ".join(said[said.index("Rolled back: agreement of step: ") :].split())
    match = re.match(r"Rolled back: agreement of step: ([\d.]+)% of ([\d,]+) answers agreed; at least 98% must", ending)
    assert match, ending
    compared = int(match[2].replace(",", ""))
    low, high = band(compared, 0.9, ODDS)
    assert low - 1 <= float(match[1]) / 100 * compared <= high + 1  # the percentage is rounded
    status = canary.status("strict")
    assert (status["canary"], status["warnings"], status["since"]["verdict"]) == (None, [], "failed")
    assert "  strict:\n    serve: {step: v1, other: v1}\n  lenient:" in canary.text()


def test_versions_that_agree_often_enough_are_promoted(canary: Commands, server: RunningServer) -> None:
    step, other = traffic(server, path_of("lenient"), BODIES), traffic(server, path_of("lenient", "other"), BODIES)
    with step as answers, other:
        said = canary("run", "lenient", "--bake", "20s", *canary.endpoint)
    assert "Promoted: lenient serves it to all requests." in said
    assert "- agreement of step: successful." in said
    assert "- agreement of other: successful." in said
    assert {status for status, *_ in answers} == {200}
    assert draw(server.port, "lenient", 100) == {("v2", "false"): 100}
    status = canary.status("lenient")
    assert (status["canary"], status["warnings"], status["since"]["verdict"]) == (None, [], "successful")
    assert canary.text().endswith("  lenient:\n    serve: {step: v2, other: v2}\n")


def test_a_canary_without_a_verdict_keeps_its_share(canary: Commands, server: RunningServer) -> None:
    canary("start", "unsure", "--model", "step", "--to", "same", "--percent", "50", *canary.now)
    with traffic(server, path_of("unsure"), BODIES, 0.1):
        said = canary("run", "unsure", "--bake", "1s", *canary.endpoint, code=1)
    assert "Stopped at 50%: inconclusive. errors: " in said
    assert draw(server.port, "unsure", 200).keys() == {("v1", "false"), ("same", "true")}
    status = canary.status("unsure")
    assert (status["canary"]["percent"], status["warnings"]) == (50, [])
    assert status["since"]["verdict"] == "inconclusive"


def test_a_release_serves_its_share_through_the_alias_next(canary: Commands, server: RunningServer) -> None:
    canary("start", "release", "--model", "step", "--to", "v2", "--release", "--percent", "50")
    assert draw(server.port, "release", 100) == {("v1", "false"): 100}
    canary("set", "release", "--percent", "100", *canary.now)
    assert live(server, "release")["canarySettings"]["stageVariableOverrides"]["alias"] == "next"
    assert draw(server.port, "release", 100) == {("v2", "true"): 100}
    assert "moves the alias `live` to the new code" in canary("promote", "release", *canary.now)
    stage = live(server, "release")
    assert "canarySettings" not in stage
    assert (stage["variables"]["step"], stage["variables"]["alias"]) == ("v2", "next")
    assert draw(server.port, "release", 100) == {("v2", "false"): 100}
    (warning,) = canary.status("release")["warnings"]
    assert "`pulumi up` completes the promoted release" in warning


def live(server: RunningServer, stage: str) -> Any:
    """Return the stage as API Gateway's own client sees it."""
    with aws_client("apigateway", server.port) as client:
        (api,) = client.get_rest_apis()["items"]
        return client.get_stage(restApiId=api["id"], stageName=stage)

"""Where `turnout canary mend` may connect to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from turnout.canary.rollout.log import Rollout
from turnout.canary.rollout.stage_control import StageTarget
from turnout.cli.canary.target import recorded_target
from turnout.cli.output import CommandError
from turnout.project.project import load_project
from turnout.system.service_tokens import announced_services

ROW = Rollout("2026-11-30T00:00:00Z", "ann", "dev", "start", {"echo": "v1"}, {"echo": "v2"}, 10, stack="local")


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://10.0.0.7:8080", "http://evil.example"])
def test_an_address_that_only_the_record_contains_is_not_connected_to(project: Path, url: str) -> None:
    loaded = load_project(project / "models.yaml")
    rollout = replace(ROW, endpoint_url=url)
    with pytest.raises(CommandError, match="but no server of this project runs there") as caught:
        recorded_target(loaded, rollout, None)
    assert "--url" in str(caught.value)
    assert recorded_target(loaded, rollout, StageTarget("local", url)) == StageTarget("local", url)


def test_a_server_of_the_project_and_aws_are_connected_to(project: Path) -> None:
    loaded = load_project(project / "models.yaml")
    with announced_services(project / ".turnout", "127.0.0.1", 8080, ""):
        rollout = replace(ROW, endpoint_url="http://127.0.0.1:8080")
        assert recorded_target(loaded, rollout, None) == StageTarget("local", "http://127.0.0.1:8080")
    assert recorded_target(loaded, replace(ROW, stack="prod"), None) == StageTarget("prod", "")

"""The check that users run with an AWS account, as far as it can run without one.

Pulumi's engine deploys to the stand-in; requests go to `turnout serve --watch` of the same folder. The test does what
AWS does automatically: a log line for each request, the guard rail's reaction to an alarm.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest

from infra.aws_check.check import AwsCheck, CheckFailedError
from infra.aws_check.command import clean, open_stack, render_table, run, unfinished
from infra.aws_check.leftovers import find_leftovers
from infra.aws_check.sample import SampleProject
from infra.aws_check.stack import Deployed, ThrowawayStack
from infra.observability.guard_rail_function import end_canary
from infra.program import deploy
from tests.builders.running_server import RunningServer, running_server
from tests.engine.account import MotoAccount
from tests.engine.life import LEAVES_LOOPS
from tests.engine.project import LAYER, write_package
from tests.engine.stand_in.aws import REGION
from tests.engine.world import World
from turnout.client.connection import ApiAnswer
from turnout.packaging.build import BuiltPackage
from turnout.plan.values import Plan
from turnout.project.project import Project
from turnout.protocol.naming import function_prefix

pytestmark = LEAVES_LOOPS

NAME = "checkabc123"
PREFIX = function_prefix("turnout", NAME)


class Scene:
    """A check of the sample in a stand-in account."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.home = folder / "checks"
        self.project = SampleProject(self.home / NAME / "project")
        self.zips = folder / "zips"
        self.zips.mkdir()
        self.server: RunningServer | None = None
        self.stack = self.open(self.home / NAME, self.deploy)
        self.check = AwsCheck(
            self.project, self.stack, NAME, self.call, cache(self.client), patience_s=120.0, pause_s=0.2
        )

    def open(self, home: Path, program: Callable[[], None] = lambda: None) -> ThrowawayStack:
        kept = {name: self.world.environment[name] for name in ("PULUMI_DEBUG_PROVIDERS", "PULUMI_HOME")}
        return ThrowawayStack(home, NAME, REGION, program, environment=kept)

    def deploy(self) -> None:
        self.world.loops.append(asyncio.get_running_loop())
        deploy(self.project.folder, build=self.build, account=MotoAccount())

    def build(self, project: Project, plan: Plan) -> list[BuiltPackage]:
        names = dict.fromkeys(function.package for function in plan.functions)
        return [
            write_package(self.zips, LAYER, "layer", "layer"),
            *(write_package(self.zips, name, "function", "code") for name in names),
        ]

    def client(self, service: str) -> Any:
        made = boto3.client(service)
        if service == "apigateway":
            return ApiGateway(made, self.world)
        return CloudWatch(made, self.world) if service == "cloudwatch" else made

    def call(self, deployed: Deployed, stage: str, method: str, path: str, body: bytes, *, with_key: bool) -> ApiAnswer:
        assert self.server is not None
        assert deployed.endpoints[stage].endswith(f"/{stage}")
        assert deployed.keys[stage]
        headers = {"content-type": "application/json"}
        if with_key:
            headers["x-api-key"] = self.server.api_key(stage)
        response = self.server.request(method, f"/{stage}{path}", body or None, headers)
        self.log(stage, is_canary=response.headers.get("x-turnout-canary") == "true")
        return ApiAnswer(response.status, response.headers, response.body, 1.0)

    def log(self, stage: str, *, is_canary: bool) -> None:
        """Write what API Gateway and Lambda log for a request."""
        group = f"/aws/apigateway/{PREFIX}_api_key/{stage}"
        logs = boto3.client("logs")
        for name in [group, *([f"{group}/Canary"] if is_canary else []), f"/aws/lambda/{PREFIX}_iris_v2"]:
            if name in self.logged:
                continue
            self.logged.add(name)
            logs.create_log_stream(logGroupName=name, logStreamName="one")
            message = json.dumps({"canary": str(is_canary).lower()})
            event = {"timestamp": int(time.time() * 1000), "message": message}
            logs.put_log_events(logGroupName=name, logStreamName="one", logEvents=[event])

    @property
    def logged(self) -> set[str]:
        return self.__dict__.setdefault("_logged", set())  # type: ignore[no-any-return]

    def run(self) -> int:
        with running_server(self.project.folder, "--watch") as self.server:
            return run(self.check)

    def left(self) -> list[str]:
        return find_leftovers(boto3.client, PREFIX)

    def result_of(self, step: str) -> str:
        (entry,) = (entry for entry in self.check.rows if entry.step == step)
        return entry.result


class ApiGateway:
    """boto3's client, with the stages that moto does not keep."""

    def __init__(self, client: Any, world: World) -> None:
        self._client, self._world = client, world

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def get_stage(self, **where: str) -> dict[str, Any]:
        stage = self._world.aws.stages.kept[where["restApiId"], where["stageName"]]
        deployed = {"deploymentId": stage.deployment_id, "variables": dict(stage.variables)}
        return deployed | self._world.aws.stages.get_stage(**where)


class CloudWatch:
    """boto3's client, with the rule that calls the guard rail when an alarm goes off."""

    def __init__(self, client: Any, world: World) -> None:
        self._client, self._world = client, world

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def set_alarm_state(self, **state: str) -> None:
        self._client.set_alarm_state(**state)
        if state["StateValue"] == "ALARM":
            (api,) = {api for api, _ in self._world.aws.stages.kept}
            rules = [rule for rule in boto3.client("events").list_rules()["Rules"] if "EventPattern" in rule]
            patterns = [json.loads(rule["EventPattern"]) for rule in rules]
            heard = [arn.rpartition(":alarm:")[2] for pattern in patterns for arn in pattern["resources"]]
            assert state["AlarmName"] in heard
            end_canary(self._world.aws.stages, {"rest_api_id": api, "stage": "prod"}, state["AlarmName"])


@pytest.fixture
def scene(world: World, tmp_path: Path) -> Scene:
    return Scene(world, tmp_path)


def test_check_runs_every_step_and_leaves_nothing(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    code = scene.run()
    table = capsys.readouterr().out
    assert [(step.step, step.result, step.seen) for step in scene.check.rows if step.result != "held"] == [], table
    assert code == 0
    assert not boto3.client("apigateway").get_account().get("cloudwatchRoleArn")
    steps = [name for name, _ in scene.check.steps()]
    assert [step.step for step in scene.check.rows] == [*steps, "destroy"]
    assert f"{len(steps) + 1} of {len(steps) + 1} held." in table
    assert scene.left() == []
    assert unfinished(scene.home) == []
    assert not (scene.home / NAME).exists()


@contextmanager
def signal_at(scene: Scene, step: str, number: signal.Signals) -> Iterator[None]:
    def begin(name: str) -> None:
        if name == step:
            os.kill(os.getpid(), number)

    scene.check.begin = begin
    yield


@pytest.mark.parametrize(
    ("step", "number"),
    [("deploy", signal.SIGTERM), ("version canary is promoted", signal.SIGINT)],
)
def test_signal_ends_the_steps_and_destroys_everything(scene: Scene, step: str, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with signal_at(scene, step, number):
        assert scene.run() == 128 + number
    assert signal.getsignal(number) is before
    assert scene.left() == []
    assert unfinished(scene.home) == []
    assert scene.result_of("interrupted") == "failed"
    assert scene.result_of("destroy") == "held"


def test_signal_during_an_update_destroys_what_was_made(scene: Scene) -> None:
    make = scene.world.aws.stages.create

    def create(inputs: Any) -> Any:
        if inputs["stageName"] == "prod":
            os.kill(os.getpid(), signal.SIGTERM)
        return make(inputs)

    scene.world.aws.stages.create = create  # type: ignore[method-assign]
    assert scene.run() == 128 + signal.SIGTERM
    assert scene.left() == []
    assert scene.result_of("destroy") == "held"


def test_signals_during_the_destruction_are_ignored(scene: Scene) -> None:
    with signal_at(scene, "destroy", signal.SIGINT):
        scene.check.steps = lambda: iter([("deploy", scene.check.deploy)])  # type: ignore[method-assign]
        assert scene.run() == 128 + signal.SIGINT
    assert scene.left() == []
    assert scene.result_of("destroy") == "held"


def test_failed_deployment_is_destroyed_and_no_further_step_is_tried(scene: Scene) -> None:
    scene.world.provider.refuse("aws:apigateway/stage:Stage", "prod", "the stage is refused")
    assert scene.run() == 1
    assert scene.result_of("deploy") == "failed"
    assert {step.result for step in scene.check.rows[1:-1]} == {"not tried"}
    assert scene.left() == []


def test_failed_step_is_reported_and_the_other_steps_are_tried(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> str:
        raise CheckFailedError("GET /prod/models: expected 200, got 403")

    def crash() -> str:
        raise KeyError("x")

    scene.check.steps = lambda: iter(  # type: ignore[method-assign]
        [("deploy", scene.check.deploy), ("one", fail), ("two", crash), ("alarms", scene.check.look_at_alarms)]
    )
    assert scene.run() == 1
    assert [step.result for step in scene.check.rows] == ["held", "failed", "failed", "held", "held"]
    table = capsys.readouterr().out
    assert "GET /prod/models: expected 200, got 403" in table
    assert "KeyError" in table
    assert "3 of 5 held." in table
    assert scene.left() == []


def test_leftovers_of_a_killed_check_are_cleaned_up_later(scene: Scene) -> None:
    scene.stack.up()
    assert scene.left()
    (folder,) = unfinished(scene.home)
    assert open_stack(folder).name == NAME

    assert clean(scene.home, scene.open, lambda _: boto3.client) == 0

    assert scene.left() == []
    assert unfinished(scene.home) == []


def test_table_without_steps_reports_none_held() -> None:
    assert render_table([]).endswith("0 of 0 held.")

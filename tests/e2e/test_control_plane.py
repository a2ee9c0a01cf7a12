"""The control plane and the Invoke API of a running server with two workers, used through boto3 while clients send
requests.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.builders.aws_clients import aws_client, refusal
from tests.builders.control_scene import COPIES, OVERRIDES, PERCENT, removing, replacing
from tests.builders.running_server import Client, RunningServer, running_server
from tests.builders.waiting import wait_until

MANIFEST = """
platform: turnout
models:
  iris:
    versions:
      v1: {artifact: models/iris/v1/model.onnx}
      v2: {artifact: models/iris/v2/model.onnx}
  other:
    versions:
      v1: {artifact: models/iris/v1/model.onnx}
      v2: {artifact: models/iris/v2/model.onnx}
stages:
  dev: {serve: {iris: v1, other: v1}}
  prod: {serve: {iris: v1, other: v1}}
"""
IRIS = {"instances": [[5.1, 3.5, 1.4, 0.2]]}
FLIPS = 40


@pytest.fixture
def server(tmp_path: Path, root: Path) -> Iterator[RunningServer]:
    shutil.copytree(root / "models" / "iris", tmp_path / "models" / "iris")
    (tmp_path / "models.yaml").write_text(MANIFEST)
    with running_server(tmp_path, "--workers", "2", "--watch", "--preload") as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[Any]:
    with aws_client("apigateway", server.port) as client:
        yield client


class Stage:
    """One stage of a server, changed by its owner."""

    def __init__(self, client: Any, name: str = "dev") -> None:
        self._client = client
        (self._api,) = (api["id"] for api in self._client.get_rest_apis()["items"])
        self._name = name

    def update(self, *operations: Any) -> Any:
        return self._client.update_stage(restApiId=self._api, stageName=self._name, patchOperations=list(operations))

    def get(self) -> Any:
        return self._client.get_stage(restApiId=self._api, stageName=self._name)


def served_by(client: Client, path: str = "/dev/models/iris/inference") -> str:
    answer = client.post(path, IRIS)
    assert answer.status == 200
    return answer.headers["x-turnout-version"]


def served_pair(client: Client) -> tuple[str, str]:
    """Return what the stage serves of both models, as one request sees it."""
    answer = client.request("GET", "/dev/models")
    assert answer.status == 200, answer.body
    iris, other = (model["serves"] for model in answer.json()["models"])
    return iris[0]["version"], other[0]["version"]


def test_a_change_applies_atomically_to_every_later_request_of_every_worker(server: RunningServer, client: Any) -> None:
    stage = Stage(client)
    seen: list[set[tuple[str, str]]] = []
    failures: list[BaseException] = []
    stopped = threading.Event()

    def call() -> None:
        pairs: set[tuple[str, str]] = set()
        seen.append(pairs)
        try:
            with server.client() as caller:
                while not stopped.is_set():
                    pairs.add(served_pair(caller))
        except BaseException as error:  # reported by the test
            failures.append(error)

    threads = [threading.Thread(target=call) for _ in range(4)]
    watchers = [Client(server.port) for _ in range(6)]
    for thread in threads:
        thread.start()
    try:
        for number in range(FLIPS):
            version = f"v{number % 2 + 1}"
            stage.update(replacing("/variables/iris", version), replacing("/variables/other", version))
            assert {served_pair(watcher) for watcher in watchers} == {(version, version)}
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
        for watcher in watchers:
            watcher.close()

    assert failures == []
    assert set().union(*seen) == {("v1", "v1"), ("v2", "v2")}


def test_a_canary_passes_through_all_of_its_states(server: RunningServer, client: Any) -> None:
    stage = Stage(client)
    with server.client() as one, server.client() as another:
        clients = (one, another)
        stage.update(replacing(PERCENT, "100"), replacing(f"{OVERRIDES}/iris", "v2"))
        assert {served_by(entry) for entry in clients} == {"v2"}
        assert served_by(one, "/prod/models/iris/inference") == "v1"
        stage.update(replacing(PERCENT, "0"))
        assert {served_by(entry) for entry in clients} == {"v1"}
        stage.update(*COPIES)
        assert {served_by(entry) for entry in clients} == {"v2"}
        assert "canarySettings" not in stage.update(removing("/canarySettings"))
        assert {served_by(entry) for entry in clients} == {"v2"}
    changed = "stage dev was changed by UpdateStage"
    wait_until(lambda: server.stderr.read_text().count(changed) >= 4, "the changes in the log")
    assert server.stderr.read_text().count(changed) == 4


def test_a_changed_throttle_applies_across_all_workers(server: RunningServer, client: Any) -> None:
    stage = Stage(client)
    stage.update(replacing("/*/*/throttling/rateLimit", "0"), replacing("/*/*/throttling/burstLimit", "3"))

    statuses = [server.post("/dev/models/iris/inference", IRIS).status for _ in range(12)]

    assert statuses == [200] * 3 + [429] * 9
    stage.update(removing("/*/*"))
    assert server.post("/dev/models/iris/inference", IRIS).status == 200


def set_in(stage: Any) -> tuple[Any, ...]:
    canary = stage["canarySettings"]
    settings = canary["percentTraffic"], canary["stageVariableOverrides"]
    return *settings, stage["variables"], stage["description"], stage["lastUpdatedDate"]


def test_a_reload_keeps_a_changed_stage_until_its_plan_changes(server: RunningServer, client: Any) -> None:
    stage, other = Stage(client), Stage(client, "prod")
    manifest = server.project / "models.yaml"
    set_by_hand = [replacing(PERCENT, "100"), replacing(f"{OVERRIDES}/iris", "v2"), replacing("/description", "mine")]
    stage.update(*set_by_hand)
    other.update(*set_by_hand)
    kept = stage.get()

    manifest.write_text(
        MANIFEST.replace("  iris:\n", "  iris:\n    description: Flowers.\n").replace(
            "prod: {serve: {iris: v1, other: v1}}", "prod: {serve: {iris: v1, other: v2}}"
        )
    )
    wait_until(lambda: "reloaded" in server.stderr.read_text(), "the new file is served")

    now = stage.get()
    assert set_in(now) == set_in(kept)
    assert now["canarySettings"]["deploymentId"] == now["deploymentId"]
    planned = other.get()
    assert "canarySettings" not in planned
    assert planned["variables"]["other"] == "v2"
    with server.client() as caller:
        assert served_by(caller) == "v2"
        assert served_by(caller, "/prod/models/iris/inference") == "v1"


def test_functions_can_be_called_with_lambda_clients(server: RunningServer) -> None:
    event = json.dumps({"body": json.dumps(IRIS), "headers": {"Content-Type": "application/json"}})
    with aws_client("lambda", server.port) as client:
        response = client.invoke(FunctionName="turnout-local_iris_v2:live", Payload=event)
        answer = json.load(response["Payload"])
        assert (response["ExecutedVersion"], answer["statusCode"]) == ("1", 200)
        assert answer["headers"]["x-turnout-version"] == "v2"
        called = client.invoke(FunctionName="turnout-local_iris_v2", InvocationType="Event", Payload=event)
        assert (called["StatusCode"], called["Payload"].read()) == (202, b"")  # read, so that its connection is closed
        assert refusal(lambda: client.invoke(FunctionName="turnout-local_iris_v9", Payload=b"{}"))[0] == 404


@pytest.mark.parametrize("path", ["/restapis", "/2015-03-31/functions/turnout-local_iris_v1/invocations"])
def test_requests_of_a_web_page_are_rejected(server: RunningServer, path: str) -> None:
    for headers in ({"Origin": "http://attacker.example"}, {"Host": "attacker.example"}):
        assert server.request("GET", path, b"", headers).status == 403

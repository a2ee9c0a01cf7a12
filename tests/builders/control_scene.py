"""A control plane behind a real socket, with stages that a test defines, and a boto3 client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.builders.aws_clients import aws_client
from tests.builders.http_server import serving
from turnout.gateway.api.gateway import RestApi
from turnout.gateway.rules.stages import CanarySettings, StageRecord, StageSettings
from turnout.gateway.services.control_plane import ControlPlane
from turnout.gateway.services.local_only import local_only
from turnout.gateway.shared.state import ControlState, SharedState
from turnout.manifest.parser import Throttle

API_ID = "a1b2c3d4e5"
FIRST = "dep001"
"""The deployment on which every stage is planned."""

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
"""The time of its clock."""

Operation = Mapping[str, str]


@dataclass
class ControlScene:
    """One API with the stages from `put`, changed and read through boto3."""

    state: SharedState
    client: Any
    port: int

    def put(
        self,
        name: str = "dev",
        variables: Mapping[str, str] | None = None,
        *,
        canary: CanarySettings | None = None,
        deployment: str = FIRST,
        throttle: Throttle | None = None,
        description: str = "",
    ) -> None:
        """Make this the only stage."""
        record = StageRecord(description)
        stage = StageSettings(name, API_ID, deployment, variables or {}, canary, throttle, record)
        made = self.state.read()[1].deployments if self.state.generation() else ()
        self.state.publish(ControlState(1, (stage,), {}, made))

    @property
    def stage(self) -> StageSettings:
        """Return the stage as the gateway serves it."""
        (stage,) = self.state.read()[1].stages
        return stage

    def update(self, *operations: Operation, stage: str = "dev") -> Any:
        return self.client.update_stage(restApiId=API_ID, stageName=stage, patchOperations=list(operations))

    def get(self, stage: str = "dev") -> Any:
        return self.client.get_stage(restApiId=API_ID, stageName=stage)

    def deploy(self, **wanted: Any) -> Any:
        return self.client.create_deployment(restApiId=API_ID, **wanted)


@contextmanager
def control_scene() -> Iterator[ControlScene]:
    """Yield a ControlScene for the duration of a block."""
    state = SharedState(1)
    planned = StageSettings("dev", API_ID, FIRST, {})
    api = RestApi(API_ID, {"info": {"title": "turnout-local_none"}}, (planned,))
    plane = ControlPlane([api], state, clock=NOW.timestamp)
    with serving(local_only(plane.handle)) as server, aws_client("apigateway", server.address[1]) as client:
        scene = ControlScene(state, client, server.address[1])
        scene.put()
        yield scene


def replacing(path: str, value: str) -> Operation:
    return {"op": "replace", "path": path, "value": value}


def removing(path: str) -> Operation:
    return {"op": "remove", "path": path}


def copying(source: str, path: str) -> Operation:
    return {"op": "copy", "from": source, "path": path}


PERCENT = "/canarySettings/percentTraffic"
DEPLOYMENT = "/canarySettings/deploymentId"
OVERRIDES = "/canarySettings/stageVariableOverrides"
COPIES = (copying(OVERRIDES, "/variables"), copying(DEPLOYMENT, "/deploymentId"))
"""The patch operations of AWS's documented promotion, without the percentage."""

"""A stage of a gateway on this machine without boto3: found, read, changed; errors state the problem."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.builders.control_scene import OVERRIDES, PERCENT, ControlScene, control_scene, removing, replacing
from tests.builders.http_server import serving
from turnout.canary.rollout.local_stage import LocalFunctions, LocalStage
from turnout.canary.rollout.stage_control import ApiGatewayStage, StageControl, StageControlError, StageState
from turnout.gateway.services.aws_wire import answer
from turnout.gateway.services.invoke_api import InvokeApi
from turnout.http_server.messages import Request, Response

API = "turnout-local_none"


@pytest.fixture
def scene() -> Iterator[ControlScene]:
    with control_scene() as scene:
        yield scene


def stage_of(scene: ControlScene, api: str = API, stage: str = "dev") -> LocalStage:
    return LocalStage(f"http://127.0.0.1:{scene.port}", api, stage)


def test_a_stage_is_read_and_changed_as_with_boto3(scene: ControlScene) -> None:
    scene.put(variables={"iris": "v1"})
    ours: StageControl = stage_of(scene)
    theirs = ApiGatewayStage(scene.client, API, "dev", "here")
    assert ours.read() == theirs.read() == StageState("dep001", {"iris": "v1"})
    ours.update([replacing(PERCENT, "12.5"), replacing(f"{OVERRIDES}/iris", "v2")])
    result = ours.read()
    assert result == theirs.read()
    assert result.canary is not None
    assert (result.canary.percent, result.canary.overrides) == (12.5, {"iris": "v2"})
    ours.update([removing("/canarySettings")])
    assert ours.read() == StageState("dep001", {"iris": "v1"})
    assert ours.url() == f"http://127.0.0.1:{scene.port}"


def test_a_rejected_update_changes_nothing_and_states_the_reason(scene: ControlScene) -> None:
    scene.put(variables={"iris": "v1"})
    with pytest.raises(
        StageControlError, match=r"http://127\.0\.0\.1:\d+ rejected the change of stage dev: BadRequestExc"
    ):
        stage_of(scene).update([replacing("/variables/iris", "v2"), replacing(PERCENT, "101")])
    assert stage_of(scene).read().variables == {"iris": "v1"}


def test_an_unknown_stage_or_api_is_named(scene: ControlScene) -> None:
    with pytest.raises(StageControlError, match="rejected the change of stage prod: NotFoundException: Invalid stage"):
        stage_of(scene, stage="prod").read()
    with pytest.raises(StageControlError, match="has no REST API called shop-local_none") as caught:
        stage_of(scene, api="shop-local_none").read()
    assert f"Existing APIs: {API}." in caught.value.hint


def test_an_address_without_a_server_is_reported() -> None:
    with pytest.raises(StageControlError, match=r"http://127\.0\.0\.1:9 cannot be reached: no server list") as caught:
        LocalStage("http://127.0.0.1:9", API, "dev").read()
    assert "turnout serve" in caught.value.hint
    assert LocalFunctions("http://127.0.0.1:9").has("a:live")


@pytest.mark.parametrize(
    "other",
    [
        Response(200, (), b"<html>"),
        Response(200, (), b"[]"),
        Response(200, (), b"{}"),
        answer(200, {"item": [{"id": "a"}]}),
        answer(200, {"item": [{"id": "a", "name": API}]}),
        Response(502, (), b"bad gateway"),
    ],
)
def test_another_server_is_reported(other: Response) -> None:
    with serving(lambda _: other) as server:
        stage = LocalStage(f"http://127.0.0.1:{server.address[1]}", API, "dev")
        with pytest.raises(StageControlError, match="is not an API Gateway control plane") as caught:
            stage.read()
    assert caught.value.hint == "Check that it is the address of `turnout serve`."


def test_an_error_of_another_server_is_quoted() -> None:
    with serving(lambda _: answer(403, {"message": "Forbidden"})) as server:
        stage = LocalStage(f"http://127.0.0.1:{server.address[1]}", API, "dev")
        with pytest.raises(StageControlError, match="rejected the change of stage dev: HTTP 403: Forbidden"):
            stage.read()


def test_the_existence_of_a_function_is_checked_without_running_it() -> None:
    class NeverRun:
        def invoke(self, *_: object) -> object:
            raise AssertionError("it ran")

    api = InvokeApi(NeverRun(), {"shop-local_iris_v2"})  # type: ignore[arg-type]

    def handle(request: Request) -> Response:
        result = api.handle(request)
        assert isinstance(result, Response)
        return result

    with serving(handle) as server:
        functions = LocalFunctions(f"http://127.0.0.1:{server.address[1]}")
        assert functions.has("shop-local_iris_v2:live")
        assert functions.has("shop-local_iris_v2:next")
        assert not functions.has("shop-local_iris_v3:live")
        assert not functions.has("shop-local_iris_v2:other")

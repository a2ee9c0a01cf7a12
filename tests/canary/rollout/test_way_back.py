"""A stage returns to what it served before a promotion: manifest, stage and record agree."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.builders.graphs import write_identity
from tests.builders.stage import FakeFunctions, FakeStage, FakeTraffic
from turnout.canary.rollout.action import Action, prepare
from turnout.canary.rollout.log import RETURN, Rollout, RolloutLog
from turnout.canary.rollout.rollout import RolloutError, StageConnection, carry_out, mend
from turnout.canary.rollout.stage_canaries import find_stage
from turnout.canary.rollout.stage_changes import find_differences
from turnout.canary.rollout.stage_control import StageTarget
from turnout.canary.rollout.way_back import find_promotion, make_return, offer_of
from turnout.plan.stages import plan_stage
from turnout.project.project import load_project
from turnout.yaml_text.editor import EditError

MANIFEST = """\
platform: shop
models:
  echo: {versions: {v1: {artifact: same.onnx}, v2: {artifact: same.onnx}, v3: {artifact: same.onnx}}}
  mute: {versions: {v1: {artifact: same.onnx}, v2: {artifact: same.onnx}, v3: {artifact: same.onnx}}}
stages:
  prod:
    serve: {echo: v1}  # what everybody sees
    weights:
      mute: {v1: 90, v2: 10}  # not equal
"""
HERE = StageTarget(endpoint_url="http://127.0.0.1:1")


@dataclass
class World:
    folder: Path
    stage: FakeStage
    log: RolloutLog
    functions: FakeFunctions

    def text(self) -> str:
        return (self.folder / "models.yaml").read_text()

    def do(self, action: Action, *, now: bool = True) -> Rollout:
        prepared = prepare(load_project(self.folder), action, HERE if now else None, now_s=0.0)
        connection = StageConnection(self.stage, self.functions, FakeTraffic())
        carry_out(prepared, self.log, connection if now else None)
        return self.log.read()[-1]

    def promote(self, now: bool = True, **serve: str) -> Rollout:
        self.do(Action("start", "prod", serve, 10), now=now)
        return self.do(Action("promote", "prod"), now=now)

    def way_back(self) -> Action:
        return make_return(find_stage(load_project(self.folder).manifest, "prod"), self.log.read("prod"))

    def offer(self) -> str:
        return offer_of(find_stage(load_project(self.folder).manifest, "prod"), self.log.read("prod"))

    def assert_in_step(self) -> None:
        manifest = load_project(self.folder).manifest
        planned = plan_stage(find_stage(manifest, "prod"), manifest.models)
        assert list(find_differences(self.stage.read(), planned, "the stage")) == []
        assert self.log.unfinished() is None


@pytest.fixture
def world(tmp_path: Path) -> World:
    write_identity(tmp_path / "same.onnx")
    (tmp_path / "models.yaml").write_text(MANIFEST)
    manifest = load_project(tmp_path).manifest
    return World(
        tmp_path, FakeStage(plan_stage(manifest.stages[0], manifest.models)), RolloutLog(tmp_path), FakeFunctions()
    )


@pytest.mark.parametrize("now", [True, False])
@pytest.mark.parametrize("serve", [{"echo": "v2"}, {"mute": "v2"}, {"mute": "v3"}, {"echo": "v2", "mute": "v3"}])
def test_a_return_undoes_a_promotion_in_manifest_stage_and_record(
    world: World, serve: dict[str, str], now: bool
) -> None:
    first = world.stage.read()
    promotion = world.promote(now=now, **serve)
    rollout = world.do(world.way_back(), now=now)
    assert (rollout.action, rollout.before.keys(), rollout.after) == (RETURN, promotion.after.keys(), promotion.before)
    assert (rollout.percent, rollout.done) == (100, True)
    assert load_project(world.folder).manifest.stages == load_manifest(world, MANIFEST)
    assert "# what everybody sees" in world.text()
    assert "# not equal" in world.text()
    assert world.stage.read() == first
    world.assert_in_step()


def test_weights_on_separate_lines_are_restored(world: World) -> None:
    path = world.folder / "models.yaml"
    text = MANIFEST.replace("mute: {v1: 90, v2: 10}  # not equal", "mute:\n        v1: 90  # most\n        v2: 10\n")
    path.write_text(text)
    world.promote(mute="v2")
    world.do(world.way_back())
    assert load_project(world.folder).manifest.stages == load_manifest(world, text)
    world.assert_in_step()


def load_manifest(world: World, text: str) -> object:
    (world.folder / "other.yaml").write_text(text)
    return load_project(world.folder / "other.yaml").manifest.stages


def test_each_return_undoes_one_more_promotion(world: World) -> None:
    for version in ("v2", "v3"):
        world.promote(echo=version)
    assert world.do(world.way_back()).after == {"echo": "v2"}
    assert world.do(world.way_back()).after == {"echo": "v1"}
    with pytest.raises(EditError, match=r"rollouts\.jsonl has no promotion of prod to undo"):
        world.way_back()
    assert world.text() == MANIFEST
    world.promote(echo="v3")
    assert world.do(world.way_back()).after == {"echo": "v1"}


def test_a_later_rolled_back_canary_does_not_hide_a_promotion(world: World) -> None:
    world.promote(echo="v2")
    world.do(Action("start", "prod", {"echo": "v3"}, 10))
    with pytest.raises(EditError, match="echo has a canary on prod"):
        world.way_back()
    assert world.offer() == ""
    world.do(Action("rollback", "prod"))
    assert world.do(world.way_back()).after == {"echo": "v1"}


def test_a_stage_that_serves_something_else_now_is_not_changed(world: World) -> None:
    world.promote(echo="v2")
    path = world.folder / "models.yaml"
    path.write_text(path.read_text().replace("{echo: v2}", "{echo: v3}"))
    with pytest.raises(EditError, match="prod serves echo v3, not the v2 that was promoted") as caught:
        world.way_back()
    assert "before the promotion it served echo v1" in caught.value.hint
    assert world.offer() == ""


def test_a_removed_version_cannot_be_returned_to(world: World) -> None:
    world.promote(echo="v2")
    path = world.folder / "models.yaml"
    path.write_text(path.read_text().replace("{versions: {v1: {artifact: same.onnx}, v2", "{versions: {v2", 1))
    with pytest.raises(EditError, match="echo no longer has version v1"):
        world.do(world.way_back())
    assert [rollout.action for rollout in world.log.read()] == ["start", "promote"]


def test_a_deleted_function_cannot_be_returned_to(world: World) -> None:
    world.promote(echo="v2")
    world.functions.missing.add("shop-local_echo_v1:live")
    with pytest.raises(RolloutError, match="shop-local_echo_v1:live is not deployed yet"):
        world.do(world.way_back())


def test_a_stage_that_is_out_of_step_is_still_returned(world: World) -> None:
    world.promote(echo="v2")
    world.stage.update([{"op": "replace", "path": "/variables/echo", "value": "v3"}])
    world.do(world.way_back())
    world.assert_in_step()


def test_an_interrupted_return_is_mended(world: World) -> None:
    world.promote(echo="v2")
    prepared = prepare(load_project(world.folder), world.way_back(), HERE, now_s=0.0)
    world.log.begin(prepared.rollout)
    unfinished = world.log.unfinished()
    assert unfinished is not None
    assert unfinished.command == "turnout canary rollback prod --to-previous"
    mend(load_project(world.folder).manifest, world.log, lambda _: world.stage)
    assert world.text() == MANIFEST
    world.assert_in_step()


def test_a_promotion_of_a_release_alone_cannot_be_undone(world: World) -> None:
    world.do(Action("start", "prod", {}, 10, release=True), now=False)
    world.do(Action("promote", "prod"), now=False)
    with pytest.raises(EditError, match="released code and routes") as caught:
        world.way_back()
    assert "pulumi up" in caught.value.hint


@pytest.mark.parametrize(
    ("stack", "endpoint_url", "options"),
    [
        ("", "", ""),
        ("prod", "", " --now --stack prod"),
        ("local", "http://127.0.0.1:1", " --now --url http://127.0.0.1:1"),
    ],
)
def test_the_suggested_command_names_the_place_of_the_promotion(
    world: World, stack: str, endpoint_url: str, options: str
) -> None:
    rollout = Rollout("T", "ana", "prod", "promote", {"echo": "v9"}, {"echo": "v1"}, 100, stack=stack)
    stage = find_stage(load_project(world.folder).manifest, "prod")
    rows = [Rollout(**{**fields(rollout), "endpoint_url": endpoint_url})]
    assert offer_of(stage, rows) == f"turnout canary rollback prod --to-previous{options}"


def fields(rollout: Rollout) -> dict[str, object]:
    return {name: getattr(rollout, name) for name in Rollout.__slots__}


def test_without_a_promotion_nothing_is_suggested(world: World) -> None:
    assert find_promotion([]) is None
    assert world.offer() == ""
    world.do(Action("start", "prod", {"echo": "v2"}, 10))
    world.do(Action("rollback", "prod"))
    assert world.offer() == ""

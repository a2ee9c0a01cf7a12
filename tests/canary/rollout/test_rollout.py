"""A rollout's effects in order, interrupted at any point and mended: manifest, stage and record agree at the end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.builders.counted_calls import counted_calls
from tests.builders.graphs import write_identity
from tests.builders.stage import FakeFunctions, FakeStage, FakeTraffic
from tests.builders.table_project import LONG, OLD, table_manifest
from tests.builders.waiting import PATIENCE_S
from turnout.canary.observation.source import ObservationError, ObservationStart
from turnout.canary.rollout.action import Action, prepare
from turnout.canary.rollout.log import Rollout, RolloutLog
from turnout.canary.rollout.rollout import (
    RolloutError,
    StageConnection,
    abandon,
    carry_out,
    check_finished,
    mend,
    progress_of,
)
from turnout.canary.rollout.stage_changes import find_differences
from turnout.canary.rollout.stage_control import StageControlError, StageOperation, StageState, StageTarget
from turnout.manifest.parser import check_manifest
from turnout.plan.guard_alarms import GuardAlarms
from turnout.plan.planner import make_plan
from turnout.plan.stages import find_packed, plan_stage
from turnout.plan.values import StagePlan
from turnout.problems import ProblemsError
from turnout.project.manifest_file import ManifestChangedError, replace_text
from turnout.project.project import Project, load_project
from turnout.yaml_text.editor import EditError
from turnout.yaml_text.reader import read_yaml

MANIFEST = """\
platform: shop
models:
  echo:
    versions:
      v1: {artifact: same.onnx}
      v2: {artifact: same.onnx}
      v3: {artifact: same.onnx}
      wide: {artifact: wide.onnx}
  mute: {versions: {v1: {artifact: same.onnx}, v2: {artifact: same.onnx}}}
stages:
  prod:
    serve: {echo: v1, mute: v1}  # what everybody sees
"""
HERE = StageTarget(endpoint_url="http://127.0.0.1:1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    write_identity(folder / "same.onnx")
    write_identity(folder / "wide.onnx", shape=("batch", 5))
    (folder / "models.yaml").write_text(MANIFEST)
    load_project(folder)
    return folder


@dataclass
class World:
    """The three items that must agree."""

    folder: Path
    stage: FakeStage
    log: RolloutLog
    traffic: FakeTraffic

    def project(self) -> Project:
        return load_project(self.folder)

    def planned(self) -> StagePlan:
        manifest = self.project().manifest
        return plan_stage(manifest.stages[0], manifest.models, packed=find_packed(manifest))

    def text(self) -> str:
        return (self.folder / "models.yaml").read_text()

    def do(self, action: Action, *, now: bool = True) -> Rollout:
        prepared = prepare(self.project(), action, HERE if now else None, now_s=0.0)
        carry_out(prepared, self.log, StageConnection(self.stage, FakeFunctions(), self.traffic) if now else None)
        return self.log.read()[-1]

    def assert_in_step(self) -> None:
        assert list(find_differences(self.stage.read(), self.planned(), "the stage")) == []
        assert self.log.unfinished() is None


@pytest.fixture
def world(folder: Path) -> World:
    return make_world(folder)


def make_world(folder: Path, text: str = MANIFEST) -> World:
    (folder / "models.yaml").write_text(text)
    (folder / "rollouts.jsonl").unlink(missing_ok=True)
    manifest = load_project(folder).manifest
    planned = plan_stage(manifest.stages[0], manifest.models, packed=find_packed(manifest))
    return World(folder, FakeStage(planned), RolloutLog(folder), FakeTraffic())


START = Action("start", "prod", {"echo": "v2", "mute": "v2"}, 10)


def test_a_canary_starts_moves_and_is_promoted_consistently(world: World) -> None:
    rollout = world.do(START)
    assert (rollout.before, rollout.after, rollout.percent) == (
        {"echo": "v1", "mute": "v1"},
        {"echo": "v2", "mute": "v2"},
        10,
    )
    assert set(rollout.digests["echo"]) == {"v1", "v2"}
    assert [line for line in rollout.diff.splitlines() if line[0] in "+-"][:2] == ["--- models.yaml", "+++ models.yaml"]
    assert any(line.startswith("+") and "canary" in line for line in rollout.diff.splitlines())
    assert ObservationStart.from_json(rollout.observed_since) == ObservationStart(1.0)
    assert (rollout.endpoint_url, rollout.stack, rollout.change) == ("http://127.0.0.1:1", "local", {})
    world.assert_in_step()
    world.do(Action("set", "prod", percent=50))
    world.assert_in_step()
    rollout = world.do(Action("promote", "prod", {"mute": ""}))
    assert (rollout.before, rollout.after, rollout.percent) == ({"mute": "v1"}, {"mute": "v2"}, 100)
    world.assert_in_step()
    world.do(Action("promote", "prod"))
    world.assert_in_step()
    assert world.stage.read().canary is None
    assert world.text() == MANIFEST.replace("{echo: v1, mute: v1}", "{echo: v2, mute: v2}")
    assert [rollout.action for rollout in world.log.read()] == ["start", "set", "promote", "promote"]


def test_a_rollback_restores_every_byte(world: World) -> None:
    first = world.stage.read()
    world.do(START)
    rollout = world.do(Action("rollback", "prod"))
    assert (rollout.percent, rollout.observed_since) == (0, {})
    assert world.text() == MANIFEST
    assert world.stage.read() == first


def test_a_stage_without_observations_is_still_changed(world: World) -> None:
    world.traffic.answer = ObservationError("nobody counts")
    assert world.do(START).observed_since == {}
    world.assert_in_step()


def test_without_a_stage_only_manifest_and_record_change(world: World) -> None:
    rollout = world.do(START, now=False)
    assert (rollout.stack, rollout.endpoint_url, rollout.done) == ("", "", True)
    assert world.stage.states == [world.stage.read()]


def test_an_incompatible_version_is_rejected_before_any_change(world: World) -> None:
    with pytest.raises(ProblemsError, match="is incompatible with"):
        world.do(Action("start", "prod", {"echo": "wide"}, 10))
    assert (world.text(), world.log.read(), len(world.stage.states)) == (MANIFEST, (), 1)


def test_a_stage_that_differs_from_the_manifest_is_not_changed(world: World) -> None:
    world.stage.update([{"op": "replace", "path": "/variables/echo", "value": "v3"}])
    with pytest.raises(RolloutError, match="echo is v1 in the manifest, v3 in the live stage"):
        world.do(START)
    assert (world.text(), world.log.read()) == (MANIFEST, ())


def test_a_canary_that_was_not_applied_is_not_promoted_directly(world: World) -> None:
    world.do(START, now=False)
    with pytest.raises(RolloutError, match="a canary in the manifest, but none in the live stage") as caught:
        world.do(Action("promote", "prod"))
    assert "turnout canary set prod" in caught.value.hint
    world.do(Action("set", "prod", percent=10))
    world.do(Action("promote", "prod"))
    world.assert_in_step()


class WatchedStage(FakeStage):
    """A stage whose gateway reads the edited manifest just before the first change arrives."""

    def update(self, operations: Sequence[StageOperation]) -> None:
        if self.read().canary is not None:
            super().update([{"op": "remove", "path": "/canarySettings"}])
            raise StageControlError("there is no canary any more")
        super().update(operations)


def test_a_stage_changed_concurrently_is_read_again(world: World) -> None:
    world.do(START)
    world.stage = WatchedStage(world.planned())
    world.do(Action("rollback", "prod"))
    world.assert_in_step()


def test_a_version_that_is_not_deployed_is_rejected_before_any_change(world: World) -> None:
    functions = FakeFunctions()
    functions.missing = {"shop-local_echo_v2:live"}
    prepared = prepare(world.project(), START, HERE, now_s=0.0)
    with pytest.raises(RolloutError, match="shop-local_echo_v2:live is not deployed yet") as caught:
        carry_out(prepared, world.log, StageConnection(world.stage, functions, world.traffic))
    assert "pulumi up" in caught.value.hint
    assert (world.text(), world.log.read()) == (MANIFEST, ())


@pytest.mark.parametrize(
    ("percent", "opens"),
    [(20, True), (10, True), (5, False)],
)
def test_canary_whose_alarm_is_in_alarm_gets_no_more_requests(world: World, percent: float, *, opens: bool) -> None:
    world.do(Action("start", "prod", {"echo": "v2"}, 10))
    asked: list[GuardAlarms] = []

    def ringing(alarms: GuardAlarms) -> tuple[str, ...]:
        asked.append(alarms)
        return ("shop-local_echo_v2_errors",)

    text = world.text()
    prepared = prepare(world.project(), Action("set", "prod", percent=percent), HERE, now_s=0.0)
    connection = StageConnection(world.stage, FakeFunctions(), world.traffic, ringing)
    if not opens:
        carry_out(prepared, world.log, connection)
        assert (asked, world.planned().canary.percent if world.planned().canary else None) == ([], percent)
        return
    with pytest.raises(RolloutError, match="shop-local_echo_v2_errors is in ALARM"):
        carry_out(prepared, world.log, connection)
    assert asked == [GuardAlarms(("shop-local_echo_v2_errors",))]
    assert world.text() == text


@pytest.mark.parametrize("start", [START, Action("start", "prod", {"echo": "v2"}, 10, routed=True)])
def test_canary_whose_alarm_is_in_alarm_does_not_start(world: World, start: Action) -> None:
    prepared = prepare(world.project(), start, HERE, now_s=0.0)
    assert prepared.alarms is not None
    assert "shop-local_echo_v2_errors" in prepared.alarms.names
    connection = StageConnection(world.stage, FakeFunctions(), world.traffic, lambda alarms: alarms.names[:1])
    with pytest.raises(RolloutError, match="in ALARM: the canary would end immediately"):
        carry_out(prepared, world.log, connection)
    assert (world.text(), world.log.read()) == (MANIFEST, ())


ROUTED = """\
models:
  echo:
    versions: {v1: {artifact: same.onnx}, v2: {artifact: same.onnx}}
    routing: {fallback: v1}
  mute: {versions: {v1: {artifact: same.onnx}, v2: {artifact: same.onnx}, v3: {artifact: same.onnx}}}
stages:
  prod:
    serve: {echo: v1}
    weights: {mute: {v1: 90, v2: 10}}
"""


def test_models_with_routers_are_promoted_through_their_routes(folder: Path) -> None:
    world = make_world(folder, ROUTED)
    world.do(Action("start", "prod", {"echo": "v2", "mute": "v3"}, 10))
    canary = world.stage.read().canary
    assert canary is not None
    assert canary.overrides == {"echoRoute": "v2.100", "mute": "v3", "canary": "true"}
    world.assert_in_step()
    rollout = world.do(Action("promote", "prod", {"mute": ""}))
    assert (rollout.before, rollout.after) == ({"mute": "v1.90,v2.10"}, {"mute": "v3"})
    world.assert_in_step()
    world.do(Action("promote", "prod"))
    world.assert_in_step()
    assert "weights: {mute: {v3: 100}}" in world.text()
    variables = world.stage.read().variables
    assert {name: variables[name] for name in ("echo", "echoRoute", "mute", "muteRoute")} == {
        "echo": "router",
        "echoRoute": "v2.100",
        "mute": "router",
        "muteRoute": "v3.100",
    }


def test_unrelated_differences_do_not_matter(world: World) -> None:
    world.stage.update([{"op": "replace", "path": "/variables/other", "value": "v3"}])
    world.do(START)
    assert world.stage.read().variables["other"] == "v3"


class Killed(BaseException):
    """The process was killed."""


class Killer:
    """Lets a number of effects pass; the process is killed before or after the next one."""

    def __init__(self, passing: int, *, after: bool) -> None:
        self.passing = passing
        self.after = after

    def effect(self, act: Callable[..., Any]) -> Callable[..., Any]:
        def acting(*arguments: Any) -> Any:
            self.passing -= 1
            if self.passing < 0 and not self.after:
                raise Killed
            result = act(*arguments)
            if self.passing < 0:
                raise Killed
            return result

        return acting


class KilledLog(RolloutLog):
    def __init__(self, folder: Path, killer: Killer) -> None:
        super().__init__(folder)
        self._write = killer.effect(super()._write)  # type: ignore[method-assign]


class KilledStage:
    def __init__(self, stage: FakeStage, killer: Killer) -> None:
        self._stage = stage
        self.update: Callable[[Sequence[StageOperation]], None] = killer.effect(stage.update)

    def read(self) -> StageState:
        return self._stage.read()


def killed(world: World, killer: Killer, action: Action | None) -> bool:
    """Perform the action, or mend if it is None; return whether the process was killed."""
    log, stage, write = KilledLog(world.folder, killer), KilledStage(world.stage, killer), killer.effect(replace_text)
    try:
        if action is None:
            mend(world.project().manifest, log, lambda _: stage, write=write)
        else:
            prepared = prepare(world.project(), action, HERE, now_s=0.0)
            carry_out(prepared, log, StageConnection(stage, FakeFunctions(), world.traffic), write=write)
    except Killed:
        return True
    except EditError:
        pass
    return False


actions = st.sampled_from(
    [
        START,
        Action("start", "prod", {"echo": "v3"}, 5),
        Action("set", "prod", percent=50),
        Action("promote", "prod", {"mute": ""}),
        Action("promote", "prod"),
        Action("rollback", "prod"),
    ]
)
kills = st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=3)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(st.lists(st.tuples(actions, kills), min_size=1, max_size=5))
def test_a_kill_at_any_point_loses_nothing_and_leaves_nothing_half_done(
    folder: Path, steps: list[tuple[Action, list[tuple[int, bool]]]]
) -> None:
    world = make_world(folder)
    for action, deaths in steps:
        before = (world.text(), world.stage.read(), world.log.read())
        expected = make_expected(world, action)
        for passing, after in deaths:
            if not killed(world, Killer(passing, after=after), None if world.log.unfinished() else action):
                break
            if rollout := world.log.unfinished():
                with pytest.raises(RolloutError, match="was interrupted"):
                    check_finished(world.log)
                assert progress_of(world.project().manifest, rollout)
            elif (world.text(), world.stage.read(), world.log.read()) != before:
                break
        world_is_old = (world.text(), world.stage.read(), world.log.read()) == before
        if world.log.unfinished():
            mend(world.project().manifest, world.log, lambda _: world.stage)
        elif world_is_old and expected is not None:
            world.do(action)
        world.assert_in_step()
        assert world.text() == (before[0] if expected is None else expected)
        assert len(world.log.read()) == len(before[2]) + (expected is not None)


def make_expected(world: World, action: Action) -> str | None:
    """Return the manifest after the action, None if the action is rejected."""
    try:
        return prepare(world.project(), action, HERE, now_s=0.0).text
    except EditError:
        return None


def test_traffic_sees_only_the_old_or_the_new_version(world: World) -> None:
    """At every moment of a promotion each request is served completely by v1 or v2, and the last one by v2."""
    world.do(START)
    world.do(Action("promote", "prod"))
    seen = []
    for state in world.stage.states:
        shares = [(state.variables, 100.0)]
        if state.canary and state.canary.percent:
            shares.append(({**state.variables, **state.canary.overrides}, state.canary.percent))
        seen.append([(share["echo"], share["mute"], share["canary"]) for share, _ in shares])
    old, new = ("v1", "v1", "false"), ("v2", "v2", "true")
    assert seen == [[old], [old, new], [("v2", "v2", "false")], [("v2", "v2", "false")]]


def test_a_rollout_interrupted_before_the_manifest_edit_can_be_forgotten(world: World) -> None:
    assert killed(world, Killer(0, after=True), START)
    assert progress_of(world.project().manifest, world.log.read()[-1]) == (
        f"neither {world.project().manifest.source} nor the stage is changed yet"
    )
    assert abandon(world.project().manifest, world.log) is not None
    assert (world.text(), world.log.read()) == (MANIFEST, ())
    assert abandon(world.project().manifest, world.log) is None
    assert mend(world.project().manifest, world.log, lambda _: world.stage) is None


def test_a_rollout_interrupted_later_can_be_left_as_it_is(world: World) -> None:
    assert killed(world, Killer(1, after=True), START)
    assert "is edited, and the stage may not be changed yet" in progress_of(
        world.project().manifest, world.log.read()[-1]
    )
    abandon(world.project().manifest, world.log)
    (rollout,) = world.log.read()
    assert (rollout.done, rollout.note) == (True, "abandoned unfinished")
    assert world.stage.read().canary is None


def test_a_concurrent_manual_edit_with_the_same_meaning_is_kept(world: World) -> None:
    assert killed(world, Killer(1, after=True), START)
    path = world.folder / "models.yaml"
    path.write_text(path.read_text() + "# a thought\n")
    mend(world.project().manifest, world.log, lambda _: world.stage)
    world.assert_in_step()
    assert world.text().endswith("# a thought\n")


def test_a_concurrent_manual_edit_with_another_meaning_is_not_undone(world: World) -> None:
    assert killed(world, Killer(1, after=True), START)
    path = world.folder / "models.yaml"
    path.write_text(path.read_text().replace("percent: 10", "percent: 20"))
    with pytest.raises(RolloutError, match="no longer matches the interrupted command") as caught:
        mend(world.project().manifest, world.log, lambda _: world.stage)
    assert "--abandon" in caught.value.hint


@pytest.mark.parametrize("edited", [{"change": {}}, {"change": []}, {"change": None}, {"action": "dance"}], ids=str)
def test_an_open_record_edited_by_hand_is_rejected_and_can_be_closed(world: World, edited: dict[str, object]) -> None:
    assert killed(world, Killer(1, after=True), START)
    path = world.log.path
    path.write_text(json.dumps(json.loads(path.read_text()) | edited) + "\n")
    before = world.text()
    with pytest.raises(RolloutError, match="is not one that turnout wrote") as caught:
        mend(world.project().manifest, world.log, lambda _: world.stage)
    assert "--abandon" in caught.value.hint
    assert world.text() == before
    abandon(world.project().manifest, world.log)
    assert world.log.unfinished() is None


KILLED = """
import os, pathlib, signal, sys
from turnout.project.manifest_file import editing, replace_text
from turnout.project.project import load_project
from turnout.canary.rollout.action import Action, prepare
from turnout.canary.rollout.rollout import carry_out
from turnout.canary.rollout.log import RolloutLog
folder = pathlib.Path(sys.argv[1])
def write(path, text, before):
    replace_text(path, text, before)
    os.kill(os.getpid(), signal.SIGKILL)
with editing(folder):
    action = Action("start", "prod", {"echo": "v2", "mute": "v2"}, 10)
    carry_out(prepare(load_project(folder), action, None, now_s=0.0), RolloutLog(folder), None, write=write)
"""


def test_a_rollout_of_a_killed_process_is_mended(world: World) -> None:
    process = subprocess.run([sys.executable, "-c", KILLED, str(world.folder)], timeout=PATIENCE_S, check=False)
    assert process.returncode == -signal.SIGKILL
    assert world.log.unfinished() is not None
    mend(world.project().manifest, world.log, lambda _: world.stage)
    assert world.log.unfinished() is None
    assert world.project().manifest.stages[0].canary is not None


class SavingStage(FakeStage):
    """A stage during whose query models.yaml is saved by a user."""

    def __init__(self, plan: StagePlan, save: Callable[[], object]) -> None:
        super().__init__(plan)
        self._save = save

    def read(self) -> StageState:
        self._save()
        return super().read()


STARTED = MANIFEST.replace("mute: v1}", "mute: v1}\n    canary: {percent: 10, serve: {echo: v2, mute: v2}}")
NEW_STAGE = "  next: {serve: {echo: v3, mute: v1}}\n"


@pytest.mark.parametrize(
    "action",
    [START, Action("set", "prod", percent=50), Action("promote", "prod", {"echo": ""}), Action("rollback", "prod")],
    ids=lambda action: action.kind,
)
def test_an_edit_saved_while_the_stage_is_queried_is_kept(folder: Path, action: Action) -> None:
    text = MANIFEST if action is START else STARTED
    world = make_world(folder, text)
    path = folder / "models.yaml"
    stage = SavingStage(world.planned(), lambda: path.write_text(text + NEW_STAGE))
    prepared = prepare(world.project(), action, HERE, now_s=0.0)
    connection = StageConnection(stage, FakeFunctions(), world.traffic)
    with pytest.raises(ManifestChangedError, match=r"models\.yaml was changed while this command ran"):
        carry_out(prepared, world.log, connection)
    assert world.text() == text + NEW_STAGE
    assert (world.log.read(), len(stage.states)) == ((), 1)
    prepared = prepare(world.project(), action, HERE, now_s=0.0)
    carry_out(prepared, world.log, connection)
    assert NEW_STAGE in world.text()


def test_an_edit_saved_while_the_record_is_written_is_kept(world: World) -> None:
    def save_and_write(path: Path, text: str, before: bytes) -> None:
        path.write_text(MANIFEST + NEW_STAGE)
        replace_text(path, text, before)

    prepared = prepare(world.project(), START, None, now_s=0.0)
    with pytest.raises(ManifestChangedError):
        carry_out(prepared, world.log, None, write=save_and_write)
    assert (world.text(), world.log.read()) == (MANIFEST + NEW_STAGE, ())


def test_an_edit_saved_while_a_rollout_is_mended_is_kept(world: World) -> None:
    prepared = prepare(world.project(), START, None, now_s=0.0)
    world.log.begin(prepared.rollout)

    def save_and_write(path: Path, text: str, before: bytes) -> None:
        path.write_text(MANIFEST + NEW_STAGE)
        replace_text(path, text, before)

    with pytest.raises(ManifestChangedError):
        mend(world.project().manifest, world.log, lambda _: world.stage, write=save_and_write)
    assert world.text() == MANIFEST + NEW_STAGE
    assert world.log.unfinished() is not None


@pytest.mark.parametrize(
    "action",
    [START, Action("set", "prod", percent=20), Action("promote", "prod"), Action("rollback", "prod")],
    ids=lambda action: action.kind,
)
def test_a_command_reads_the_manifest_once_before_the_edit_and_once_after(world: World, action: Action) -> None:
    if action.kind != "start":
        world.do(START)
    with counted_calls(read_yaml, check_manifest, make_plan) as calls:
        world.do(action)
    assert calls == {"read_yaml": 2, "check_manifest": 2, "make_plan": 1}


def test_a_manifest_saved_while_a_command_prepares_is_not_overwritten(world: World) -> None:
    project = world.project()
    (world.folder / "models.yaml").write_text(MANIFEST + "# saved\n")
    prepared = prepare(project, START, HERE, now_s=0.0)
    with pytest.raises(ManifestChangedError):
        carry_out(prepared, world.log, StageConnection(world.stage, FakeFunctions(), world.traffic))
    assert world.text() == MANIFEST + "# saved\n"
    assert world.log.unfinished() is None


def test_table_of_a_canary_is_written_before_the_stage_names_it(folder: Path) -> None:
    world = make_world(folder, table_manifest("same.onnx"))
    first = world.stage.read()
    assert "ChoiceTable" in first.variables
    start = Action("start", "prod", {LONG[7]: "v2"}, 10)
    prepared = prepare(world.project(), start, HERE, now_s=0.0)
    assert len(json.dumps(prepared.rollout.change)) < 1000  # the record names the table and does not contain it

    def kill(_operations: Sequence[StageOperation]) -> None:
        raise KeyboardInterrupt

    stage = world.stage
    stage.update = kill  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        carry_out(prepared, world.log, StageConnection(stage, FakeFunctions(), world.traffic))
    assert (len(stage.states), len(stage.tables)) == (1, 2)
    del stage.update
    stage.tables = dict(first.tables)  # mend writes the table even if it was deleted meanwhile
    mended = mend(world.project().manifest, world.log, lambda _: stage)
    assert mended is not None
    world.assert_in_step()
    assert stage.read().canary is not None
    world.do(Action("promote", "prod"))
    world.assert_in_step()
    assert stage.read().variables["ChoiceTable"] != first.variables["ChoiceTable"]
    world.do(Action("return", "prod", {LONG[7]: OLD}))
    world.assert_in_step()
    assert stage.read().variables == first.variables

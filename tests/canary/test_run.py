"""A canary run, tick by tick, on a fake clock: it moves, judges, ends, resumes, and gives way to other changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.builders.graphs import write_identity
from tests.builders.stage import FakeFunctions, FakeStage, FakeTraffic
from turnout.canary.judging.observed import AgreementCounts, Arm, Observation
from turnout.canary.judging.states import Phase, Verdict
from turnout.canary.observation.source import ObservationError
from turnout.canary.rollout.action import Action, prepare
from turnout.canary.rollout.log import RolloutLog
from turnout.canary.rollout.rollout import RolloutError, StageConnection, carry_out
from turnout.canary.rollout.stage_changes import find_differences
from turnout.canary.rollout.stage_control import StageControlError, StageOperation, StageState, StageTarget
from turnout.canary.run import CanaryRun, RunSettings, Surroundings, Tick
from turnout.manifest.judgement import Agreement, Judgement
from turnout.plan.stages import plan_stage
from turnout.project.project import load_project
from turnout.yaml_text.editor import EditError

MANIFEST = """\
models:
  echo: {versions: {v1: {artifact: same.onnx}, v2: {artifact: same.onnx}}}
stages:
  prod:
    serve: {echo: v1}
    canary: {percent: 10, serve: {echo: v2}}
"""
HERE = StageTarget(endpoint_url="http://127.0.0.1:1")
GOOD = Observation(Arm(9000, 0, (9000, 0)), Arm(9000, 0, (9000, 0)), (1.0,))
BAD = Observation(Arm(9000, 0, (9000, 0)), Arm(900, 400, (900, 0)), (1.0,))
NOTHING = Observation(Arm(0, 0, (0, 0)), Arm(0, 0, (0, 0)), (1.0,))
BAKE_S = 60.0


class FlakyStage(FakeStage):
    """A stage that temporarily cannot be changed."""

    failures = 0

    def update(self, operations: Sequence[StageOperation]) -> None:
        if self.failures:
            self.failures -= 1
            raise StageControlError("nobody listens")
        super().update(operations)


@dataclass
class Scene:
    folder: Path
    stage: FlakyStage
    traffic: FakeTraffic
    log: RolloutLog
    now_s: float = 1_000_000.0
    compare: Callable[[float], Mapping[str, AgreementCounts]] | None = None
    judgement: Judgement = field(default_factory=lambda: Judgement(steps=(5.0, 50.0), bake_minutes=BAKE_S / 60))

    def run(self, settings: RunSettings | None = None) -> CanaryRun:
        around = Surroundings(
            lambda: load_project(self.folder),
            self.folder / "models.yaml",
            self.log,
            HERE,
            StageConnection(self.stage, FakeFunctions(), self.traffic),
            self.compare,
            lambda: self.now_s,
            self.sleep,
        )
        return CanaryRun(around, "prod", self.judgement, settings or RunSettings())

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def do(self, action: Action) -> None:
        prepared = prepare(load_project(self.folder), action, HERE, now_s=self.now_s)
        carry_out(prepared, self.log, StageConnection(self.stage, FakeFunctions(), self.traffic))

    def state(self) -> StageState:
        return self.stage.read()

    def assert_in_step(self) -> None:
        manifest = load_project(self.folder).manifest
        assert list(find_differences(self.state(), plan_stage(manifest.stages[0], manifest.models), "it")) == []
        assert self.log.unfinished() is None


def make_scene(folder: Path, text: str) -> Scene:
    """Make a project of these models.yaml, and its first stage."""
    write_identity(folder / "same.onnx")
    (folder / "models.yaml").write_text(text)
    manifest = load_project(folder).manifest
    plan = plan_stage(manifest.stages[0], manifest.models)
    return Scene(folder, FlakyStage(plan), FakeTraffic(GOOD), RolloutLog(folder))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return make_scene(tmp_path, MANIFEST)


def walk(run: CanaryRun, most: int = 50) -> list[Tick]:
    ticks = []
    for tick in run.ticks(BAKE_S / 2):
        ticks.append(tick)
        assert len(ticks) < most
    return ticks


def moves(ticks: list[Tick]) -> list[tuple[float, float]]:
    return [(tick.at.percent, tick.state.percent) for tick in ticks if tick.at.percent != tick.state.percent]


@pytest.mark.parametrize(("percent", "whose"), [(0, "itself"), (100, "the baseline")])
def test_a_share_without_a_baseline_is_rejected(scene: Scene, percent: float, whose: str) -> None:
    scene.do(Action("set", "prod", percent=percent))
    scene.judgement = Judgement()
    with pytest.raises(RolloutError, match=f"at {percent}% the canary of prod leaves no requests to {whose}") as caught:
        scene.run()
    assert "--steps 5,25,50" in caught.value.hint
    assert [rollout.action for rollout in scene.log.read()] == ["set"]
    scene.judgement = Judgement(strategy="all_at_once")
    assert scene.run().state.percent == 100


def test_a_good_canary_is_moved_step_by_step_to_its_promotion(scene: Scene) -> None:
    ticks = walk(scene.run())
    assert moves(ticks) == [(5, 50), (50, 100)]
    assert ticks[-1].state.phase is Phase.PROMOTED
    assert [(rollout.action, rollout.percent, rollout.verdict) for rollout in scene.log.read()] == [
        ("set", 5, ""),
        ("set", 50, Verdict.SUCCESSFUL),
        ("promote", 100, Verdict.SUCCESSFUL),
    ]
    assert scene.state().variables["echo"] == "v2"
    assert scene.state().canary is None
    scene.assert_in_step()


def test_a_bad_canary_is_rolled_back_immediately(scene: Scene) -> None:
    scene.traffic.answer = BAD
    (tick,) = walk(scene.run())
    assert tick.state.phase is Phase.ROLLED_BACK
    assert [(rollout.action, rollout.verdict) for rollout in scene.log.read()] == [
        ("set", ""),
        ("rollback", Verdict.FAILED),
    ]
    assert scene.state().variables["echo"] == "v1"
    assert scene.state().canary is None
    scene.assert_in_step()


def test_a_bad_canary_without_auto_rollback_keeps_its_share(scene: Scene) -> None:
    scene.traffic.answer = BAD
    scene.judgement = Judgement(steps=(5.0,), auto_rollback=False)
    (tick,) = walk(scene.run())
    assert tick.state.phase is Phase.PAUSED
    assert scene.log.read()[-1].verdict == Verdict.FAILED
    assert scene.state().canary is not None
    scene.assert_in_step()


def test_a_canary_without_a_verdict_keeps_its_share(scene: Scene) -> None:
    scene.traffic.answer = NOTHING
    ticks = walk(scene.run())
    assert (ticks[-1].state.phase, ticks[-1].state.percent) == (Phase.LEFT, 5)
    assert ticks[-1].time_s - ticks[0].time_s == 3 * BAKE_S
    assert scene.log.read()[-1].verdict == Verdict.INCONCLUSIVE
    assert scene.state().canary is not None
    scene.assert_in_step()


def test_a_source_without_observations_moves_nothing(scene: Scene) -> None:
    run = scene.run()
    looks = run.ticks(BAKE_S)
    scene.traffic.answer = ObservationError("nobody counts")
    assert [next(looks).problem for _ in range(5)] == ["nobody counts"] * 5
    scene.traffic.answer = GOOD
    assert moves([next(looks)]) == [(5, 50)]


def test_an_unobserved_start_is_observed_from_the_first_tick_on(scene: Scene) -> None:
    scene.traffic.answer = ObservationError("nobody counts")
    run = scene.run()
    scene.traffic.answer = GOOD
    assert next(run.ticks(1)).observation == GOOD
    assert scene.traffic.starts == 1


def test_an_interrupted_run_resumes_where_it_was(scene: Scene) -> None:
    settings = RunSettings((5.0, 20.0, 40.0), 2.0)
    first = scene.run(settings)
    for tick in first.ticks(BAKE_S):
        if tick.state.percent == 20:
            break
    scene.now_s += 3600
    second = scene.run()
    assert (second.resumed, second.state, second.judgement) == (True, first.state, first.judgement)
    assert len(scene.log.read()) == 2
    assert moves(walk(second)) == [(20, 40), (40, 100)]
    scene.assert_in_step()


@pytest.mark.parametrize(
    "action", [Action("set", "prod", percent=7), Action("promote", "prod"), Action("rollback", "prod")]
)
def test_a_run_ends_when_the_canary_is_moved_by_another_user(scene: Scene, action: Action) -> None:
    looks = scene.run().ticks(1)
    next(looks)
    scene.do(action)
    with pytest.raises(RolloutError, match=f"`turnout canary {action.kind} prod` in the meantime"):
        next(looks)
    scene.assert_in_step()


def test_a_run_keeps_a_concurrent_edit_and_moves_at_the_next_tick(scene: Scene) -> None:
    path = scene.folder / "models.yaml"
    edits = ["# a thought\n"]

    class Saving(FlakyStage):
        def read(self) -> StageState:
            if edits and run.state.percent == 5 and scene.now_s > 1_000_000.0 + BAKE_S / 2:
                path.write_text(path.read_text() + edits.pop())
            return super().read()

    run = scene.run()
    scene.stage.__class__ = Saving
    ticks = walk(run)
    assert "models.yaml was changed" in "".join(tick.problem for tick in ticks)
    assert edits == []
    assert path.read_text().endswith("# a thought\n")
    assert ticks[-1].state.phase is Phase.PROMOTED
    scene.assert_in_step()


def test_a_run_restarts_after_the_canary_was_moved_by_another_user(scene: Scene) -> None:
    next(scene.run().ticks(1))
    scene.do(Action("set", "prod", percent=7))
    assert not scene.run().resumed


@pytest.mark.parametrize("settings", [RunSettings((9.0,)), RunSettings(bake_minutes=7.0)])
def test_changed_steps_restart_the_run(scene: Scene, settings: RunSettings) -> None:
    next(scene.run().ticks(1))
    assert not scene.run(settings).resumed


def test_a_move_that_did_not_reach_the_stage_is_finished_later(scene: Scene) -> None:
    run = scene.run()
    scene.traffic.answer = BAD
    scene.stage.failures = 4  # each attempt is made twice
    looks = run.ticks(1)
    assert next(looks).problem == "nobody listens"
    assert scene.log.unfinished() is not None
    assert next(looks).problem == "nobody listens"
    assert next(looks).state.phase is Phase.ROLLED_BACK
    assert list(looks) == []
    assert scene.state().canary is None
    scene.assert_in_step()


def test_outputs_are_compared_across_the_ticks_of_a_step(scene: Scene) -> None:
    scene.judgement = Judgement(steps=(5.0,), agreement=Agreement(10.0, 0.9))
    scene.compare = lambda _since_s: {"echo": AgreementCounts(40, 4)}
    ticks = walk(scene.run())
    assert ticks[-1].state.phase is Phase.ROLLED_BACK
    seen = [tick.observation.agreement["echo"] for tick in ticks if tick.observation]
    assert seen == [AgreementCounts(40 * (number + 1), 4 * (number + 1)) for number in range(len(ticks))]


def test_a_stage_without_a_canary_cannot_run(scene: Scene) -> None:
    scene.do(Action("rollback", "prod"))
    with pytest.raises(EditError, match="prod has no canary"):
        scene.run()


def test_a_run_does_not_start_while_a_rollout_is_half_done(scene: Scene) -> None:
    scene.stage.failures = 2
    with pytest.raises(StageControlError):
        scene.do(Action("set", "prod", percent=30))
    with pytest.raises(RolloutError, match="was interrupted"):
        scene.run()


TEAMS = """\
models:
  echo: {versions: {v1: {artifact: same.onnx}, v2: {artifact: same.onnx}}}
  mute: {versions: {v1: {artifact: same.onnx}, v2: {artifact: same.onnx}}}
  dumb: {versions: {v1: {artifact: same.onnx}, v2: {artifact: same.onnx}}}
stages:
  prod:
    serve: {echo: v1, mute: v1, dumb: v1}
    canary: {percent: 10, serve: {echo: v2, mute: v2}}
"""


@pytest.fixture
def teams(tmp_path: Path) -> Scene:
    return make_scene(tmp_path, TEAMS)


def served_of(scene: Scene) -> dict[str, str]:
    return dict(load_project(scene.folder).manifest.stages[0].serve)


def test_failing_model_is_rolled_back_alone_and_the_run_continues(teams: Scene) -> None:
    teams.traffic.models["mute"] = BAD
    ticks = walk(teams.run())
    assert ticks[-1].state.phase is Phase.PROMOTED
    assert served_of(teams) == {"echo": "v2", "mute": "v1", "dumb": "v1"}
    steps = [(rollout.action, sorted(rollout.after), rollout.verdict) for rollout in teams.log.read()]
    assert steps == [
        ("set", ["echo", "mute"], ""),
        ("rollback", ["mute"], Verdict.FAILED),
        ("set", ["echo"], Verdict.SUCCESSFUL),
        ("promote", ["echo"], Verdict.SUCCESSFUL),
    ]
    assert {check.name for check in ticks[0].checks} == {
        f"{check} of {model}" for check in ("errors", "latency") for model in ("echo", "mute")
    }
    assert {check.name for check in ticks[-1].checks} == {"errors", "latency"}
    teams.assert_in_step()


def test_ready_model_is_promoted_alone_and_the_other_one_continues(teams: Scene) -> None:
    teams.judgement = Judgement(bake_minutes=BAKE_S / 60)
    teams.traffic.models["mute"] = NOTHING
    ticks = walk(teams.run())
    assert ticks[-1].state.phase is Phase.LEFT
    assert served_of(teams) == {"echo": "v2", "mute": "v1", "dumb": "v1"}
    assert [(rollout.action, sorted(rollout.after)) for rollout in teams.log.read()] == [
        ("set", ["echo", "mute"]),
        ("promote", ["echo"]),
        ("set", ["mute"]),
    ]
    teams.assert_in_step()


def test_run_continues_with_models_that_join_and_without_those_that_leave(teams: Scene) -> None:
    run = teams.run()
    teams.traffic.models |= {"echo": NOTHING, "mute": NOTHING, "dumb": NOTHING}
    ticks = run.ticks(BAKE_S / 2)
    next(ticks)
    teams.do(Action("start", "prod", {"dumb": "v2"}, run.state.percent))
    assert any(name.endswith("of dumb") for name in (check.name for check in next(ticks).checks))
    teams.do(Action("rollback", "prod", {"echo": ""}))
    assert {check.name.rpartition(" of ")[2] for check in next(ticks).checks} == {"mute", "dumb"}
    assert teams.run().resumed
    teams.do(Action("set", "prod", percent=33))
    with pytest.raises(RolloutError, match="ran `turnout canary set prod` in the meantime"):
        next(ticks)
    assert not teams.run().resumed


def test_routed_canary_runs_independently(teams: Scene) -> None:
    teams.do(Action("start", "prod", {"dumb": "v2"}, 40, routed=True))
    whole = teams.run()
    around = Surroundings(
        lambda: load_project(teams.folder),
        teams.folder / "models.yaml",
        teams.log,
        HERE,
        StageConnection(teams.stage, FakeFunctions(), teams.traffic),
        None,
        lambda: teams.now_s,
        teams.sleep,
    )
    routed = CanaryRun(around, "prod", teams.judgement, RunSettings(), "dumb")
    assert teams.state().variables["dumbRoute"] == "v1.95,v2.5"
    with pytest.raises(EditError, match="mute shares the canary of prod"):
        CanaryRun(around, "prod", teams.judgement, RunSettings(), "mute")
    assert walk(routed)[-1].state.phase is Phase.PROMOTED
    assert served_of(teams)["dumb"] == "v2"
    assert "dumbRoute" not in teams.state().variables
    assert teams.state().canary is not None
    assert walk(whole)[-1].state.phase is Phase.PROMOTED
    assert served_of(teams) == {"echo": "v2", "mute": "v2", "dumb": "v2"}
    teams.assert_in_step()

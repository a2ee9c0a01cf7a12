"""A canary's run: observe, judge, move, record, wait, until it is promoted, rolled back or stopped.

rollouts.jsonl records the progress of a run, so it may be ended at any point and resumes when it is started again: each
of its moves is a rollout like any other. Whatever temporarily cannot be reached is tried again at the next tick.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from turnout.canary.judging.checks import ALL_AT_ONCE, shares_of
from turnout.canary.judging.observed import AgreementCounts, Observation
from turnout.canary.judging.states import TERMINAL, Check, Phase, State, Verdict, judge, start, step
from turnout.canary.observation.source import ObservationError, ObservationStart
from turnout.canary.rollout.action import Action, prepare
from turnout.canary.rollout.log import Rollout, RolloutLog
from turnout.canary.rollout.manifest_edits import find_canary, find_stage
from turnout.canary.rollout.rollout import RolloutError, StageConnection, carry_out, check_finished, mend
from turnout.canary.rollout.stage_control import StageControlError, StageTarget
from turnout.manifest.judgement import Judgement
from turnout.manifest.parser import Canary
from turnout.plan.planner import make_plan
from turnout.plan.served_by import Watched, watched_of
from turnout.plan.stages import find_packed, plan_stage
from turnout.project.manifest_file import ManifestChangedError, editing
from turnout.project.project import Project

Compare = Callable[[float], Mapping[str, AgreementCounts]]
"""Lets both versions answer requests sampled since a time and since the last call: model -> how they agree."""

VERDICTS: Mapping[Phase, Verdict] = {
    Phase.PROMOTED: Verdict.SUCCESSFUL,
    Phase.ROLLED_BACK: Verdict.FAILED,
    Phase.PAUSED: Verdict.FAILED,
    Phase.LEFT: Verdict.INCONCLUSIVE,
}
"""The verdict that the record stores for a run that ends in this phase."""


@dataclass(frozen=True, slots=True)
class Tick:
    """The result of one tick.

    Args:
        time_s: seconds since 1970.
        at: the run's state before.
        state: the run's state after it.
        observation: the observation since the step started; None if no source answered.
        checks: the resulting checks.
        problem: why nothing could be observed or moved, or empty.
    """

    time_s: float
    at: State
    state: State
    observation: Observation | None = None
    checks: tuple[Check, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The parts that a run uses.

    Args:
        load: reads the project.
        manifest: the manifest's file.
        log: the record of rollouts.
        target: where the stage is served.
        connection: the connection to the target.
        compare: for the agreement check, None if there is none.
        clock: seconds since 1970.
        sleep: waits for some seconds.
    """

    load: Callable[[], Project]
    manifest: Path
    log: RolloutLog
    target: StageTarget
    connection: StageConnection
    compare: Compare | None
    clock: Callable[[], float]
    sleep: Callable[[float], None]


@dataclass(frozen=True, slots=True)
class RunSettings:
    """Overrides of the manifest's judgement from the command line; None for no override."""

    steps: tuple[float, ...] | None = None
    bake_minutes: float | None = None

    def over(self, judgement: Judgement) -> Judgement:
        """Return the judgement of the run."""
        if self.steps is not None:
            judgement = replace(judgement, strategy="canary", steps=self.steps)
        return judgement if self.bake_minutes is None else replace(judgement, bake_minutes=self.bake_minutes)

    @staticmethod
    def from_json(fields: Mapping[str, Any]) -> RunSettings:
        """Inverse of `asdict`, also after JSON."""
        return RunSettings(None if fields["steps"] is None else tuple(fields["steps"]), fields["bake_minutes"])


class CanaryRun:
    """One run of one stage's canary.

    Args:
        around: the parts that it uses.
        stage: the stage's name.
        judgement: the manifest's judgement.
        settings: the command line's overrides; a resumed run keeps its own settings where there are none.

    Attributes:
        judgement: the run's own judgement.
        resumed: whether an earlier run is resumed.

    Raises:
        RolloutError: a rollout is half-done, or one of the two shares would get no traffic.
        EditError: the stage has no canary, or its share cannot be set.
        StageControlError: the stage cannot be read or changed.
    """

    def __init__(self, around: Surroundings, stage: str, judgement: Judgement, settings: RunSettings) -> None:
        self._around = around
        self._stage = stage
        self._last: Rollout | None = None
        self._start: ObservationStart | None = None
        self._watched: tuple[Watched, ...] = ()
        self._agreement: dict[str, AgreementCounts] = {}
        check_finished(around.log)
        canary = find_canary(around.load().manifest, stage)
        rollouts = around.log.read(stage)
        earlier = find_earlier(rollouts[-1], canary, judgement, settings) if rollouts else None
        self._settings = earlier or settings
        self.judgement = self._settings.over(judgement)
        self.resumed = earlier is not None
        self._state = start(self.judgement, canary.percent, around.clock())
        check_share(stage, self.judgement, self._state.percent)
        if earlier:
            self._adopt(rollouts[-1])
        else:
            self._carry_out(Action("set", stage, percent=self._state.percent), self._state)

    @property
    def state(self) -> State:
        """The run's current state."""
        return self._state

    def ticks(self, interval_s: float) -> Iterator[Tick]:
        """Observe, and move when it is time, at this interval until the run is over.

        Raises:
            RolloutError: the canary was changed by another command.
            EditError, ProblemsError: models.yaml can no longer be edited.
        """
        while True:
            tick = self._tick()
            yield tick
            if tick.state.phase in TERMINAL:
                return
            self._around.sleep(interval_s)

    def _tick(self) -> Tick:
        now_s = self._around.clock()
        observation: Observation | None = None
        checks: tuple[Check, ...] = ()
        problem = ""
        at = self._state
        try:
            at = self._keep_up()
            if at.phase in TERMINAL:
                return Tick(now_s, at, at)
            observation = self._observe()
            checks = judge(self.judgement, observation)
            self._move(step(self.judgement, at, observation, now_s))
        except (ManifestChangedError, ObservationError, StageControlError) as error:
            problem = error.message
        return Tick(now_s, at, self._state, observation, checks, problem)

    def _observe(self) -> Observation:
        """Return the observation since the step started, with the agreement of the two versions."""
        source = self._around.connection.source
        if self._start is None:  # no source knows when the step started
            self._start = source.start(self._stage, self._watched)
        observation = source.observe(self._stage, self._watched, self._start)
        if self._around.compare is not None and self.judgement.agreement is not None:
            for model, counts in self._around.compare(self._start.time_s).items():
                self._agreement[model] = self._agreement.get(model, AgreementCounts(0, 0)).plus(counts)
        return replace(observation, agreement=dict(self._agreement))

    def _move(self, state: State) -> None:
        """Apply a new state, and record it if it changes what is served, or ends the run."""
        if state.phase is Phase.PROMOTED:
            self._carry_out(Action("promote", self._stage), state)
        elif state.phase is Phase.ROLLED_BACK:
            self._carry_out(Action("rollback", self._stage), state)
        elif state.step != self._state.step or state.phase in TERMINAL:
            self._carry_out(Action("set", self._stage, percent=state.percent), state)
        else:
            self._state = state

    def _carry_out(self, action: Action, state: State) -> None:
        around = self._around
        verdict = VERDICTS.get(state.phase, Verdict.SUCCESSFUL if state.step else "")
        run = {"state": state.to_json(), "settings": asdict(self._settings), "shares": [*shares_of(self.judgement)]}
        with editing(around.manifest):
            prepared = prepare(
                around.load(), action, around.target, now_s=around.clock(), verdict=str(verdict), run=run
            )
            carry_out(prepared, around.log, around.connection)
        self._adopt(around.log.read(self._stage)[-1])

    def _keep_up(self) -> State:
        """Finish an unfinished move of this run, and check that no other command has moved the canary."""
        around = self._around
        with editing(around.manifest):
            unfinished = around.log.unfinished()
            if unfinished is not None and unfinished.run and unfinished.stage == self._stage:
                mend(around.load().manifest, around.log, lambda _: around.connection.control)
                self._adopt(around.log.read(self._stage)[-1])
            last = around.log.read(self._stage)[-1]
            if last != self._last:
                message = f"{last.who} ran `{last.command}` in the meantime"
                raise RolloutError(message, "The run ended and left the canary unchanged.")
        return self._state

    def _adopt(self, rollout: Rollout) -> None:
        """Set the state from the record."""
        self._last = rollout
        self._state = State.from_json(dict(rollout.run["state"]))
        self._agreement = {}
        self._start = ObservationStart.from_json(rollout.observed_since) if rollout.observed_since else None
        project, stack = self._around.load(), self._around.target.stack
        plan = make_plan(project.manifest, project.artifacts, stack=stack, enforce=False)
        stage = plan_stage(
            find_stage(project.manifest, self._stage), project.manifest.models, packed=find_packed(project.manifest)
        )
        self._watched = watched_of(plan, stage.variables, stage.canary.overrides) if stage.canary else ()


def check_share(stage: str, judgement: Judgement, percent: float) -> None:
    """Raise a RolloutError if one of the shares would get no traffic, so that nothing could be judged."""
    if 0 < percent < 100 or judgement.strategy == ALL_AT_ONCE:
        return
    whose = "itself" if percent == 0 else "the baseline"
    hint = "A run needs steps between 0 and 100: --steps 5,25,50, or `steps` in models.yaml."
    raise RolloutError(f"at {percent:g}% the canary of {stage} leaves no requests to {whose}", hint)


def find_earlier(last: Rollout, canary: Canary, judgement: Judgement, given: RunSettings) -> RunSettings | None:
    """Return the settings of the run in the record's last line if it is to be resumed; else None."""
    if not last.run:
        return None
    state, settings = State.from_json(dict(last.run["state"])), RunSettings.from_json(last.run["settings"])
    is_same = (
        given in (RunSettings(), settings)
        and (canary.percent, canary.serve) == (state.percent, last.after)
        and list(shares_of(settings.over(judgement))) == last.run["shares"]
    )
    return settings if is_same and state.phase not in TERMINAL else None

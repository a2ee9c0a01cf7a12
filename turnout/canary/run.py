"""A canary's run: observe, judge, move, record, wait, until it is promoted, rolled back or stopped.

rollouts.jsonl records the progress of a run, so it may be ended at any point and resumes when it is started again: each
of its moves is a rollout like any other. Whatever temporarily cannot be reached is tried again at the next tick.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from turnout.canary.judging.checks import ALL_AT_ONCE, shares_of
from turnout.canary.judging.observed import AgreementCounts, Observation, merge
from turnout.canary.judging.states import (
    TERMINAL,
    Check,
    Phase,
    State,
    Verdict,
    is_baked,
    is_last,
    judge,
    start,
    step_by,
    verdict_of,
)
from turnout.canary.observation.source import ObservationError, ObservationStart
from turnout.canary.observed_models import find_start, name_checks, records_of, watch_models
from turnout.canary.rollout.action import Action, prepare
from turnout.canary.rollout.log import Rollout, RolloutLog
from turnout.canary.rollout.rollout import RolloutError, StageConnection, carry_out, check_finished, mend
from turnout.canary.rollout.stage_canaries import find_canary, find_stage, view_of, views_of
from turnout.canary.rollout.stage_control import StageControlError, StageTarget
from turnout.manifest.judgement import Judgement
from turnout.manifest.parser import Canary
from turnout.plan.planner import make_plan
from turnout.plan.served_by import Watched
from turnout.plan.stages import find_packed, plan_stage
from turnout.project.manifest_file import ManifestChangedError, editing
from turnout.project.project import Project
from turnout.wording import listed

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
        judgement: the manifest's.
        settings: what the command line says over it; a run that goes on keeps its own where that says nothing.
        model: model of the routed canary; empty for the stage's own.

    Attributes:
        judgement: the run's own judgement.
        resumed: whether an earlier run is resumed.

    Raises:
        RolloutError: a rollout was interrupted, or one of the two shares would get no traffic.
        EditError: the stage has no canary, or its share cannot be set.
        StageControlError: the stage cannot be read or changed.
    """

    def __init__(
        self, around: Surroundings, stage: str, judgement: Judgement, settings: RunSettings, model: str = ""
    ) -> None:
        self._around = around
        self._stage = stage
        self._last: Rollout | None = None
        self._starts: dict[str, ObservationStart] = {}
        self._watched: dict[str, tuple[Watched, ...]] = {}
        self._agreement: dict[str, AgreementCounts] = {}
        check_finished(around.log)
        self._model, view = view_of(find_stage(around.load().manifest, stage), model)
        canary = view.canary
        assert canary is not None  # as in every view
        rollouts = self._records()
        earlier = find_earlier(rollouts, canary, judgement, settings)
        self._settings = earlier or settings
        self.judgement = self._settings.over(judgement)
        self.resumed = earlier is not None
        self._state = start(self.judgement, canary.percent, around.clock())
        check_share(stage, self.judgement, self._state.percent)
        if earlier:
            self._state = State.from_json(dict(find_run(rollouts)["state"]))
            self._adopt()
        else:
            self._carry_out("set", self._state)

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
            self._keep_up()
            at = self._state
            if at.phase in TERMINAL:
                return Tick(now_s, at, at)
            observed = self._observe()
            judged = {model: judge(self.judgement, seen) for model, seen in observed.items()}
            observation, checks = merge(observed.values()), name_checks(judged)
            self._move(judged, checks, now_s)
        except (ManifestChangedError, ObservationError, StageControlError) as error:
            problem = error.message
        return Tick(now_s, at, self._state, observation, checks, problem)

    def _observe(self) -> dict[str, Observation]:
        """Observe each model since the start of the step or since it joined, with the agreement of its two versions."""
        source = self._around.connection.source
        observed: dict[str, Observation] = {}
        for model, watched in self._watched.items():
            if model not in self._starts:  # no source could say when the step began
                self._starts[model] = source.start(self._stage, watched)
            observed[model] = source.observe(self._stage, watched, self._starts[model])
        if self._around.compare is not None and self.judgement.agreement is not None and self._starts:
            since_s = min(start.time_s for start in self._starts.values())
            for model, counts in self._around.compare(since_s).items():
                self._agreement[model] = self._agreement.get(model, AgreementCounts(0, 0)).plus(counts)
        return {
            model: replace(
                seen, agreement={name: counts for name, counts in self._agreement.items() if model in ("", name)}
            )
            for model, seen in observed.items()
        }

    def _move(self, judged: Mapping[str, tuple[Check, ...]], checks: tuple[Check, ...], now_s: float) -> None:
        """Act on the observation: move one model alone if the others of its canary are behind, or all of them."""
        at = self._state
        failed = [model for model, own in judged.items() if verdict_of(own) is Verdict.FAILED]
        if failed and len(failed) < len(judged) and self.judgement.auto_rollback:
            reason = f"rolled back {listed(failed)}: {_describe_failures(judged, failed)}"
            self._carry_out("rollback", replace(at, reason=reason), failed, str(Verdict.FAILED))
            return
        done = [model for model, own in judged.items() if verdict_of(own) is Verdict.SUCCESSFUL]
        done = [model for model in done if is_baked(self.judgement, at, self._starts[model].time_s, now_s)]
        if done and not failed and len(done) < len(judged) and is_last(self.judgement, at):
            self._carry_out("promote", replace(at, reason=f"promoted {listed(done)}"), done, str(Verdict.SUCCESSFUL))
            return
        state = step_by(self.judgement, at, checks, now_s)
        if state.phase is Phase.PROMOTED:
            self._carry_out("promote", state)
        elif state.phase is Phase.ROLLED_BACK:
            self._carry_out("rollback", state)
        elif state.step != at.step or state.phase in TERMINAL:
            self._carry_out("set", state)
        else:
            self._state = state

    def _carry_out(self, kind: str, state: State, models: Sequence[str] = (), verdict: str = "") -> None:
        """Make a new state true, and write it down."""
        around = self._around
        verdict = verdict or str(VERDICTS.get(state.phase, Verdict.SUCCESSFUL if state.step else ""))
        with editing(around.manifest):
            project = around.load()
            canary = find_canary(project.manifest, self._stage, self._model)
            ending = set(models or canary.serve) if kind in {"promote", "rollback"} else set()
            run = {
                "state": state.to_json(),
                "settings": asdict(self._settings),
                "shares": [*shares_of(self.judgement)],
                "models": [model for model in canary.serve if model not in ending],
            }
            named = dict.fromkeys(models or ([self._model] if self._model else []), "")
            action = Action(kind, self._stage, named, state.percent)
            prepared = prepare(project, action, around.target, now_s=around.clock(), verdict=verdict, run=run)
            carry_out(prepared, around.log, around.connection)
        self._state = state
        self._adopt()

    def _keep_up(self) -> None:
        """Finish an unfinished move of this run, and check that no other command has moved the canary.

        Other commands may add models to the canary and remove them: the run continues with the remaining ones.
        """
        around = self._around
        with editing(around.manifest):
            unfinished = around.log.unfinished()
            is_own = unfinished is not None and unfinished.stage == self._stage and unfinished.is_of(self._model)
            if unfinished is not None and is_own and unfinished.run:
                mend(around.load().manifest, around.log, lambda _: around.connection.control)
                self._state = State.from_json(dict(unfinished.run["state"]))
                self._adopt()
            records = self._records()
            if not records or records[-1] == self._last:
                return
            before = self._last
            later = records[records.index(before) + 1 :] if before in records else records
            if not self._is_same_canary(records):
                message = f"{later[-1].who} ran `{later[-1].command}` in the meantime"
                raise RolloutError(message, "The run ended and left the canary unchanged.")
            self._adopt()

    def _is_same_canary(self, records: Sequence[Rollout]) -> bool:
        """Return whether other commands only added models to the canary, or ended it for some of them."""
        stage = find_stage(self._around.load().manifest, self._stage)
        view = views_of(stage).get(self._model)
        return view is not None and view.canary is not None and is_continued(records, view.canary, self._state)

    def _records(self) -> tuple[Rollout, ...]:
        """Return the rollouts of this canary, the oldest first."""
        return records_of(self._around.log.read(self._stage), self._model)

    def _adopt(self) -> None:
        """Observe the models that are in the canary now, each since it has had its share."""
        project, stack = self._around.load(), self._around.target.stack
        rollouts = self._around.log.read(self._stage)
        self._last = self._records()[-1]
        plan = make_plan(project.manifest, project.artifacts, stack=stack, enforce=False)
        stage = find_stage(project.manifest, self._stage)
        planned = plan_stage(stage, project.manifest.models, packed=find_packed(project.manifest))
        overrides = planned.canary.overrides if planned.canary else None
        own = {self._model} if self._model else {"", *(stage.canary.serve if stage.canary else ())}
        watched = watch_models(plan, stage, planned.variables, overrides)
        self._watched = {model: pairs for model, pairs in watched.items() if model in own}
        starts: dict[str, ObservationStart] = {}
        for model in self._watched:
            since = find_start(rollouts, model, is_routed=bool(self._model))
            if since is not None and since.observed_since:
                starts[model] = ObservationStart.from_json(since.observed_since)
        self._agreement = {
            model: counts
            for model, counts in self._agreement.items()
            if model in self._watched and starts.get(model) == self._starts.get(model)
        }
        self._starts = starts


def _describe_failures(judged: Mapping[str, tuple[Check, ...]], models: Sequence[str]) -> str:
    failed = [check for model in models for check in judged[model] if check.verdict is Verdict.FAILED]
    return "; ".join(f"{check.name}: {check.sentence}" for check in failed)


def check_share(stage: str, judgement: Judgement, percent: float) -> None:
    """Raise a RolloutError if one of the shares would get no traffic, so that nothing could be judged."""
    if 0 < percent < 100 or judgement.strategy == ALL_AT_ONCE:
        return
    whose = "itself" if percent == 0 else "the baseline"
    hint = "A run needs steps between 0 and 100: --steps 5,25,50, or `steps` in models.yaml."
    raise RolloutError(f"at {percent:g}% the canary of {stage} leaves no requests to {whose}", hint)


def find_earlier(
    rollouts: Sequence[Rollout], canary: Canary, judgement: Judgement, given: RunSettings
) -> RunSettings | None:
    """Return the settings of the canary's last run if it is to continue, or None.

    Args:
        rollouts: rollouts of this canary, the oldest first.
        canary: the current canary.
        judgement: the manifest's.
        given: settings of the command line, which take precedence.
    """
    run = find_run(rollouts)
    if not run:
        return None
    state, settings = State.from_json(dict(run["state"])), RunSettings.from_json(run["settings"])
    is_same = (
        given in (RunSettings(), settings)
        and is_continued(rollouts, canary, state)
        and list(shares_of(settings.over(judgement))) == run["shares"]
    )
    return settings if is_same and state.phase not in TERMINAL else None


def find_run(rollouts: Sequence[Rollout]) -> Mapping[str, Any]:
    """Return the record of a canary's last run; empty if it had none."""
    return next((rollout.run for rollout in reversed(rollouts) if rollout.run), {})


def is_continued(rollouts: Sequence[Rollout], canary: Canary, state: State) -> bool:
    """Whether a canary is that of its last run, except for models that have joined or left it since."""
    models: set[str] | None = None
    for rollout in rollouts:
        if rollout.run:
            models = set(rollout.run.get("models", rollout.after))
        elif models is None:
            continue
        elif rollout.action == "start":
            models |= rollout.after.keys() - set(rollout.routed)
        elif rollout.action in {"promote", "rollback"} or not rollout.is_of(""):
            models -= rollout.after.keys()
        else:
            return False
        if not models and not canary.release:
            models = None  # it ended: a later one is another canary
    return models == set(canary.serve) and canary.percent == state.percent

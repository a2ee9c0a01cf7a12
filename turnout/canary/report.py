"""A report on a stage's canary: what it serves, what was observed, and where the stage and models.yaml differ."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from turnout.canary.judging.checks import Check, Verdict, judge, verdict_of
from turnout.canary.judging.observed import AgreementCounts, Observation, merge, quantile_s
from turnout.canary.observation.source import ObservationError, ObservationStart
from turnout.canary.observed_models import find_start, name_checks, watch_models
from turnout.canary.rollout.log import Rollout, RolloutLog
from turnout.canary.rollout.rollout import RolloutError, StageConnection, progress_of
from turnout.canary.rollout.stage_canaries import find_stage, served_text, views_of
from turnout.canary.rollout.stage_changes import find_differences
from turnout.canary.rollout.stage_control import LiveCanary, StageControlError, StageState, StageTarget
from turnout.canary.run import Compare
from turnout.manifest.judgement import Judgement
from turnout.manifest.parser import Stage
from turnout.plan.planner import make_plan
from turnout.plan.served_by import Watched
from turnout.plan.stages import find_packed, plan_stage
from turnout.plan.values import Plan, StagePlan
from turnout.project.project import Project


@dataclass(frozen=True, slots=True)
class ModelReport:
    """A report on the canary of one model.

    Args:
        model: name of the model; empty for a release, whose models are judged together.
        baseline: version in the baseline.
        version: version in the canary.
        percent: the canary's share.
        is_routed: whether the model's router splits the traffic, instead of the stage's canary.
        since: the rollout since which it is observed; None if there is none.
        observation: what was seen since then, None where no source was asked or could answer.
        checks: of the judgement; empty without an observation.
        verdict: verdict over all checks; None without an observation.
    """

    model: str
    baseline: str
    version: str
    percent: float
    is_routed: bool
    since: Rollout | None = None
    observation: Observation | None = None
    checks: tuple[Check, ...] = ()
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class CanaryReport:
    """A report on a stage's canaries.

    Args:
        stage: as the manifest has it.
        since: the last rollout of the stage, None where there is none.
        models: report on each model with a canary: those of the stage's canary, then the routed ones.
        warnings: differences, interrupted commands, and what could not be read, a sentence each.
    """

    stage: Stage
    since: Rollout | None
    models: tuple[ModelReport, ...]
    warnings: tuple[str, ...]

    @property
    def observation(self) -> Observation | None:
        """Return the observation of all models of the stage's own canary; if there is none, of the routed ones."""
        own = [entry for entry in self.models if not entry.is_routed] or self.models
        seen = [entry.observation for entry in own if entry.observation is not None]
        return merge(seen) if seen else None

    @property
    def checks(self) -> tuple[Check, ...]:
        """Return the checks of all models; if there are several, each check has its model's name."""
        return name_checks({entry.model: entry.checks for entry in self.models}) if self.models else ()

    @property
    def verdict(self) -> Verdict | None:
        """Return the worst verdict; None without an observation."""
        return verdict_of(self.checks) if self.checks else None

    def verdict_on(self, models: Collection[str]) -> Verdict | None:
        """Return the worst verdict on these models, or on all if none is given."""
        checks = [check for entry in self.models if not models or entry.model in models for check in entry.checks]
        return verdict_of(checks) if checks else None


def make_report(
    project: Project,
    name: str,
    log: RolloutLog,
    *,
    target: StageTarget | None = None,
    connection: StageConnection | None = None,
    compare: Compare | None = None,
    outputs: Mapping[str, Any] | None = None,
    plan: Plan | None = None,
) -> CanaryReport:
    """Make the report on a stage's canary; changes nothing.

    Args:
        project: the project in its current state.
        name: the stage's name.
        log: the record of rollouts.
        target: where the stage is served, or None.
        connection: the connection to the target, or None.
        compare: lets both versions answer recently sampled requests, or None.
        outputs: the output of `pulumi stack output --json`, or None.
        plan: the project's; None makes one. Callers that report often pass it.

    Raises:
        EditError: the stage does not exist.
        RolloutError: the outputs belong to another project.
    """
    stage = find_stage(project.manifest, name)
    planned = plan_stage(stage, project.manifest.models, packed=find_packed(project.manifest))
    rollouts = log.read(name)
    since = rollouts[-1] if rollouts else None
    warnings = [half_done(project, since)] if since and not since.done else []
    models = list(_list_models(stage, rollouts))
    if connection is not None and target is not None:
        try:
            live = connection.control.read()
            warnings += [difference.sentence for difference in find_differences(live, planned, "the live stage")]
            overrides = live.canary.overrides if live.canary else None
            known = plan or plan_for(project, target)
            watched = watch_models(known, stage, live.variables, overrides, live.tables) if models else {}
            compared = compare(min(start_of(entry.since).time_s for entry in models)) if compare and watched else {}
            for index, entry in enumerate(models):
                if entry.model in watched:
                    models[index] = _judge_model(stage, entry, target, connection, watched[entry.model], compared)
        except (ObservationError, StageControlError) as error:
            warnings.append(error.message)
    if outputs is not None:
        warnings += compare_outputs(outputs, planned)
    return CanaryReport(stage, since, tuple(models), tuple(warnings))


def _list_models(stage: Stage, rollouts: Sequence[Rollout]) -> Iterator[ModelReport]:
    for routed, view in views_of(stage).items():
        canary = view.canary
        assert canary is not None  # as in every view
        serve = {"": "the new release"} if canary.release else canary.serve
        for model, version in serve.items():
            baseline = served_text(view, model) if model else "as deployed"
            since = find_start(rollouts, model, is_routed=bool(routed))
            yield ModelReport(model, baseline, version, canary.percent, bool(routed), since)


def _judge_model(
    stage: Stage,
    entry: ModelReport,
    target: StageTarget,
    connection: StageConnection,
    watched: tuple[Watched, ...],
    compared: Mapping[str, AgreementCounts],
) -> ModelReport:
    """Return the report with the observation of the model and its verdict."""
    view = stage.with_canary_of(entry.model) if entry.is_routed else stage
    observation = connection.source.observe(stage.name, watched, start_of(entry.since))
    agreement = {model: counts for model, counts in compared.items() if entry.model in ("", model)}
    observation = replace(observation, agreement=agreement)
    checks = judge(judgement_of(view, target), observation)
    return replace(entry, observation=observation, checks=checks, verdict=verdict_of(checks))


def half_done(project: Project, rollout: Rollout) -> str:
    """The warning about an unfinished rollout."""
    how_far = progress_of(project.manifest, rollout)
    return f"`{rollout.command}` was interrupted: {how_far}. Finish it with `turnout canary mend`"


def judgement_of(stage: Stage, target: StageTarget | None) -> Judgement:
    """The judgement of a stage's canary; a local gateway has no alarms."""
    judgement = stage.canary.judgement if stage.canary else Judgement()
    return replace(judgement, alarms=()) if target is not None and target.is_local else judgement


def plan_for(project: Project, target: StageTarget) -> Plan:
    """Return the plan with the names of a target's functions."""
    return make_plan(project.manifest, project.artifacts, stack=target.stack, enforce=False)


def start_of(since: Rollout | None) -> ObservationStart:
    """Return the time of the last rollout; the server's start if the record does not contain it."""
    if since is None:
        return ObservationStart(0.0)
    if since.observed_since:
        return ObservationStart.from_json(since.observed_since)
    return ObservationStart(datetime.fromisoformat(since.time).timestamp())


def compare_outputs(outputs: Mapping[str, Any], planned: StagePlan) -> Iterator[str]:
    """Return the differences between a stage's plan and Pulumi's last deployment.

    Raises:
        RolloutError: the outputs belong to another project.
    """
    try:
        deployed_stage = outputs["stages"][planned.name]
        canary = deployed_stage["canary"]
        deployed = StageState(
            "", deployed_stage["variables"], canary and LiveCanary(float(canary["percent"]), canary["overrides"], "")
        )
    except (KeyError, TypeError, ValueError) as error:
        message = f"the outputs do not contain stage {planned.name}"
        raise RolloutError(message, "Pass the output of `pulumi stack output --json`.") from error
    for difference in find_differences(deployed, planned, "Pulumi's outputs"):
        yield difference.sentence


def report_to_json(report: CanaryReport) -> dict[str, Any]:
    """Return the report for programs."""
    canary, observation = report.stage.canary, report.observation
    return {
        "stage": report.stage.name,
        "canary": canary
        and {
            "percent": canary.percent,
            "release": canary.release,
            "models": {
                model: {"baseline": served_text(report.stage, model), "canary": version}
                for model, version in canary.serve.items()
            },
        },
        "canaries": [_model_to_json(entry) for entry in report.models],
        "since": report.since and report.since.to_json(),
        "shares": _shares_to_json(observation),
        "verdict": report.verdict,
        "checks": [_check_to_json(check) for check in report.checks],
        "warnings": list(report.warnings),
    }


def _model_to_json(entry: ModelReport) -> dict[str, Any]:
    return {
        "model": entry.model,
        "routed": entry.is_routed,
        "percent": entry.percent,
        "baseline": entry.baseline,
        "canary": entry.version,
        "since": entry.since and entry.since.time,
        "shares": _shares_to_json(entry.observation),
        "verdict": entry.verdict,
        "checks": [_check_to_json(check) for check in entry.checks],
    }


def _shares_to_json(observation: Observation | None) -> dict[str, Any]:
    if observation is None:
        return {}
    return {
        name: {
            "requests": arm.requests,
            "errors": arm.errors,
            "p50_s": quantile_s(arm, observation.bounds_s, 0.5),
            "p99_s": quantile_s(arm, observation.bounds_s, 0.99),
        }
        for name, arm in (("baseline", observation.baseline), ("canary", observation.canary))
    }


def _check_to_json(check: Check) -> dict[str, Any]:
    return {
        "name": check.name,
        "verdict": check.verdict,
        "sentence": check.sentence,
        "needed": check.needed,
        "evidence": check.evidence and asdict(check.evidence),
    }

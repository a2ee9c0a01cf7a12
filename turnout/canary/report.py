"""A report on a stage's canary: what it serves, what was observed, and where the stage and models.yaml differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from turnout.canary.judging.checks import Check, Verdict, judge, verdict_of
from turnout.canary.judging.observed import Observation, quantile_s
from turnout.canary.observation.source import ObservationError, ObservationStart
from turnout.canary.rollout.action import served_text
from turnout.canary.rollout.log import Rollout, RolloutLog
from turnout.canary.rollout.manifest_edits import find_stage
from turnout.canary.rollout.rollout import RolloutError, StageConnection, progress_of
from turnout.canary.rollout.stage_changes import find_differences
from turnout.canary.rollout.stage_control import LiveCanary, StageControlError, StageState, StageTarget
from turnout.canary.run import Compare
from turnout.manifest.judgement import Judgement
from turnout.manifest.parser import Stage
from turnout.plan.planner import make_plan
from turnout.plan.served_by import watched_of
from turnout.plan.stages import find_packed, plan_stage
from turnout.plan.values import Plan, StagePlan
from turnout.project.project import Project


@dataclass(frozen=True, slots=True)
class CanaryReport:
    """A report on a canary.

    Args:
        stage: the stage from the manifest.
        baseline: model -> what the baseline serves, for the models that the canary moves.
        since: the last rollout of the stage, None if there is none.
        observation: the observation since then; None if no source was queried or could answer.
        checks: checks of the judgement; empty without an observation.
        verdict: the verdict over all checks; empty without an observation.
        warnings: sentences about differences, unfinished rollouts and failed queries.
    """

    stage: Stage
    baseline: Mapping[str, str]
    since: Rollout | None
    observation: Observation | None
    checks: tuple[Check, ...]
    verdict: Verdict | None
    warnings: tuple[str, ...]


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
    observation = None
    if connection is not None and target is not None:
        try:
            live = connection.control.read()
            warnings += [difference.sentence for difference in find_differences(live, planned, "the live stage")]
            if planned.canary and live.canary:
                start = start_of(since)
                observation = observe(connection, live, name, start, plan or plan_for(project, target))
                observation = replace(observation, agreement=compare(start.time_s) if compare else {})
        except (ObservationError, StageControlError) as error:
            warnings.append(error.message)
    if outputs is not None:
        warnings += compare_outputs(outputs, planned)
    checks = judge(judgement_of(stage, target), observation) if stage.canary and observation else ()
    return CanaryReport(
        stage,
        {model: served_text(stage, model) for model in (stage.canary.serve if stage.canary else ())},
        since,
        observation,
        checks,
        verdict_of(checks) if checks else None,
        tuple(warnings),
    )


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


def observe(
    connection: StageConnection, live: StageState, name: str, start: ObservationStart, plan: Plan
) -> Observation:
    """Return the observation since then."""
    assert live.canary is not None
    watched = watched_of(plan, live.variables, live.canary.overrides)
    return connection.source.observe(name, watched, start)


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
    shares = {"baseline": observation.baseline, "canary": observation.canary} if observation else {}
    bounds_s = observation.bounds_s if observation else ()
    return {
        "stage": report.stage.name,
        "canary": canary
        and {
            "percent": canary.percent,
            "release": canary.release,
            "models": {
                model: {"baseline": report.baseline[model], "canary": version}
                for model, version in canary.serve.items()
            },
        },
        "since": report.since and report.since.to_json(),
        "shares": {
            name: {
                "requests": arm.requests,
                "errors": arm.errors,
                "p50_s": quantile_s(arm, bounds_s, 0.5),
                "p99_s": quantile_s(arm, bounds_s, 0.99),
            }
            for name, arm in shares.items()
        },
        "verdict": report.verdict,
        "checks": [
            {
                "name": check.name,
                "verdict": check.verdict,
                "sentence": check.sentence,
                "needed": check.needed,
                "evidence": check.evidence and asdict(check.evidence),
            }
            for check in report.checks
        ],
        "warnings": list(report.warnings),
    }

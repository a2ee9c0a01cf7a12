"""The page's contents as one JSON document: models, stages, canaries with their verdicts, and actions."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from turnout import __version__
from turnout.canary.judging.observed import Observation
from turnout.canary.observation.local import ReadCounters
from turnout.canary.observation.source import ObservationError
from turnout.canary.report import make_report, report_to_json
from turnout.canary.rollout.action import user_name
from turnout.canary.rollout.log import RolloutLogError
from turnout.canary.rollout.stage_control import StageControlError
from turnout.client.connection import UnreachableError
from turnout.console.actions import find_obstacle, list_actions
from turnout.console.runs import describe_run, files_of
from turnout.console.subject import Subject
from turnout.manifest.parser import Consumer, Model, Stage, Version
from turnout.manifest.settings import Warm
from turnout.plan.checks.graphs import graph_signatures
from turnout.problems import ProblemsError
from turnout.project.project import Project
from turnout.protocol.aws.callers import OWNER
from turnout.protocol.naming import split_function_name

HISTORY = 50
"""Number of the latest rollouts of a stage that are shown."""


def make_state(subject: Subject, *, may_write: bool) -> dict[str, Any]:
    """Return everything except what changes each second.

    Args:
        subject: the project and where it is served.
        may_write: whether this console may change anything.
    """
    base = {
        "turnout": __version__,
        "generation": subject.generation(),
        "folder": subject.folder.name,
        "place": str(subject.target),
        "is_local": subject.target.is_local,
        "is_served_here": subject.is_mounted,
        "may_write": may_write,
        "who": user_name(),
    }
    try:
        project = subject.project()
    except ProblemsError as error:
        problems = [f"{problem.path}: {problem.message}" for problem in error.problems]
        return {**base, "problems": problems, "models": [], "stages": []}
    return {
        **base,
        "problems": [],
        "platform": project.manifest.platform,
        "models": [describe_model(project, model) for model in project.manifest.models],
        "stages": [describe_stage(subject, project, stage, may_write=may_write) for stage in project.manifest.stages],
    }


def empty_pulse(generation: str = "", warning: str = "") -> dict[str, Any]:
    """A pulse without counters, verdicts and runs."""
    return {
        "generation": generation,
        "time": time.time(),
        "traffic": None,
        "canaries": {},
        "differences": {},
        "runs": {},
        "warning": warning,
    }


def make_pulse(subject: Subject) -> dict[str, Any]:
    """The parts that change each second: counters, verdicts, and the generation of everything else."""
    pulse = empty_pulse(subject.generation())
    try:
        counters = subject.traffic()
        pulse["traffic"] = describe_traffic(counters)
        project = subject.project()
    except UnreachableError as error:
        return {**pulse, "warning": str(error)}
    except ProblemsError:
        return pulse
    try:
        rollouts = subject.log.read()
    except RolloutLogError as error:
        return {**pulse, "warning": f"{error.message}. {error.hint}"}
    for stage in project.manifest.stages:
        run = describe_run(subject, stage, tuple(rollout for rollout in rollouts if rollout.stage == stage.name))
        if run is not None:
            pulse["runs"][stage.name] = run
        if stage.canary is not None or stage.routed:
            pulse["canaries"][stage.name] = describe_canary(subject, project, stage, counters)
        elif differences := subject.differences(stage, pulse["generation"]):
            pulse["differences"][stage.name] = differences
    return pulse


def describe_model(project: Project, model: Model) -> dict[str, Any]:
    """A model with its versions, the newest last."""
    described: dict[str, Any] = {
        "name": model.name,
        "description": model.description,
        "versions": [describe_version(project, version) for version in model.versions],
    }
    if model.graph is not None:
        signature = graph_signatures(project.manifest, project.artifacts)[model.name]
        described["graph"] = signature.to_json()
    return described


def describe_version(project: Project, version: Version) -> dict[str, Any]:
    """A version's files and settings."""
    artifact = project.artifacts.get((version.model, version.name))
    flags = {
        "breaking": version.breaking,
        "capture": version.capture is not None,
        "warm": version.warm != Warm(),
        "transform": bool(version.transform),
        "on S3": version.artifact.startswith("s3://"),
    }
    return {
        "name": version.name,
        "digest": artifact.sha256 if artifact else version.sha256,
        "size_bytes": artifact.size_bytes if artifact else None,
        "architecture": version.architecture,
        "memory_mb": version.memory_mb,
        "timeout_s": version.timeout_s,
        "description": version.description,
        "source": version.source.to_json() if version.source else None,
        "has_examples": bool(version.examples),
        "flags": [name for name, is_on in flags.items() if is_on],
        "signature": artifact.signature.to_json() if artifact else None,
    }


_OWNER = Consumer(OWNER, keys=())
"""Whoever sends the stage's own key, which has no limits of its own."""


def describe_stage(subject: Subject, project: Project, stage: Stage, *, may_write: bool) -> dict[str, Any]:
    """A stage: what it serves of each model, its canary, its history and what may be done with it."""
    rollouts = subject.log.read(stage.name)
    is_running = files_of(subject, stage.name).is_driven()
    return {
        "name": stage.name,
        "auth": stage.auth,
        "throttle": stage.throttle and {"rate": stage.throttle.rate, "burst": stage.throttle.burst},
        "consumers": [asdict(consumer) for consumer in (*stage.consumers, _OWNER)] if stage.consumers else [],
        "cells": {model.name: cell for model in project.manifest.models if (cell := describe_cell(stage, model))},
        "canary": stage.canary
        and {
            "percent": stage.canary.percent,
            "serve": dict(stage.canary.serve),
            "release": stage.canary.release,
            "strategy": stage.canary.judgement.strategy,
            "steps": list(stage.canary.judgement.steps),
            "bake_minutes": stage.canary.judgement.bake_minutes,
            "confidence": stage.canary.judgement.confidence,
        },
        "routed": {
            model: {"percent": routed.percent, "version": routed.version} for model, routed in stage.routed.items()
        },
        "blocked": find_obstacle(rollouts, may_write=may_write),
        "actions": [
            action.to_json() for action in list_actions(stage, rollouts, may_write=may_write, is_running=is_running)
        ],
        "history": [rollout.to_json() for rollout in rollouts[-HISTORY:]],
    }


def describe_cell(stage: Stage, model: Model) -> dict[str, Any]:
    """A stage's versions of one model: shares that add up to 100, and further versions."""
    if model.name in stage.routed:
        stage = stage.with_canary_of(model.name)
    weights = stage.weights.get(model.name) or {stage.serve.get(model.name, ""): 100.0}
    canary = stage.canary.serve.get(model.name) if stage.canary else None
    percent = stage.canary.percent if stage.canary and canary else 0.0
    kind = "weight" if len(weights) > 1 else "serve"
    parts = [
        {"version": version, "percent": weight * (100 - percent) / 100, "kind": kind}
        for version, weight in weights.items()
        if version
    ]
    if canary:
        parts.append({"version": canary, "percent": percent, "kind": "canary"})
    if not parts and model.graph is None:
        return {}
    return {
        "parts": parts or [{"version": "graph", "percent": 100.0, "kind": "serve"}],
        "shadow": model.routing.shadow_version,
        "fallback": model.routing.fallback,
    }


def describe_canary(subject: Subject, project: Project, stage: Stage, counters: Mapping[str, Any]) -> dict[str, Any]:
    """The report of `turnout canary status --json`, from counters that were read for all stages, if any were."""
    target = subject.target
    try:
        connection = subject.connection(stage)
        if counters:
            connection = replace(connection, source=ReadCounters(counters))
        report = make_report(
            project, stage.name, subject.log, target=target, connection=connection, plan=subject.plan()
        )
    except (ObservationError, StageControlError) as error:
        return {"warnings": [error.message], "checks": [], "verdict": None, "shares": {}, "canaries": []}
    described = report_to_json(report)
    observation = report.observation
    if observation is not None:
        for name, arm in (("baseline", observation.baseline), ("canary", observation.canary)):
            described["shares"][name]["durations"] = list(arm.durations)
        described["bounds_s"] = list(observation.bounds_s)
        described["share"] = describe_share(stage.canary.percent, observation) if stage.canary else None
    return described


def describe_share(percent: float, observation: Observation) -> dict[str, float] | None:
    """The canary's observed share in percent, and the range that holds 99% of the draws; None without a request."""
    requests = observation.baseline.requests + observation.canary.requests
    if not requests:
        return None
    wanted = percent / 100
    margin = 2.576 * math.sqrt(wanted * (1 - wanted) / requests)
    return {
        "observed": 100 * observation.canary.requests / requests,
        "low": 100 * max(0.0, wanted - margin),
        "high": 100 * min(1.0, wanted + margin),
    }


def describe_traffic(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """The counters by stage, model, version and share, and by stage and consumer; None if the server reports none."""
    if not metrics:
        return None
    return {
        "run": metrics["run"],
        "time": metrics["time"],
        "bounds_s": metrics["bounds_s"],
        "rows": list(_rows_of(metrics)),
        "callers": [
            {
                "stage": caller["stage"],
                "caller": caller["caller"],
                "requests": sum(caller["statuses"]),
                "errors": caller["statuses"][4],
                "refused": caller["statuses"][3],
                "throttled": caller["throttled"],
                "durations": caller["durations"],
            }
            for caller in metrics.get("callers", ())
        ],
        "dropped_lines": metrics.get("dropped_lines", {}),
    }


def _rows_of(metrics: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for function in metrics["functions"]:
        model, version = split_function_name(function["function"])
        if model:
            yield {
                "stage": function["stage"],
                "model": model,
                "version": version,
                "canary": function["canary"],
                "requests": sum(function["statuses"]),
                "errors": function["failures"],
                "seconds": function["seconds"],
                "durations": function["durations"],
            }

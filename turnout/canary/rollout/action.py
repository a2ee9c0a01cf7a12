"""Plans and checks one action on a canary before anything is changed."""

from __future__ import annotations

import getpass
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from turnout.canary.rollout.log import RETURN, Rollout
from turnout.canary.rollout.manifest_diff import make_diff
from turnout.canary.rollout.manifest_edits import (
    end_canary,
    find_stage,
    promote_models,
    return_models,
    set_percent,
    start_canary,
    versions_in,
)
from turnout.canary.rollout.stage_changes import StageChange, change_between
from turnout.canary.rollout.stage_control import StageTarget
from turnout.manifest.parser import Manifest, Stage
from turnout.plan.checks.replacements import baselines_of
from turnout.plan.guard_alarms import GuardAlarms, find_guard_alarms
from turnout.plan.planner import make_plan
from turnout.plan.served_by import Watched, watched_of
from turnout.plan.stages import find_packed, plan_stage
from turnout.plan.values import Plan, StagePlan
from turnout.project.project import Project
from turnout.protocol.routing.choice import spell_route


@dataclass(frozen=True, slots=True)
class Action:
    """An action on a stage's canary.

    Args:
        kind: a key of `EDITS`.
        stage: the stage's name.
        serve: for a start: model -> version; for promotion and rollback: the models, all if empty; for a return: model
            -> what is served again, a version or `v1.90,v2.10`.
        percent: for a start and a change of the share: the canary's share.
        release: for a start: whether the share also gets the new code and routes.
    """

    kind: str
    stage: str
    serve: Mapping[str, str] = field(default_factory=dict)
    percent: float = 0.0
    release: bool = False


EDITS: Mapping[str, Callable[[Manifest, Action], Manifest]] = {
    "start": lambda manifest, action: start_canary(
        manifest, action.stage, action.serve, action.percent, release=action.release
    ),
    "set": lambda manifest, action: set_percent(manifest, action.stage, action.percent),
    "promote": lambda manifest, action: promote_models(manifest, action.stage, action.serve),
    "rollback": lambda manifest, action: end_canary(manifest, action.stage, action.serve),
    RETURN: lambda manifest, action: return_models(manifest, action.stage, action.serve),
}
"""The edit of the manifest for each kind of action."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prepared action; nothing has been changed yet.

    Args:
        path: the manifest's file with links resolved, so that the file itself is replaced.
        data: its content as it was read.
        text: its new content.
        rollout: the future record.
        change: the change of the stage.
        before: the stage in the current manifest.
        watched: what to observe of the canary afterwards; empty if it ends.
        opened: likewise; for a `return` what it moves. The functions of their `canary` must exist.
        alarms: the alarms that would end the canary immediately; None if it ends or gets fewer requests than before.
    """

    path: Path
    data: bytes
    text: str
    rollout: Rollout
    change: StageChange
    before: StagePlan
    watched: tuple[Watched, ...]
    opened: tuple[Watched, ...]
    alarms: GuardAlarms | None = None


def prepare(
    project: Project,
    action: Action,
    target: StageTarget | None,
    *,
    now_s: float,
    verdict: str = "",
    run: Mapping[str, Any] | None = None,
) -> Prepared:
    """Work out an action and check it; nothing is written or sent.

    Args:
        project: the project in its current state.
        action: the action to prepare.
        target: where the stage is changed immediately; None if `pulumi up` applies the change.
        now_s: seconds since 1970.
        verdict: the verdict that causes the action, or empty.
        run: state of the run that causes the action, or None.

    Raises:
        EditError: a name is unknown, a canary is already on or there is none, or models.yaml cannot be edited.
        ProblemsError: models.yaml would be invalid, usually because a version cannot replace another.
    """
    old = project.manifest
    new = EDITS[action.kind](old, action)
    data, text = bytes_of(old), bytes_of(new).decode()
    plan = make_plan(new, project.artifacts, stack=target.stack if target else "local", enforce=False)
    old_stage, new_stage = find_stage(old, action.stage), find_stage(new, action.stage)
    before, after = (
        plan_stage(stage, manifest.models, packed=find_packed(manifest))
        for stage, manifest in ((old_stage, old), (new_stage, new))
    )
    change = change_between(before, after, promotes=action.kind == "promote")
    served, is_release = _served_then(action, old_stage, new_stage)
    rollout = Rollout(
        time=datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        who=_user(),
        stage=action.stage,
        action=action.kind,
        before={model: served_text(old_stage, model) for model in served},
        after=served,
        percent={"promote": 100.0, "rollback": 0.0, RETURN: 100.0}.get(action.kind, action.percent),
        release=is_release,
        verdict=verdict,
        digests=_digests(plan, old_stage, served),
        stack=target.stack if target else "",
        endpoint_url=target.endpoint_url if target else "",
        manifest=(manifest_digest(data), manifest_digest(text.encode())),
        diff=make_diff(data.decode(), text, old.path.name),
        change=change.to_json(),
        run=run or {},
    )
    watched = watched_of(plan, after.variables, after.canary.overrides) if after.canary else ()
    opened = watched_of(plan, before.variables, after.variables) if action.kind == RETURN else watched
    alarms = None
    if action.kind in {"start", "set"} and action.percent >= (before.canary.percent if before.canary else 0.0):
        assert new_stage.canary is not None  # these actions keep the canary
        alarms = find_guard_alarms(plan, new_stage.canary.judgement, after)
    return Prepared(old.path.resolve(), data, text, rollout, change, before, watched, opened, alarms)


def action_of(rollout: Rollout) -> Action:
    """Return the action of a record."""
    return Action(rollout.action, rollout.stage, rollout.after, rollout.percent, rollout.release)


def served_text(stage: Stage, model: str) -> str:
    """Return what a stage's baseline serves of a model: `v1`, or `v1.90,v2.10` if it has weights."""
    weights = stage.weights.get(model)
    return stage.serve[model] if weights is None else spell_route(weights)


def _served_then(action: Action, old: Stage, new: Stage) -> tuple[dict[str, str], bool]:
    """Return model -> what an action is about, and whether it also is about a release."""
    if action.kind == RETURN:
        return dict(action.serve), action.release
    canary = (new if action.kind == "start" else old).canary
    assert canary is not None  # EDITS has already rejected a stage without a canary
    every = action.kind == "set" or not action.serve
    return {model: name for model, name in canary.serve.items() if every or model in action.serve}, canary.release


def _digests(plan: Plan, stage: Stage, served: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return the first 12 digits of the artifact's sha256 for each version that takes part."""
    known = {(entry.version.model, entry.version.name): entry.sha256[:12] for entry in plan.versions}
    return {
        model: {version: known[model, version] for version in (*baselines_of(stage, model), *versions_in(text))}
        for model, text in served.items()
    }


def bytes_of(manifest: Manifest) -> bytes:
    """Return a manifest's file as it was read."""
    return manifest.path.read_bytes() if manifest.read is None else manifest.read.data


def manifest_digest(data: bytes) -> str:
    """Return the sha256 of a manifest's bytes."""
    return hashlib.sha256(data).hexdigest()


def _user() -> str:
    """Return the user's name, if the system knows it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"

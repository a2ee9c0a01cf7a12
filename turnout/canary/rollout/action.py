"""Plans and checks one action on a canary before anything is changed."""

from __future__ import annotations

import getpass
import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from turnout.canary.rollout.log import RETURN, Rollout
from turnout.canary.rollout.manifest_diff import make_diff
from turnout.canary.rollout.manifest_edits import (
    end_canary,
    promote_models,
    return_models,
    set_percent,
    start_canary,
    versions_in,
)
from turnout.canary.rollout.stage_canaries import choose_models, find_stage, served_text, version_of
from turnout.canary.rollout.stage_changes import StageChange, change_between
from turnout.canary.rollout.stage_control import StageTarget
from turnout.manifest.parser import Manifest, Stage
from turnout.plan.checks.replacements import baselines_of
from turnout.plan.guard_alarms import GuardAlarms, find_guard_alarms, find_routed_guards
from turnout.plan.planner import make_plan
from turnout.plan.served_by import Watched, watched_of, watched_routed
from turnout.plan.stages import find_packed, plan_stage
from turnout.plan.values import Plan, StagePlan
from turnout.project.project import Project


@dataclass(frozen=True, slots=True)
class Action:
    """An action on a stage's canary.

    Args:
        kind: a key of `EDITS`.
        stage: the stage's name.
        serve: to start: model -> version; to set, promote and roll back: the models, all of the stage's canary if
            empty; to return: model -> what to serve again, a version or `v1.90,v2.10`.
        percent: to start and to set: the canary's share.
        release: to start: whether the share also gets the new code and routes.
        routed: to start: whether the models' routers split the traffic.
    """

    kind: str
    stage: str
    serve: Mapping[str, str] = field(default_factory=dict)
    percent: float = 0.0
    release: bool = False
    routed: bool = False


WATCHING = frozenset({"start", "set"})
"""Actions that start the observation of their models."""


EDITS: Mapping[str, Callable[[Manifest, Action], Manifest]] = {
    "start": lambda manifest, action: start_canary(
        manifest, action.stage, action.serve, action.percent, release=action.release, routed=action.routed
    ),
    "set": lambda manifest, action: set_percent(manifest, action.stage, action.percent, action.serve),
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
        after: the stage in the new manifest.
        watched: what to observe of the canary afterwards; empty if it ends.
        opened: likewise; for a `return` what it moves. The functions of their `canary` must exist.
        alarms: the alarms that would end the canaries immediately; None if they end or get fewer requests than before.
    """

    path: Path
    data: bytes
    text: str
    rollout: Rollout
    change: StageChange
    before: StagePlan
    after: StagePlan
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
    served, is_release = _served_then(action, old_stage)
    routed = tuple(model for model in served if model in (new_stage if action.kind in WATCHING else old_stage).routed)
    is_elsewhere = set(routed) == set(served) and not is_release
    if action.kind == RETURN:
        is_elsewhere = before.canary is not None
    change = change_between(before, after, promotes=action.kind == "promote", is_elsewhere=is_elsewhere)
    rollout = Rollout(
        time=datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        who=user_name(),
        stage=action.stage,
        action=action.kind,
        before={model: served_text(old_stage, model) for model in served},
        after=served,
        percent={"promote": 100.0, "rollback": 0.0, RETURN: 100.0}.get(action.kind, action.percent),
        release=is_release,
        routed=routed,
        verdict=verdict,
        digests=_digests(plan, old_stage, served),
        stack=target.stack if target else "",
        endpoint_url=target.endpoint_url if target else "",
        manifest=(manifest_digest(data), manifest_digest(text.encode())),
        diff=make_diff(data.decode(), text, old.path.name),
        change=change.to_json(),
        run=run or {},
    )
    watched = _watched_then(plan, new_stage, after, served, release=is_release) if action.kind in WATCHING else ()
    opened = watched
    if action.kind == RETURN:
        opened = watched_of(plan, before.variables, after.variables, before.tables)
    alarms = None
    is_own = action.kind in WATCHING and not is_elsewhere
    if is_own and action.percent >= (before.canary.percent if before.canary else 0.0) and new_stage.canary is not None:
        alarms = find_guard_alarms(plan, new_stage.canary.judgement, after)
    for guard in find_routed_guards(plan, after) if action.kind in WATCHING else ():
        former = old_stage.routed.get(guard.model)
        if guard.model in routed and action.percent >= (former.percent if former else 0.0):
            alarms = GuardAlarms((*(alarms.names if alarms else ()), *guard.alarms), alarms.prefix if alarms else "")
    return Prepared(old.path.resolve(), data, text, rollout, change, before, after, watched, opened, alarms)


def _watched_then(
    plan: Plan, stage: Stage, planned: StagePlan, models: Collection[str], *, release: bool
) -> tuple[Watched, ...]:
    """Return the models whose observation starts."""
    split = watched_of(plan, planned.variables, planned.canary.overrides) if planned.canary else ()
    routed = [watched_routed(plan, stage, model) for model in stage.routed if model in models]
    return (*(pair for pair in split if release or pair.model in models), *routed)


def action_of(rollout: Rollout) -> Action:
    """The action whose record this is."""
    is_routed = bool(rollout.routed)
    return Action(rollout.action, rollout.stage, rollout.after, rollout.percent, rollout.release, is_routed)


def _served_then(action: Action, old: Stage) -> tuple[dict[str, str], bool]:
    """Model -> what an action is about, and whether it is about a release, too."""
    if action.kind in {"start", RETURN}:
        return dict(action.serve), action.release
    models = choose_models(old, action.serve)
    is_release = old.canary is not None and old.canary.release and (not models or not old.routed.keys() >= set(models))
    return {model: version_of(old, model) for model in models}, is_release


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


def user_name() -> str:
    """Return the user's name, if the system knows it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"

"""A canary's steps as they are carried out: written down, models.yaml edited, the stage changed, the record finished.

Comes in: a project, an `Action`, and the stage where it shall be changed at once. Goes out: the three effects, in that
order, within `editing`. Called by `turnout canary`.

Whatever ends the process between two effects, the record says what was begun and `mend` does the rest: each effect may
be had twice. Nothing is begun that is known not to work: the edited manifest is planned, and the stage is read, first.
"""

from __future__ import annotations

import getpass
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from turnout.canary_edit import end_canary, find_stage, promote_models, set_percent, start_canary
from turnout.drop_in import baselines_of
from turnout.manifest import Canary, Manifest, Stage, parse_manifest
from turnout.manifest_file import replace_text
from turnout.naming import ALIAS_VARIABLE
from turnout.observation.source import ObservationError, Source, Watched, watched_of
from turnout.plan import Plan, StagePlan
from turnout.planning import make_plan
from turnout.project import Project
from turnout.protocol.routing import spell_route
from turnout.rollout_log import Rollout, RolloutLog
from turnout.stage_changes import CANARY, StageChange, change_between, find_differences, patch_calls
from turnout.stage_control import StageControl, StageState, Target
from turnout.stage_variables import plan_stage

WriteText = Callable[[Path, str], None]


class RolloutError(Exception):
    """It cannot be done; the message is a sentence, `hint` the remedy or empty."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Action:
    """What shall be done to a stage's canary.

    Args:
        kind: a key of `EDITS`.
        stage: the stage's name.
        serve: to start: model -> version; to promote: the models, all where it is empty.
        percent: to start and to set: the canary's share.
        release: to start: whether the share also gets the new code and routes.
    """

    kind: str
    stage: str
    serve: Mapping[str, str] = field(default_factory=dict)
    percent: float = 0.0
    release: bool = False


EDITS: Mapping[str, Callable[[str, Action, str], str]] = {
    "start": lambda text, row, source: start_canary(
        text, row.stage, row.serve, row.percent, release=row.release, source=source
    ),
    "set": lambda text, row, source: set_percent(text, row.stage, row.percent, source=source),
    "promote": lambda text, row, source: promote_models(text, row.stage, row.serve, source=source),
    "rollback": lambda text, row, source: end_canary(text, row.stage, source=source),
}
"""What each kind of action makes of the manifest's text."""

CAREFUL = frozenset({"start", "promote"})
"""Actions that move traffic to where the manifest believes it comes from: the live stage has to agree."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What will be done; nothing of it is yet.

    Args:
        path: the manifest's file, links resolved: the file itself is what is replaced.
        text: its new content.
        rollout: what the record will say.
        change: what changes of the stage.
        before: the stage as the manifest has it now.
        watched: what is to be observed of the canary afterwards; empty where it ends.
    """

    path: Path
    text: str
    rollout: Rollout
    change: StageChange
    before: StagePlan
    watched: tuple[Watched, ...]


@dataclass(frozen=True, slots=True)
class Connection:
    """A stage as it is served: how it is changed, and who sees its traffic."""

    control: StageControl
    source: Source


def prepare(
    project: Project,
    action: Action,
    target: Target | None,
    *,
    now_s: float,
    verdict: str = "",
    run: Mapping[str, Any] | None = None,
) -> Prepared:
    """Work out an action and check it; nothing is written or sent.

    Args:
        project: as it is now.
        action: what shall be done.
        target: where the stage is changed at once, None where `pulumi up` shall do it.
        now_s: seconds since 1970.
        verdict: of the judgement that asks for it, or empty.
        run: where the run that asks for it is then, or None.

    Raises:
        EditError: a name is not known, a canary is on or none is, or models.yaml cannot be edited.
        ProblemsError: models.yaml would not be right: above all, a version that cannot stand in for another.
    """
    old = project.manifest
    data = old.path.read_bytes()
    text = EDITS[action.kind](data.decode(), action, old.source)
    new = parse_manifest(text.encode(), path=old.path, source=old.source)
    plan = make_plan(new, project.artifacts, stack=target.stack if target else "local", enforce=False)
    old_stage, new_stage = find_stage(old, action.stage), find_stage(new, action.stage)
    before, after = plan_stage(old_stage, old.models), plan_stage(new_stage, new.models)
    change = change_between(before, after, promotes=action.kind == "promote")
    canary = (new_stage if action.kind == "start" else old_stage).canary
    assert canary is not None  # EDITS has refused a stage without one
    models = [model for model in canary.serve if action.kind != "promote" or not action.serve or model in action.serve]
    rollout = Rollout(
        time=datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        who=_user(),
        stage=action.stage,
        action=action.kind,
        before={model: served_text(old_stage, model) for model in models},
        after={model: canary.serve[model] for model in models},
        percent={"promote": 100.0, "rollback": 0.0}.get(action.kind, action.percent),
        release=canary.release,
        verdict=verdict,
        digests=_digests(plan, old_stage, canary, models),
        stack=target.stack if target else "",
        endpoint_url=target.endpoint_url if target else "",
        manifest=(_digest(data), _digest(text.encode())),
        change=change.to_json(),
        run=run or {},
    )
    watched = watched_of(plan, after.variables, after.canary.overrides) if after.canary else ()
    return Prepared(old.path.resolve(), text, rollout, change, before, watched)


def carry_out(
    prepared: Prepared, log: RolloutLog, connection: Connection | None, *, write: WriteText = replace_text
) -> None:
    """Do what was prepared: the record, the manifest, the stage, the record again.

    Args:
        prepared: what to do.
        log: the record.
        connection: the stage to change at once, None where `pulumi up` shall do it.
        write: replaces the manifest.

    Raises:
        RolloutError: another rollout is half-done, or the live stage is not what the manifest says.
        StageControlError: the stage cannot be read or changed.
    """
    check_finished(log)
    rollout = prepared.rollout
    if connection is not None:
        check_in_step(connection.control.read(), prepared)
        rollout = replace(rollout, mark=_mark(connection.source, prepared))
    log.begin(rollout)
    write(prepared.path, prepared.text)
    if connection is not None:
        apply_change(connection.control, prepared.change)
    log.finish(rollout)


def _mark(source: Source, prepared: Prepared) -> dict[str, Any]:
    """From where on the canary is observed; nothing where it ends, or where nobody can say."""
    if not prepared.watched:
        return {}
    try:
        return source.mark(prepared.rollout.stage, prepared.watched).to_json()
    except ObservationError:
        return {}


def apply_change(control: StageControl, change: StageChange) -> None:
    """Change the stage, where it is not so already."""
    for operations in patch_calls(control.read(), change):
        control.update(operations)


def check_finished(log: RolloutLog) -> None:
    """Raise a RolloutError where an earlier rollout is half-done."""
    rollout = log.unfinished()
    if rollout is not None:
        message = f"`turnout canary {rollout.action} {rollout.stage}` of {rollout.time} was cut off before it was done"
        raise RolloutError(message, "`turnout canary mend` finishes it; `turnout canary status` says how far it got.")


def check_in_step(live: StageState, prepared: Prepared) -> None:
    """Raise a RolloutError where the stage is not what an action has to build on."""
    if prepared.rollout.action not in CAREFUL:
        return
    canary = prepared.change.canary
    subjects = {CANARY, *prepared.change.variables, *(canary.overrides if canary else ())}
    differences = find_differences(live, prepared.before, "the live stage")
    found = [difference.sentence for difference in differences if difference.subject in subjects]
    if found:
        stage = prepared.rollout.stage
        hint = f"`pulumi up` brings the stage to what the manifest says, `turnout canary set {stage}` its canary."
        raise RolloutError(f"{stage} is not served as the manifest says: {'; '.join(found)}", hint)


def mend(
    manifest: Manifest,
    log: RolloutLog,
    connect: Callable[[Rollout], StageControl],
    *,
    write: WriteText = replace_text,
) -> Rollout | None:
    """Finish the rollout that was cut off.

    Args:
        manifest: as it is now.
        log: the record.
        connect: the stage of a rollout that was to change it at once.
        write: replaces the manifest.

    Returns:
        The rollout, or None where none was cut off.

    Raises:
        RolloutError: models.yaml was changed by hand since, to something else.
        StageControlError: the stage cannot be read or changed.
    """
    rollout = log.unfinished()
    if rollout is None:
        return None
    change = StageChange.from_json(rollout.change)
    data = manifest.path.read_bytes()
    text = data.decode()
    if _digest(data) == rollout.manifest[0]:
        text = EDITS[rollout.action](text, action_of(rollout), manifest.source)
    elif _digest(data) != rollout.manifest[1] and not says(manifest, rollout.stage, change):
        message = f"{manifest.source} was changed since, and no longer says what was begun"
        raise RolloutError(message, "`turnout canary mend --abandon` closes the record and leaves all as it is.")
    if text.encode() != data:
        write(manifest.path.resolve(), text)
    if rollout.stack:
        apply_change(connect(rollout), change)
    log.finish(rollout)
    return rollout


def abandon(manifest: Manifest, log: RolloutLog) -> Rollout | None:
    """Close the record of a rollout that was cut off, and leave manifest and stage as they are.

    Returns:
        The rollout, or None where none was cut off.
    """
    rollout = log.unfinished()
    if rollout is None:
        return None
    if _digest(manifest.path.read_bytes()) == rollout.manifest[0]:
        log.forget()  # the manifest is edited before the stage is touched: nothing was done
    else:
        log.finish(replace(rollout, note="abandoned half-done"))
    return rollout


def progress_of(manifest: Manifest, rollout: Rollout) -> str:
    """How far a rollout got that was cut off, and what is missing."""
    if _digest(manifest.path.read_bytes()) == rollout.manifest[0]:
        return f"{manifest.source} is not edited yet, and the stage is not changed"
    return f"{manifest.source} is edited, and " + (
        "the stage may not be changed yet" if rollout.stack else "only the record is not finished"
    )


def says(manifest: Manifest, stage: str, change: StageChange) -> bool:
    """Whether the manifest has the stage as it is after a change."""
    for row in manifest.stages:
        if row.name == stage:
            planned = plan_stage(row, manifest.models)
            variables = {name: value for name, value in change.variables.items() if name != ALIAS_VARIABLE}
            return planned.canary == change.canary and variables.items() <= planned.variables.items()
    return False


def action_of(rollout: Rollout) -> Action:
    """The action whose record this is."""
    return Action(rollout.action, rollout.stage, rollout.after, rollout.percent, rollout.release)


def served_text(stage: Stage, model: str) -> str:
    """What a stage's baseline serves of a model: `v1`, or `v1.90,v2.10` where it has weights."""
    weights = stage.weights.get(model)
    return stage.serve[model] if weights is None else spell_route(weights)


def _digests(plan: Plan, stage: Stage, canary: Canary, models: list[str]) -> dict[str, dict[str, str]]:
    """Of every version that takes part, the artifact's sha256, first 12."""
    known = {(row.version.model, row.version.name): row.sha256[:12] for row in plan.versions}
    return {
        model: {version: known[model, version] for version in (*baselines_of(stage, model), canary.serve[model])}
        for model in models
    }


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _user() -> str:
    """Who does it, as far as the system knows."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"

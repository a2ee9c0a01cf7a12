"""Performs the steps of a canary: write the record, edit models.yaml, change the stage, finish the record.

If the process ends between two effects, the record says what was started and `mend` does the rest: each effect can be
repeated. Nothing is started that is known not to work: first the edited manifest is planned and the stage is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from turnout.canary.observation.source import ObservationError, Source
from turnout.canary.rollout.action import EDITS, Prepared, action_of, bytes_of, manifest_digest
from turnout.canary.rollout.log import RETURN, Rollout, RolloutLog
from turnout.canary.rollout.stage_changes import (
    CANARY,
    StageChange,
    find_differences,
    find_unpacked,
    marker_operations,
    patch_calls,
)
from turnout.canary.rollout.stage_control import ReachableFunctions, StageControl, StageControlError, StageState
from turnout.manifest.parser import Manifest, parse_manifest
from turnout.plan.guard_alarms import GuardAlarms
from turnout.plan.stages import find_packed, plan_stage
from turnout.plan.values import StagePlan
from turnout.problems import TurnoutError
from turnout.project.manifest_file import ManifestChangedError, check_unchanged, replace_text
from turnout.protocol.naming import ALIAS_VARIABLE, CANARY_VARIABLE, LIVE
from turnout.protocol.routing.choice_tables import find_known
from turnout.protocol.routing.packed_choices import expand_choices

WriteText = Callable[[Path, str, bytes], None]
"""Replaces a file's content, unless it differs from the expected old bytes."""


class RolloutError(TurnoutError):
    """The action cannot be performed."""


CLOSE_RECORD = "Close the record without changing anything: `turnout canary mend --abandon`."


CAREFUL = frozenset({"start", "promote"})
"""Actions that move traffic from the manifest's baseline: the live stage must agree with the manifest."""


OPENING = frozenset({"start", "set", RETURN})
"""Actions that send traffic to versions that may not have received it before."""


@dataclass(frozen=True, slots=True)
class StageConnection:
    """A stage as it is served: how it is changed, what its traffic reaches, and how it is observed.

    Args:
        control: reads and changes it.
        functions: the functions that it can reach.
        source: observes its traffic.
        ringing: returns which alarms are in ALARM; None if there are no alarms, as in a local gateway.
    """

    control: StageControl
    functions: ReachableFunctions
    source: Source
    ringing: Callable[[GuardAlarms], Sequence[str]] | None = None


def carry_out(
    prepared: Prepared, log: RolloutLog, connection: StageConnection | None, *, write: WriteText = replace_text
) -> None:
    """Perform a prepared action: the record, the manifest, the stage, the record again.

    Args:
        prepared: the action.
        log: the record of rollouts.
        connection: the stage to change immediately; None if `pulumi up` applies the change.
        write: replaces the manifest.

    Raises:
        RolloutError: another rollout was interrupted, the live stage differs from the manifest, or a function is
            missing.
        ManifestChangedError: the manifest was saved since it was read; nothing was changed.
        StageControlError: the stage cannot be read or changed.
    """
    check_finished(log)
    rollout = prepared.rollout
    if connection is not None:
        check_in_step(connection.control.read(), prepared)
        check_functions(connection.functions, prepared)
        check_alarms(connection, prepared)
        rollout = replace(rollout, observed_since=_begin_observation(connection.source, prepared))
    check_unchanged(prepared.path, prepared.data)  # asking the stage took time
    log.begin(rollout)
    try:
        write(prepared.path, prepared.text, prepared.data)
    except ManifestChangedError:
        log.forget()
        raise
    if connection is not None:
        apply_change(connection.control, prepared.change, prepared.after.tables)
    log.finish(rollout)


def _begin_observation(source: Source, prepared: Prepared) -> dict[str, Any]:
    """Return when the canary's observation starts; empty if the canary ends, or if no source answers."""
    if not prepared.watched:
        return {}
    try:
        return source.start(prepared.rollout.stage, prepared.watched).to_json()
    except ObservationError:
        return {}


def apply_change(control: StageControl, change: StageChange, tables: Mapping[str, str]) -> None:
    """Change the stage unless it is changed already; retry once if it was changed between reading and changing.

    A gateway that watches the manifest does that: it reads the edit that was just made.

    Args:
        control: reads and changes the stage.
        change: the change.
        tables: tables of the changed stage, which are written first: a request must find the table that its variables
            name.
    """
    try:
        _update(control, change, tables)
    except StageControlError:
        _update(control, change, tables)


def _update(control: StageControl, change: StageChange, tables: Mapping[str, str]) -> None:
    named = {name: tables[name] for name in change.named_tables() if name in tables}
    if named:
        control.store(named)
    for operations in patch_calls(control.read(), change):
        control.update(operations)


def check_finished(log: RolloutLog) -> None:
    """Raise a RolloutError if an earlier rollout was interrupted."""
    rollout = log.unfinished()
    if rollout is not None:
        message = f"`{rollout.command}` of {rollout.time} was interrupted"
        raise RolloutError(
            message, "Finish it with `turnout canary mend`. `turnout canary status` shows how far it got."
        )


def check_in_step(live: StageState, prepared: Prepared) -> None:
    """Raise a RolloutError if the stage differs from what an action must build on."""
    if unpacked := find_unpacked(live, prepared.change):
        message = (
            f"{prepared.rollout.stage} has no stage variable {unpacked[0]}: its models have variables of their own"
        )
        raise RolloutError(
            message, "Apply the manifest first, with `pulumi up`, or reload a local gateway with SIGHUP."
        )
    if prepared.rollout.action not in CAREFUL:
        return
    canary = prepared.change.canary
    changed = {**prepared.change.variables, **(canary.overrides if canary else {})}
    subjects = {*expand_choices(changed, find_known(prepared.after.tables))} - {CANARY_VARIABLE}
    if not prepared.change.keeps_canary:
        subjects.add(CANARY)
    differences = find_differences(live, prepared.before, "the live stage")
    sentences = [difference.sentence for difference in differences if difference.subject in subjects]
    if sentences:
        stage = prepared.rollout.stage
        hint = f"Apply the manifest with `pulumi up`, or only its canary with `turnout canary set {stage}`."
        raise RolloutError(f"{stage} differs from the manifest: {'; '.join(sentences)}", hint)


def check_functions(functions: ReachableFunctions, prepared: Prepared) -> None:
    """Raise a RolloutError if the canary's share would reach a missing function."""
    if prepared.rollout.action not in OPENING:
        return
    wanted = sorted({name for moved in prepared.opened for name in moved.canary.versions})
    routers = sorted({f"{moved.canary.function}:{LIVE}" for moved in prepared.opened if moved.is_routed})
    missing = [name for name in (*wanted, *routers) if not functions.has(name)]
    if missing:
        message = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not deployed yet"
        hint = "Deploy it with `pulumi up`, or reload a local gateway with SIGHUP."
        if set(missing) <= set(routers):
            hint = "Omit --now, then run `pulumi up`, or reload a local gateway with SIGHUP: that makes the router."
        raise RolloutError(message, hint)


def check_alarms(connection: StageConnection, prepared: Prepared) -> None:
    """Raise a RolloutError if an alarm of the canary is in ALARM: the guard rail would end the canary immediately."""
    if prepared.alarms is None or connection.ringing is None:
        return
    ringing = connection.ringing(prepared.alarms)
    if ringing:
        many = "are" if len(ringing) > 1 else "is"
        message = f"{', '.join(ringing)} {many} in ALARM: the canary would end immediately"
        raise RolloutError(message, "Start it when the alarm is OK, or set `auto_rollback: false` to end it yourself.")


def mend(
    manifest: Manifest,
    log: RolloutLog,
    connect: Callable[[Rollout], StageControl],
    *,
    write: WriteText = replace_text,
) -> Rollout | None:
    """Finish the rollout that was interrupted.

    Args:
        manifest: the current manifest.
        log: the record of rollouts.
        connect: connects to the stage of a rollout that was to change it immediately.
        write: replaces the manifest.

    Returns:
        The rollout, or None if none was interrupted.

    Raises:
        RolloutError: models.yaml was edited with another meaning since then, or the record does not say what to do.
        ManifestChangedError: models.yaml was saved at the same time.
        StageControlError: the stage cannot be read or changed.
    """
    rollout = log.unfinished()
    if rollout is None:
        return None
    try:
        change, edit = StageChange.from_json(rollout.change), EDITS[rollout.action]
    except (KeyError, TypeError) as error:
        message = f"the last line of {log.path.name} is not one that turnout wrote: {type(error).__name__}: {error}"
        raise RolloutError(message, CLOSE_RECORD) from None
    data = manifest.path.read_bytes()
    text = data.decode()
    final = manifest
    if manifest_digest(data) == rollout.manifest[0]:
        same = (
            manifest if bytes_of(manifest) == data else parse_manifest(data, path=manifest.path, source=manifest.source)
        )
        final = edit(same, action_of(rollout))
        text = bytes_of(final).decode()
    elif manifest_digest(data) != rollout.manifest[1] and not says(manifest, rollout.stage, change):
        message = f"{manifest.source} was changed since and no longer matches the interrupted command"
        raise RolloutError(message, CLOSE_RECORD)
    if text.encode() != data:
        write(manifest.path.resolve(), text, data)
    if rollout.stack:
        planned = _plan_stages(final, rollout.stage)
        apply_change(connect(rollout), change, planned[0].tables if planned else {})
    log.finish(rollout)
    return rollout


def reset_marker(control: StageControl) -> bool:
    """Set the stage variable `canary` correctly for both shares of a stage; return whether it was wrong."""
    operations = marker_operations(control.read())
    if operations:
        control.update(operations)
    return bool(operations)


def abandon(manifest: Manifest, log: RolloutLog) -> Rollout | None:
    """Close the record of an interrupted rollout without changing manifest and stage.

    Returns:
        The rollout, or None if none was interrupted.
    """
    rollout = log.unfinished()
    if rollout is None:
        return None
    if manifest_digest(manifest.path.read_bytes()) == rollout.manifest[0]:
        log.forget()  # the manifest is edited before the stage is touched, so nothing was changed
    else:
        log.finish(replace(rollout, note="abandoned unfinished"))
    return rollout


def progress_of(manifest: Manifest, rollout: Rollout) -> str:
    """Describe the progress of an unfinished rollout, and what is missing."""
    if manifest_digest(manifest.path.read_bytes()) == rollout.manifest[0]:
        return f"neither {manifest.source} nor the stage is changed yet"
    return f"{manifest.source} is edited, and " + (
        "the stage may not be changed yet" if rollout.stack else "only the record is missing"
    )


def says(manifest: Manifest, stage: str, change: StageChange) -> bool:
    """Whether the manifest has the stage as it is after a change."""
    for planned in _plan_stages(manifest, stage):
        variables = {name: value for name, value in change.variables.items() if name != ALIAS_VARIABLE}
        are_so = all(planned.variables.get(name, "") == value for name, value in variables.items())
        return planned.canary == change.canary and are_so
    return False


def _plan_stages(manifest: Manifest, name: str) -> list[StagePlan]:
    """Return the plan of the stage with this name; none if the manifest has no such stage."""
    packed = find_packed(manifest)
    return [plan_stage(stage, manifest.models, packed=packed) for stage in manifest.stages if stage.name == name]

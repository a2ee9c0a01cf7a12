"""A canary's steps as they are carried out: written down, models.yaml edited, the stage changed, the record finished.

Whatever ends the process between two effects, the record says what was begun and `mend` does the rest: each effect may
be had twice. Nothing is begun that is known not to work: the edited manifest is planned, and the stage is read, first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from turnout.problems import TurnoutError
from turnout.project.manifest_file import ManifestChangedError, check_unchanged, replace_text
from turnout.protocol.naming import ALIAS_VARIABLE, CANARY_VARIABLE
from turnout.protocol.routing.packed_choices import expand_choices

WriteText = Callable[[Path, str, bytes], None]
"""Replaces a file's content, unless that is no longer the bytes given last."""


class RolloutError(TurnoutError):
    """The move cannot be made."""


CLOSE_RECORD = "Close the record without changing anything: `turnout canary mend --abandon`."


CAREFUL = frozenset({"start", "promote"})
"""Actions that move traffic to where the manifest believes it comes from: the live stage has to agree."""


OPENING = frozenset({"start", "set", RETURN})
"""Actions that send traffic to versions that it may not have reached before."""


@dataclass(frozen=True, slots=True)
class StageConnection:
    """A stage as it is served: how it is changed, what its traffic reaches, and who sees it.

    Args:
        control: reads and changes it.
        functions: those that it can reach.
        source: observes its traffic.
        ringing: returns which alarms are in ALARM; None where there are none, as in a gateway on this machine.
    """

    control: StageControl
    functions: ReachableFunctions
    source: Source
    ringing: Callable[[GuardAlarms], Sequence[str]] | None = None


def carry_out(
    prepared: Prepared, log: RolloutLog, connection: StageConnection | None, *, write: WriteText = replace_text
) -> None:
    """Do what was prepared: the record, the manifest, the stage, the record again.

    Args:
        prepared: what to do.
        log: the record.
        connection: the stage to change at once, None where `pulumi up` shall do it.
        write: replaces the manifest.

    Raises:
        RolloutError: another rollout is half-done, the live stage is not what the manifest says, or a function is
            missing.
        ManifestChangedError: the manifest was saved since it was read; nothing was done.
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
        apply_change(connection.control, prepared.change)
    log.finish(rollout)


def _begin_observation(source: Source, prepared: Prepared) -> dict[str, Any]:
    """When the observation of the canary starts; empty where the canary ends, or where no source answers."""
    if not prepared.watched:
        return {}
    try:
        return source.start(prepared.rollout.stage, prepared.watched).to_json()
    except ObservationError:
        return {}


def apply_change(control: StageControl, change: StageChange) -> None:
    """Change the stage, where it is not so already; once more where it was changed by another between look and change.

    A gateway that watches the manifest does that: it reads the edit that was made just before.
    """
    try:
        _update(control, change)
    except StageControlError:
        _update(control, change)


def _update(control: StageControl, change: StageChange) -> None:
    for operations in patch_calls(control.read(), change):
        control.update(operations)


def check_finished(log: RolloutLog) -> None:
    """Raise a RolloutError where an earlier rollout is half-done."""
    rollout = log.unfinished()
    if rollout is not None:
        message = f"`{rollout.command}` of {rollout.time} was interrupted"
        raise RolloutError(
            message, "Finish it with `turnout canary mend`. `turnout canary status` shows how far it got."
        )


def check_in_step(live: StageState, prepared: Prepared) -> None:
    """Raise a RolloutError where the stage is not what an action has to build on."""
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
    subjects = {CANARY, *expand_choices(changed)} - {CANARY_VARIABLE}
    differences = find_differences(live, prepared.before, "the live stage")
    sentences = [difference.sentence for difference in differences if difference.subject in subjects]
    if sentences:
        stage = prepared.rollout.stage
        hint = f"Apply the manifest with `pulumi up`, or only its canary with `turnout canary set {stage}`."
        raise RolloutError(f"{stage} differs from the manifest: {'; '.join(sentences)}", hint)


def check_functions(functions: ReachableFunctions, prepared: Prepared) -> None:
    """Raise a RolloutError where the canary's share would reach a function that is not there."""
    if prepared.rollout.action not in OPENING:
        return
    wanted = sorted({name for moved in prepared.opened for name in moved.canary.versions})
    missing = [name for name in wanted if not functions.has(name)]
    if missing:
        message = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not deployed yet"
        raise RolloutError(message, "Deploy it with `pulumi up`, or reload a local gateway with SIGHUP.")


def check_alarms(connection: StageConnection, prepared: Prepared) -> None:
    """Raise a RolloutError where an alarm that ends the canary is in ALARM: the guard rail would end it at once."""
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
    """Finish the rollout that was cut off.

    Args:
        manifest: as it is now.
        log: the record.
        connect: the stage of a rollout that was to change it at once.
        write: replaces the manifest.

    Returns:
        The rollout, or None where none was cut off.

    Raises:
        RolloutError: models.yaml was changed by hand since, to something else, or the record does not say what to do.
        ManifestChangedError: models.yaml was saved at this moment.
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
    if manifest_digest(data) == rollout.manifest[0]:
        same = (
            manifest if bytes_of(manifest) == data else parse_manifest(data, path=manifest.path, source=manifest.source)
        )
        text = bytes_of(edit(same, action_of(rollout))).decode()
    elif manifest_digest(data) != rollout.manifest[1] and not says(manifest, rollout.stage, change):
        message = f"{manifest.source} was changed since and no longer matches the interrupted command"
        raise RolloutError(message, CLOSE_RECORD)
    if text.encode() != data:
        write(manifest.path.resolve(), text, data)
    if rollout.stack:
        apply_change(connect(rollout), change)
    log.finish(rollout)
    return rollout


def reset_marker(control: StageControl) -> bool:
    """Make the stage variable `canary` right for both shares of a stage, and return whether it was wrong."""
    operations = marker_operations(control.read())
    if operations:
        control.update(operations)
    return bool(operations)


def abandon(manifest: Manifest, log: RolloutLog) -> Rollout | None:
    """Close the record of a rollout that was cut off, and leave manifest and stage as they are.

    Returns:
        The rollout, or None where none was cut off.
    """
    rollout = log.unfinished()
    if rollout is None:
        return None
    if manifest_digest(manifest.path.read_bytes()) == rollout.manifest[0]:
        log.forget()  # the manifest is edited before the stage is touched, so nothing was changed
    else:
        log.finish(replace(rollout, note="abandoned half-done"))
    return rollout


def progress_of(manifest: Manifest, rollout: Rollout) -> str:
    """The progress of an unfinished rollout, and what is missing."""
    if manifest_digest(manifest.path.read_bytes()) == rollout.manifest[0]:
        return f"neither {manifest.source} nor the stage is changed yet"
    return f"{manifest.source} is edited, and " + (
        "the stage may not be changed yet" if rollout.stack else "only the record is missing"
    )


def says(manifest: Manifest, stage: str, change: StageChange) -> bool:
    """Whether the manifest has the stage as it is after a change."""
    for candidate in manifest.stages:
        if candidate.name == stage:
            planned = plan_stage(candidate, manifest.models, packed=find_packed(manifest))
            variables = {name: value for name, value in change.variables.items() if name != ALIAS_VARIABLE}
            return planned.canary == change.canary and variables.items() <= planned.variables.items()
    return False

"""Pure functions that return the calls that bring a stage to its planned state, and its differences from the plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from turnout.canary.rollout.stage_control import LiveCanary, StageOperation, StageState
from turnout.plan.values import CanaryPlan, StagePlan
from turnout.protocol.naming import ALIAS_VARIABLE, CANARY_VARIABLE, LIVE
from turnout.protocol.routing.choice_tables import FindTable, find_known, names_of
from turnout.protocol.routing.packed_choices import expand_choices, is_combined


@dataclass(frozen=True, slots=True)
class StageChange:
    """The changes of a stage by one command.

    Args:
        variables: changed variables of the baseline; an empty value removes one.
        canary: the canary afterwards, None for none.
        promotes: whether the baseline takes over the canary's deployment when the canary ends.
        keeps_canary: whether the stage's deployed canary stays as it is, since the command is about another one.
    """

    variables: Mapping[str, str]
    canary: CanaryPlan | None
    promotes: bool = False
    keeps_canary: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the JSON in the record of a rollout."""
        canary = self.canary and {
            "percent": self.canary.percent,
            "overrides": dict(self.canary.overrides),
            "release": self.canary.release,
        }
        keeps = {"keeps_canary": True} if self.keeps_canary else {}
        return {"variables": dict(self.variables), "canary": canary, "promotes": self.promotes, **keeps}

    @staticmethod
    def from_json(fields: Mapping[str, Any]) -> StageChange:
        """Read what `to_json` wrote."""
        canary = fields["canary"]
        plan = CanaryPlan(**canary) if canary else None
        return StageChange(fields["variables"], plan, fields["promotes"], fields.get("keeps_canary", False))

    def named_tables(self) -> tuple[str, ...]:
        """Return the names of the tables of choices that must exist before the stage is changed."""
        return tuple(names_of(self.variables, self.canary.overrides if self.canary else {}))


def change_between(before: StagePlan, after: StagePlan, *, promotes: bool, is_elsewhere: bool = False) -> StageChange:
    """The changes of a stage by an edit of the manifest.

    A release that is promoted leaves the stage at the alias that the canary called: the new code is behind it already,
    and behind `live` only after the next `pulumi up`.

    Args:
        before: the stage as it was.
        after: the stage after the change.
        promotes: whether the canary is promoted.
        is_elsewhere: whether the edit is not about the stage's own canary.
    """
    names = dict.fromkeys((*after.variables, *before.variables))
    values = {name: after.variables.get(name, "") for name in names}
    variables = {name: value for name, value in values.items() if before.variables.get(name, "") != value}
    if promotes and after.canary is None and before.canary is not None and before.canary.release:
        variables[ALIAS_VARIABLE] = before.canary.overrides[ALIAS_VARIABLE]
    keeps_canary = is_elsewhere and before.canary == after.canary
    return StageChange(variables, after.canary, promotes, keeps_canary)


CANARY_VALUES = {True: "true", False: "false"}
"""Whether a share is the canary's -> the value of the stage variable `canary` in it."""


def marker_operations(live: StageState) -> tuple[StageOperation, ...]:
    """Return the operations that correct the stage variable `canary` for both shares; none if it is correct.

    It is wrong after a promotion that copied the overrides onto the variables, and in a canary that was not started by
    Turnout.
    """
    operations: list[StageOperation] = []
    if live.variables.get(CANARY_VARIABLE, CANARY_VALUES[False]) != CANARY_VALUES[False]:
        operations.append(_replace(f"/variables/{CANARY_VARIABLE}", CANARY_VALUES[False]))
    if live.canary is not None and live.canary.overrides.get(CANARY_VARIABLE) != CANARY_VALUES[True]:
        operations.append(_replace(f"/canarySettings/stageVariableOverrides/{CANARY_VARIABLE}", CANARY_VALUES[True]))
    return tuple(operations)


def patch_calls(live: StageState, change: StageChange) -> tuple[tuple[StageOperation, ...], ...]:
    """Return the UpdateStage calls that make the change; none if the stage is already changed.

    Each call switches the traffic once. A canary that ends by promotion needs two: one moves the baseline and sends it
    all traffic, the other removes the canary, which by then gets no traffic (AWS's documented order). AWS also offers
    to copy the overrides onto the variables; the baseline would then tell its functions that it is the canary. If that
    was done, every change resets it.
    """
    wanted = dict(change.variables)
    if live.variables.get(CANARY_VARIABLE, CANARY_VALUES[False]) != CANARY_VALUES[False]:
        wanted[CANARY_VARIABLE] = CANARY_VALUES[False]
    variables = tuple(
        _replace(f"/variables/{name}", value) if value else {"op": "remove", "path": f"/variables/{name}"}
        for name, value in wanted.items()
        if live.variables.get(name, "") != value
    )
    if change.keeps_canary:
        return (variables,) if variables else ()
    if change.canary is not None:
        operations = (*variables, *_canary_operations(live.canary, change.canary))
        return (operations,) if operations else ()
    if live.canary is None:
        return (variables,) if variables else ()
    remove = ({"op": "remove", "path": "/canarySettings"},)
    moved = change.promotes and live.canary.deployment_id != live.deployment_id
    if not variables and not moved:
        return (remove,)
    copy = ({"op": "copy", "from": "/canarySettings/deploymentId", "path": "/deploymentId"},) if moved else ()
    return ((_replace("/canarySettings/percentTraffic", "0.0"), *variables, *copy), remove)


def _canary_operations(live: LiveCanary | None, wanted: CanaryPlan) -> Iterator[StageOperation]:
    if live is None or live.percent != wanted.percent:
        yield _replace("/canarySettings/percentTraffic", str(float(wanted.percent)))
    if live is None:
        yield _replace("/canarySettings/useStageCache", "false")
    overrides = live.overrides if live else {}
    for name, value in wanted.overrides.items():
        if overrides.get(name) != value:
            yield _replace(f"/canarySettings/stageVariableOverrides/{name}", value)
    for name in overrides:
        if name not in wanted.overrides:
            yield {"op": "remove", "path": f"/canarySettings/stageVariableOverrides/{name}"}


def _replace(path: str, value: str) -> StageOperation:
    return {"op": "replace", "path": path, "value": value}


def find_unpacked(live: StageState, change: StageChange) -> list[str]:
    """Return the variables that a change sets with the choices of several models but that the live stage lacks.

    Its routes and its router may not read them yet.
    """
    canary = change.canary
    names = (*change.variables, *(canary.overrides if canary else ()))
    missing = (name for name in dict.fromkeys(names) if is_combined(name) and name not in live.variables)
    return [name for name in missing if change.variables.get(name) != ""]


RESET = "`turnout canary mend STAGE` resets the stage variable `canary`"

CANARY = "canarySettings"
SHARE = "percentTraffic"


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between a stage and its plan.

    Args:
        subject: a stage variable, `CANARY` if only one of the two has a canary, `SHARE` if the shares differ.
        sentence: the two values and their places.
    """

    subject: str
    sentence: str


def find_differences(actual: StageState, plan: StagePlan, whose: str) -> Iterator[Difference]:
    """Return each difference between a stage and its plan; `whose` is its name in messages: `the live stage`."""
    tables = {**plan.tables, **actual.tables}
    overrides = (of.canary.overrides if of.canary else {} for of in (plan, actual))
    # An unknown table, as in Pulumi's outputs, is compared by its name.
    expands = all(name in tables for name in names_of(plan.variables, actual.variables, *overrides))
    find_table = find_known(tables)
    planned_choices, actual_choices = plan.variables, actual.variables
    if expands:
        planned_choices, actual_choices = (expand_choices(of, find_table) for of in (planned_choices, actual_choices))
    for name, planned, value in _unequal(planned_choices, actual_choices):
        if name == CANARY_VARIABLE and value == CANARY_VALUES[True]:
            yield Difference(name, f"{whose} marks every answer as the canary's (`x-turnout-canary: true`): {RESET}")
            continue
        waits = name == ALIAS_VARIABLE and planned == LIVE and actual.canary is None
        sentence = f"{name} is {planned or 'not set'} in the manifest, {value or 'not set'} in {whose}"
        yield Difference(name, f"{sentence}: `pulumi up` completes the promoted release" if waits else sentence)
    if plan.canary is None or actual.canary is None:
        if plan.canary or actual.canary:
            has, lacks = ("the manifest", whose) if plan.canary else (whose, "the manifest")
            yield Difference(CANARY, f"a canary in {has}, but none in {lacks}")
        return
    planned_percent, percent = plan.canary.percent, actual.canary.percent
    if planned_percent != percent:
        sentence = f"the canary's share is {planned_percent:g}% in the manifest, {percent:g}% in {whose}"
        yield Difference(SHARE, sentence)
    wanted, moved = plan.canary.overrides, actual.canary.overrides
    if expands:
        wanted = _list_moved(plan.variables, wanted, find_table)
        moved = _list_moved(actual.variables, moved, find_table)
    for name, planned, value in _unequal(wanted, moved):
        if name == CANARY_VARIABLE:
            yield Difference(name, f"{whose} does not mark the answers of the canary (`x-turnout-canary`): {RESET}")
            continue
        where = f"{planned or 'not set'} in the manifest, {value or 'not set'} in {whose}"
        yield Difference(name, f"the canary's {name} is {where}")


def _list_moved(variables: Mapping[str, str], overrides: Mapping[str, str], find_table: FindTable) -> dict[str, str]:
    """Yield the overrides of each model; for combined choices those that differ from the baseline's."""
    if not any(map(is_combined, overrides)):
        return dict(overrides)
    baseline = expand_choices(variables, find_table)
    moved = expand_choices({**variables, **overrides}, find_table)
    others = {name: value for name, value in overrides.items() if not is_combined(name)}
    return {**{name: value for name, value in moved.items() if baseline.get(name) != value}, **others}


def _unequal(planned: Mapping[str, str], actual: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield name and both values, empty for none, where they differ."""
    for name in dict.fromkeys((*planned, *actual)):
        if planned.get(name, "") != actual.get(name, ""):
            yield name, planned.get(name, ""), actual.get(name, "")

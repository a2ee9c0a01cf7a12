"""The alarms that end a canary on AWS: those of the functions that it moves, and those in models.yaml.

The Pulumi program passes them to the guard rail; `turnout canary` reads their state before it starts a canary.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from turnout.manifest.judgement import Judgement
from turnout.plan.served_by import Watched, watched_of, watched_routed
from turnout.plan.values import Plan, StagePlan
from turnout.protocol.naming import function_prefix, route_variable_name
from turnout.protocol.routing.choice import spell_route

ERRORS = "_errors"
"""The end of a function's error alarm's name; the start is the function's name."""

MOST_NAMES = 100
"""The most names in one DescribeAlarms call."""

NAMES_CHARACTERS = 1500
"""Most characters of the functions' alarm names together. An EventBridge pattern has at most 2,048 characters,
including their ARNs; if the names do not fit, every function's error alarm ends the canary. Source: EventBridge User
Guide, "Quotas".
"""

ARN_CHARACTERS = 60
"""Approximate number of characters of an alarm's ARN without its name."""


INPUT_CHARACTERS = 8_000
"""Most characters of routed canaries in the input of one rule's target. Its limit is 8,192, including API and stage.
Source: EventBridge API reference, "Target" and "InputTransformer".
"""


@dataclass(frozen=True, slots=True)
class GuardAlarms:
    """The alarms of one canary.

    Args:
        names: the full names.
        prefix: if it is not empty, every alarm counts whose name starts with it and ends with `ERRORS`.
    """

    names: tuple[str, ...]
    prefix: str = ""


def errors_alarm_name(function: str) -> str:
    """Return the name of the alarm on a function's failures."""
    return f"{function}{ERRORS}"


def find_guard_alarms(plan: Plan, judgement: Judgement, stage: StagePlan) -> GuardAlarms | None:
    """Return the alarms that end a stage's canary.

    Return None if the stage has no canary, or one with `auto_rollback: false`. Alarms in models.yaml are added to the
    error alarms of the functions that the canary moves.
    """
    canary = stage.canary
    if canary is None or not judgement.auto_rollback:
        return None
    every = f"{function_prefix(plan.platform, plan.stack)}_"
    if canary.release:  # a release replaces the code of every function
        return GuardAlarms(judgement.alarms, every)
    names = _own_names(plan, watched_of(plan, stage.variables, canary.overrides))
    own = sum(len(name) + ARN_CHARACTERS for name in names)
    others = sum(len(name) + ARN_CHARACTERS for name in judgement.alarms)
    if names and own + others > NAMES_CHARACTERS:
        return GuardAlarms(judgement.alarms, every)
    alarms = tuple(dict.fromkeys((*names, *judgement.alarms)))
    return GuardAlarms(alarms) if alarms else None


def _own_names(plan: Plan, moved: Iterable[Watched]) -> tuple[str, ...]:
    """Return the error alarms of the functions that only canaries call."""
    functions = {
        resource.partition(":")[0] for pair in moved for resource in pair.canary.versions - pair.baseline.versions
    }
    # A pooled version's own alarm counts its failed answers, its pool's the calls that end the process.
    pools = {plan.pool_of[function] for function in functions if function in plan.pool_of}
    return tuple(errors_alarm_name(function) for function in sorted(functions | pools))


@dataclass(frozen=True, slots=True)
class RoutedGuard:
    """A routed canary that alarms end, as the guard rail's function gets it.

    Args:
        model: its model.
        variable: the stage variable with the choice of the model's router.
        version: the canary's version.
        deployed: value of the variable with the canary.
        baseline: value of the variable without it.
        alarms: full names of the alarms.
    """

    model: str
    variable: str
    version: str
    deployed: str
    baseline: str
    alarms: tuple[str, ...]


def find_routed_guards(plan: Plan, stage: StagePlan) -> Iterator[RoutedGuard]:
    """Return each routed canary of a stage that alarms end, except those with `auto_rollback: false`."""
    for model, routed in stage.routed.items():
        if not routed.judgement.auto_rollback:
            continue
        own = _own_names(plan, (watched_routed(plan, stage, model),))
        alarms = tuple(dict.fromkeys((*own, *routed.judgement.alarms)))
        baseline, variable = spell_route(routed.baseline), route_variable_name(model)
        yield RoutedGuard(model, variable, routed.version, spell_route(routed.weights), baseline, alarms)


def group_routed_guards(guards: Iterable[RoutedGuard]) -> Iterator[tuple[RoutedGuard, ...]]:
    """Yield the routed canaries of a stage in groups, in order; each group fits into one target's input."""
    group: list[RoutedGuard] = []
    characters = 0
    for guard in guards:
        more = len(json.dumps(asdict(guard)))
        if group and characters + more > INPUT_CHARACTERS:
            yield tuple(group)
            group, characters = [], 0
        group.append(guard)
        characters += more
    if group:
        yield tuple(group)


def find_ringing(client: Any, alarms: GuardAlarms) -> tuple[str, ...]:
    """Return the names of those alarms that are in ALARM now, with boto3's CloudWatch client."""
    return tuple(sorted({name for alarm_request in alarm_requests(alarms) for name in _fetch(client, alarm_request)}))


def alarm_requests(alarms: GuardAlarms) -> Iterator[Mapping[str, Any]]:
    """Yield the arguments of the DescribeAlarms calls for these alarms."""
    for first in range(0, len(alarms.names), MOST_NAMES):
        yield {"AlarmNames": list(alarms.names[first : first + MOST_NAMES])}
    if alarms.prefix:
        yield {"AlarmNamePrefix": alarms.prefix}


def _fetch(client: Any, request: Mapping[str, Any]) -> Iterator[str]:
    types = ["MetricAlarm", "CompositeAlarm"]
    pages = client.get_paginator("describe_alarms").paginate(**request, StateValue="ALARM", AlarmTypes=types)
    for page in pages:
        for alarm in (*page.get("MetricAlarms", ()), *page.get("CompositeAlarms", ())):
            is_meant = "AlarmNames" in request or alarm["AlarmName"].endswith(ERRORS)
            if is_meant and alarm["StateValue"] == "ALARM":
                yield alarm["AlarmName"]

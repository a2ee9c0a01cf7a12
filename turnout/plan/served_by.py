"""Finds the functions that answer each share of a stage, and the models that a canary moves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from turnout.manifest.values import Stage
from turnout.plan.values import Plan, StagePlan
from turnout.protocol.naming import (
    ALIAS_VARIABLE,
    LIVE,
    ROUTER,
    function_name,
    function_prefix,
    route_variable_name,
    variable_name,
)
from turnout.protocol.routing.choice import RouteError, parse_route
from turnout.protocol.routing.choice_tables import TABLE_VARIABLE, find_known
from turnout.protocol.routing.packed_choices import expand_choices, unpack_choices


@dataclass(frozen=True, slots=True)
class Serving:
    """The versions that answer calls without a version in one share of a stage's traffic.

    Args:
        function: the function that the stage calls: a version's, or the model's router.
        versions: `function:alias` of the versions that run the model then, as in CloudWatch.
    """

    function: str
    versions: frozenset[str]


@dataclass(frozen=True, slots=True)
class Watched:
    """A model that a canary moves: its versions in the canary's share differ from the baseline's.

    Args:
        model: its name.
        baseline: the versions that answer the baseline's share.
        canary: the versions that answer the canary's share.
        is_routed: whether the model's router splits the shares instead of the stage: both have the router as their
            function.
    """

    model: str
    baseline: Serving
    canary: Serving
    is_routed: bool = False


def watched_of(
    plan: Plan,
    variables: Mapping[str, str],
    overrides: Mapping[str, str],
    tables: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Watched, ...]:
    """Return the models that a canary moves.

    Args:
        plan: plan with the models and their functions.
        variables: variables of the stage.
        overrides: overrides of its canary.
        tables: the tables that they name, in addition to the plan's.

    Raises:
        TableError: they name another table.
    """
    prefix = function_prefix(plan.platform, plan.stack)
    find_table = find_known({**plan.tables, **tables})
    seen = expand_choices({**variables, **overrides}, find_table)
    variables = expand_choices(variables, find_table)
    models = dict.fromkeys(served.version.model for served in plan.versions)
    servings = ((model, _serving(prefix, model, variables), _serving(prefix, model, seen)) for model in models)
    return tuple(Watched(model, baseline, canary) for model, baseline, canary in servings if baseline != canary)


def combined_choices(stage: StagePlan) -> Mapping[str, str]:
    """Return stage variable of a model -> its version, for the models without a stage variable of their own."""
    table = stage.variables.get(TABLE_VARIABLE)
    return find_known(stage.tables)(table) if table else unpack_choices(stage.variables)


def watched_routed(plan: Plan, stage: Stage | StagePlan, model: str) -> Watched:
    """Return the two shares of a model's routed canary."""
    prefix = function_prefix(plan.platform, plan.stack)
    routed = stage.routed[model]

    def serve(versions: Iterable[str]) -> Serving:
        names = frozenset(f"{function_name(prefix, model, version)}:{LIVE}" for version in versions)
        return Serving(function_name(prefix, model, ROUTER), names)

    baseline = (version for version, share in routed.baseline.items() if share)
    return Watched(model, serve(baseline), serve((routed.version,)), is_routed=True)


def _serving(prefix: str, model: str, variables: Mapping[str, str]) -> Serving:
    chosen = variables.get(variable_name(model), "")
    alias = variables.get(ALIAS_VARIABLE, "")
    versions = (chosen,) if chosen != ROUTER else _routed(variables.get(route_variable_name(model), ""))
    return Serving(
        function_name(prefix, model, chosen),
        frozenset(f"{function_name(prefix, model, version)}:{alias}" for version in versions),
    )


def _routed(route: str) -> Sequence[str]:
    """Return the versions that a router chooses from; none if the variable is not readable."""
    try:
        return tuple(parse_route(route))
    except RouteError:
        return ()

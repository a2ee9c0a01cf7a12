"""Finds which functions answer for each share of a stage, and which models a canary moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from turnout.plan.values import Plan
from turnout.protocol.naming import (
    ALIAS_VARIABLE,
    ROUTER,
    function_name,
    function_prefix,
    route_variable_name,
    variable_name,
)
from turnout.protocol.routing.choice import RouteError, parse_route
from turnout.protocol.routing.packed_choices import expand_choices


@dataclass(frozen=True, slots=True)
class Serving:
    """The versions that answer a model's unversioned calls in one share of a stage's traffic.

    Args:
        function: the one that the stage calls: a version's, or the model's router.
        versions: `function:alias` of those that run the model then, as CloudWatch names them.
    """

    function: str
    versions: frozenset[str]


@dataclass(frozen=True, slots=True)
class Watched:
    """A model for which the canary's share differs from the baseline's."""

    model: str
    baseline: Serving
    canary: Serving


def watched_of(plan: Plan, variables: Mapping[str, str], overrides: Mapping[str, str]) -> tuple[Watched, ...]:
    """The models that a canary moves.

    Args:
        plan: names the models and their functions.
        variables: the stage's own.
        overrides: its canary's.
    """
    prefix = function_prefix(plan.platform, plan.stack)
    seen = expand_choices({**variables, **overrides})
    variables = expand_choices(variables)
    models = dict.fromkeys(served.version.model for served in plan.versions)
    servings = ((model, _serving(prefix, model, variables), _serving(prefix, model, seen)) for model in models)
    return tuple(Watched(model, baseline, canary) for model, baseline, canary in servings if baseline != canary)


def _serving(prefix: str, model: str, variables: Mapping[str, str]) -> Serving:
    chosen = variables.get(variable_name(model), "")
    alias = variables.get(ALIAS_VARIABLE, "")
    versions = (chosen,) if chosen != ROUTER else _routed(variables.get(route_variable_name(model), ""))
    return Serving(
        function_name(prefix, model, chosen),
        frozenset(f"{function_name(prefix, model, version)}:{alias}" for version in versions),
    )


def _routed(route: str) -> Sequence[str]:
    """The versions that a router chooses from; none where the variable cannot be read."""
    try:
        return tuple(parse_route(route))
    except RouteError:
        return ()

"""Makes stage variables: the routing table of a stage, and its canary's overrides.

A model that needs its router has `iris=router` and the choice in a second variable, `irisRoute=v1.90,v2.10`, or
`triageRoute=graph` if there is no choice; every other model has `iris=v1`, and the API calls it directly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from turnout.manifest.parser import Canary, Manifest, Model, Stage
from turnout.plan.checks.quotas import VARIABLES_PER_STAGE
from turnout.plan.values import CanaryPlan, StagePlan
from turnout.protocol.aws.cors import make_cors_variables
from turnout.protocol.naming import (
    ALIAS_VARIABLE,
    CANARY_VARIABLE,
    GRAPH,
    LIVE,
    NEXT,
    ROUTER,
    route_variable_name,
    variable_name,
)
from turnout.protocol.routing.choice import spell_route
from turnout.protocol.routing.choice_tables import TABLE_VARIABLE, make_table
from turnout.protocol.routing.packed_choices import arrange_models, pack_choices
from turnout.protocol.routing.pooled import WATCH_ALL, WATCHED_VARIABLE, spell_watched

OWN_VARIABLES = 4
"""Stage variables other than the models': the alias, the canary's flag, and two for CORS."""

RESERVED_VARIABLES = OWN_VARIABLES + 1
"""The same with the one that names watched models: starting a canary must not change the form of the choices."""


def find_routed(manifest: Manifest) -> frozenset[str]:
    """Return the models that have a router: a stage has weights for them, they have `routing`, or they are graphs."""
    weighted = {name for stage in manifest.stages for name in stage.weights}
    return frozenset(weighted | {model.name for model in manifest.models if model.routing or model.graph is not None})


def find_packed(manifest: Manifest) -> frozenset[str]:
    """Return the models whose choices share stage variables or a table, if there are too many for one variable each.

    Models with a router or with their own routes have their own variables.
    """
    routed = find_routed(manifest)
    pooled = any(version.pool for version in manifest.versions)
    needed = len(manifest.models) + len(routed) + OWN_VARIABLES + pooled
    if manifest.routes == "direct" or needed <= VARIABLES_PER_STAGE:
        return frozenset()
    return frozenset(model.name for model in manifest.models if not model.is_direct) - routed


def plan_stage(stage: Stage, models: Sequence[Model], *, packed: frozenset[str] = frozenset()) -> StagePlan:
    """Return the stage for API Gateway; its variables contain every model, or the name of a table that does.

    Args:
        stage: stage of models.yaml.
        models: in the file's order.
        packed: see `find_packed`.
    """
    named = [model for model in models if model.name not in packed]
    longest = {
        model.name: max(len(version.name) for version in model.versions) for model in models if model.name in packed
    }
    groups = tuple(arrange_models(longest))
    variables: dict[str, str] = {}
    for model in named:
        if model.graph is not None:
            variables |= {variable_name(model.name): ROUTER, route_variable_name(model.name): GRAPH}
            continue
        weights = stage.weights.get(model.name)
        if weights is None and not model.routing:
            variables[variable_name(model.name)] = stage.serve[model.name]
            continue
        variables[variable_name(model.name)] = ROUTER
        variables[route_variable_name(model.name)] = spell_route(weights or {stage.serve[model.name]: 100})
    combine = _combine_packed(groups)
    if groups and len(groups) + len(variables) + RESERVED_VARIABLES > VARIABLES_PER_STAGE:
        combine = _combine_in_table(stage.name, tuple(longest))
    combined, tables = combine(stage.serve)
    variables = {**combined, **variables}
    variables |= {ALIAS_VARIABLE: LIVE, CANARY_VARIABLE: "false"}
    if stage.cors is not None:
        variables |= make_cors_variables(stage.cors.origins, credentials=stage.cors.credentials)
    if watched := _watched(stage, models):
        variables[WATCHED_VARIABLE] = watched
    canary = None
    if stage.canary is not None:
        moved, moved_tables = combine({**stage.serve, **stage.canary.serve})
        tables = {**tables, **moved_tables}
        changed = {name: value for name, value in moved.items() if combined[name] != value}
        canary = _plan_canary(stage.canary, named, changed)
    return StagePlan(
        stage.name,
        variables,
        canary,
        stage.auth,
        stage.throttle,
        stage.version_override,
        stage.slo,
        stage.jwt,
        stage.cors,
        stage.consumers,
        stage.asynchronous,
        stage.routed,
        tables,
    )


Combine = Callable[[Mapping[str, str]], tuple[dict[str, str], dict[str, str]]]
"""Takes model -> version, and returns the stage variables with these choices, and the tables that they name."""


def _combine_packed(groups: Sequence[tuple[str, ...]]) -> Combine:
    return lambda serve: (pack_choices(serve, groups), {})


def _combine_in_table(stage: str, models: Sequence[str]) -> Combine:
    def combine(serve: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
        name, text = make_table(stage, {model: serve[model] for model in models})
        return {TABLE_VARIABLE: name}, {name: text}

    return combine


def _watched(stage: Stage, models: Sequence[Model]) -> str:
    """Return the models whose pooled versions write metrics because a canary moves them; empty if there are none."""
    pooled = [model.name for model in models if any(version.pool for version in model.versions)]
    if stage.canary is not None and stage.canary.release and pooled:
        return WATCH_ALL
    moved = {*(stage.canary.serve if stage.canary else ()), *stage.routed}
    return spell_watched(name for name in pooled if name in moved)


def _plan_canary(canary: Canary, models: Sequence[Model], changed: Mapping[str, str]) -> CanaryPlan:
    """Return the canary's overrides of the variables.

    They choose its version, or are the router's choice if the model keeps a router.

    Args:
        canary: canary of the stage.
        models: models with variables of their own.
        changed: variables with the choices of several models that the canary changes.
    """
    overrides = dict(changed)
    for model in models:
        version = canary.serve.get(model.name)
        if version is None:
            continue
        if model.routing:
            overrides[route_variable_name(model.name)] = spell_route({version: 100})
        else:
            overrides[variable_name(model.name)] = version
    overrides[CANARY_VARIABLE] = "true"
    if canary.release:
        overrides[ALIAS_VARIABLE] = NEXT
    return CanaryPlan(canary.percent, overrides, canary.release)

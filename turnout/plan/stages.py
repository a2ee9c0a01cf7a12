"""Stage variables: the routing table of a stage, and what its canary puts over it.

A model that needs its router says `iris=router` and keeps the choice in a second variable, `irisRoute=v1.90,v2.10`, or
`triageRoute=graph` where there is nothing to choose; every other model says `iris=v1` and is one hop away.
"""

from __future__ import annotations

from collections.abc import Sequence

from turnout.manifest.parser import Model, Stage
from turnout.plan.values import CanaryPlan, StagePlan
from turnout.protocol.aws.cors import CREDENTIALS_VARIABLE, ORIGINS_VARIABLE, spell_origins
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


def plan_stage(stage: Stage, models: Sequence[Model]) -> StagePlan:
    """The stage as API Gateway takes it; its variables name every model."""
    variables: dict[str, str] = {}
    for model in models:
        if model.graph is not None:
            variables |= {variable_name(model.name): ROUTER, route_variable_name(model.name): GRAPH}
            continue
        weights = stage.weights.get(model.name)
        if weights is None and not model.routing:
            variables[variable_name(model.name)] = stage.serve[model.name]
            continue
        variables[variable_name(model.name)] = ROUTER
        variables[route_variable_name(model.name)] = spell_route(weights or {stage.serve[model.name]: 100})
    variables |= {ALIAS_VARIABLE: LIVE, CANARY_VARIABLE: "false"}
    if stage.cors is not None:
        variables[ORIGINS_VARIABLE] = spell_origins(stage.cors.origins)
        if stage.cors.credentials:
            variables[CREDENTIALS_VARIABLE] = "true"
    return StagePlan(
        stage.name,
        variables,
        _plan_canary(stage, models),
        stage.auth,
        stage.throttle,
        stage.version_override,
        stage.slo,
        stage.jwt,
        stage.cors,
        stage.consumers,
    )


def _plan_canary(stage: Stage, models: Sequence[Model]) -> CanaryPlan | None:
    """What the canary puts over the variables: one hop to its version, or the router's choice where a router stays."""
    if stage.canary is None:
        return None
    overrides: dict[str, str] = {}
    for model in models:
        version = stage.canary.serve.get(model.name)
        if version is None:
            continue
        if model.routing:
            overrides[route_variable_name(model.name)] = spell_route({version: 100})
        else:
            overrides[variable_name(model.name)] = version
    overrides[CANARY_VARIABLE] = "true"
    if stage.canary.release:
        overrides[ALIAS_VARIABLE] = NEXT
    return CanaryPlan(stage.canary.percent, overrides, stage.canary.release)

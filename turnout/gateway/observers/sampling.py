"""Samples a share of the requests that a canary decides about, and serves them at `GET /turnout/samples`."""

from __future__ import annotations

import random as random_module
from collections.abc import Callable, Collection, Mapping
from functools import partial
from types import MappingProxyType

from turnout.gateway.api.exchange import Exchange, Observer
from turnout.gateway.functions.deferred import Deferred
from turnout.gateway.observers.capture import Redactions, sample_of, versions_of, who_answered, with_sample
from turnout.gateway.rules.stages import Share
from turnout.gateway.shared.samples import SharedSamples
from turnout.http_server.messages import Response
from turnout.manifest.parser import Manifest
from turnout.plan.routes import SHARED_PATHS
from turnout.plan.values import Plan
from turnout.protocol.codecs.samples import write_line
from turnout.protocol.naming import route_variable_name, variable_name


def shares_of(manifest: Manifest) -> dict[str, float]:
    """Return stage -> percentage of its canaries' requests to sample, for stages with an agreement check.

    A stage without a canary in models.yaml may get one while it is served; `defaults.canary` applies to it.
    """
    asked: dict[str, float] = {}
    for stage in manifest.stages:
        judgements = [stage.canary.judgement if stage.canary else manifest.judgement]
        judgements += [routed.judgement for routed in stage.routed.values()]
        percents = [judgement.agreement.percent for judgement in judgements if judgement.agreement is not None]
        if percents:
            asked[stage.name] = max(percents)
    return asked


def routed_of(manifest: Manifest) -> dict[str, frozenset[str]]:
    """Return stage -> the stage variables with which routers split the requests of a routed canary."""
    return {stage.name: frozenset(map(route_variable_name, stage.routed)) for stage in manifest.stages if stage.routed}


def sample_requests(
    samples: SharedSamples,
    shares: Mapping[str, float],
    plan: Plan,
    random: Callable[[], float] = random_module.random,
    deferred: Deferred | None = None,
    redactions: Redactions = MappingProxyType({}),
    routed: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> Observer | None:
    """Return an observer that samples requests that a canary decides about; None if no stage checks agreement.

    Args:
        samples: where they are stored.
        shares: see `shares_of`.
        plan: the plan with the called functions.
        random: returns a number in [0, 1), one call per request to a stage with an agreement check.
        deferred: makes the samples of large bodies.
        redactions: see `redactions_of`.
        routed: see `routed_of`.
    """
    if not shares:
        return None
    versions = versions_of(plan)
    routes = {
        function.name: route_variable_name(function.model) for function in plan.functions if function.kind == "router"
    }

    planned = {entry.name: entry.variables for api in plan.apis for entry in api.stages}

    def is_split(stage: str, variables: Mapping[str, str] | None, route: str) -> bool:
        """Whether a routed canary is active: one in models.yaml, or one started while the stage is served."""
        choice = (variables or {}).get(route, "")
        return "," in choice and (route in routed.get(stage, ()) or planned.get(stage, {}).get(route) != choice)

    def sample(exchange: Exchange, response: Response, duration_s: float) -> None:
        stage = exchange.stage
        if (
            stage is not None
            and not exchange.is_replayed
            and random() * 100 < shares.get(stage.settings.name, 0.0)
            and _is_decided(exchange, routes, is_split)
        ):
            answered = who_answered(exchange, response, versions)
            if answered is not None:

                def make() -> bytes | None:
                    sample_line = sample_of(exchange, response, duration_s, answered, redactions.get(answered, ()))
                    return None if sample_line is None else write_line(sample_line)

                add = partial(samples.add, stage.settings.name, model=answered[0])
                with_sample(exchange, make, add, deferred)

    return sample


IsSplit = Callable[[str, Mapping[str, str] | None, str], bool]
"""Whether a routed canary is active; takes stage, variables of the share, and the variable with the router's
weights.
"""


def _is_decided(exchange: Exchange, routes: Mapping[str, str], is_split: IsSplit) -> bool:
    """Whether a canary decides which version gets a request: the stage's own, or a model's router.

    It does not if the path names the version, as in the paths by which both versions answer the samples.
    """
    routed = exchange.routed
    if routed is None:
        return False
    stage, operation, canary_share = routed.stage, routed.operation, routed.stage.canary
    if operation.resource in SHARED_PATHS:
        parameters = routed.parameters or {}
        model, variables = parameters["model"], stage.baseline.variables
        is_moved = canary_share is not None and _moves_model(model, stage.baseline, canary_share)
        is_moved = is_moved or is_split(stage.settings.name, variables, route_variable_name(model))
        return "version" not in parameters and is_moved
    baseline = stage.baseline.targets[operation.index].function
    if is_split(stage.settings.name, stage.baseline.variables, routes.get(baseline, "")):
        return True
    if canary_share is None:
        return False
    canary = canary_share.targets[operation.index].function
    settings = stage.settings.canary
    return baseline != canary or (settings is not None and routes.get(canary) in settings.overrides)


def _moves_model(model: str, baseline: Share, canary: Share) -> bool:
    """The same for a call through a shared route, which uses the general router in both shares."""
    names = variable_name(model), route_variable_name(model)
    shares = ([share.choice_of(name) for name in names] for share in (baseline, canary))
    return next(shares) != next(shares)

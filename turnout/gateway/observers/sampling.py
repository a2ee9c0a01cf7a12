"""A share of the requests that a canary decides about, and `GET /turnout/samples`, which hands them out."""

from __future__ import annotations

import random as random_module
from collections.abc import Callable, Mapping
from types import MappingProxyType

from turnout.gateway.api.exchange import Exchange, Observer, Routed
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
from turnout.protocol.routing.packed_choices import find_choice


def shares_of(manifest: Manifest) -> dict[str, float]:
    """Stage -> percent of its canary's requests that are sampled, of the stages whose judgement asks for agreement.

    A stage without a canary in models.yaml may be given one while it is served: then `defaults.canary` holds.
    """
    asked = {
        stage.name: (stage.canary.judgement if stage.canary else manifest.judgement).agreement
        for stage in manifest.stages
    }
    return {name: agreement.percent for name, agreement in asked.items() if agreement is not None}


def sample_requests(
    samples: SharedSamples,
    shares: Mapping[str, float],
    plan: Plan,
    random: Callable[[], float] = random_module.random,
    deferred: Deferred | None = None,
    redactions: Redactions = MappingProxyType({}),
) -> Observer | None:
    """Keeps a share of the requests that a canary decides about; None where no stage asks for agreement.

    Args:
        samples: where they are kept.
        shares: see `shares_of`.
        plan: whose functions are called.
        random: 0 up to but not 1, one call per request to a stage with a canary.
        deferred: makes the samples of large bodies.
        redactions: see `redactions_of`.
    """
    if not shares:
        return None
    versions = versions_of(plan)
    routes = {
        function.name: route_variable_name(function.model) for function in plan.functions if function.kind == "router"
    }

    def sample(exchange: Exchange, response: Response, duration_s: float) -> None:
        stage = exchange.stage
        if (
            stage is not None
            and stage.canary is not None
            and not exchange.is_replayed
            and random() * 100 < shares.get(stage.settings.name, 0.0)
            and _is_decided(exchange, routes)
        ):
            answered = who_answered(exchange, response, versions)
            if answered is not None:

                def make() -> bytes | None:
                    sample_line = sample_of(exchange, response, duration_s, answered, redactions.get(answered, ()))
                    return None if sample_line is None else write_line(sample_line)

                with_sample(exchange, make, lambda line: samples.add(stage.settings.name, line), deferred)

    return sample


def _is_decided(exchange: Exchange, routes: Mapping[str, str]) -> bool:
    """Whether the canary decides which version a request reaches.

    Not so where its path names the version, as the paths do by which both versions answer the samples.
    """
    routed = exchange.routed
    canary_share = None if routed is None else routed.stage.canary
    if routed is None or canary_share is None:
        return False
    stage, operation = routed.stage, routed.operation
    if operation.resource in SHARED_PATHS:
        return _moves_model(routed, stage.baseline, canary_share)
    baseline, canary = (share.targets[operation.index].function for share in (stage.baseline, canary_share))
    settings = stage.settings.canary
    return baseline != canary or (settings is not None and routes.get(canary) in settings.overrides)


def _moves_model(routed: Routed, baseline: Share, canary: Share) -> bool:
    """The same of a call by a shared route, which leads both shares to the general router."""
    parameters = routed.parameters or {}
    names = variable_name(parameters["model"]), route_variable_name(parameters["model"])
    shares = ([find_choice(share.variables or {}, name) for name in names] for share in (baseline, canary))
    return "version" not in parameters and next(shares) != next(shares)

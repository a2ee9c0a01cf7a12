"""Counts every request in memory shared by all workers."""

from __future__ import annotations

import re
from collections.abc import Collection

from turnout.gateway.api.exchange import Exchange, Observer, Routed
from turnout.gateway.rules.shared_routes import SharedRoutes
from turnout.gateway.shared.counters import ROUTED, Counters
from turnout.http_server.messages import Response
from turnout.protocol.naming import (
    FALLBACK_HEADER,
    ROUTE_HEADER,
    ROUTER,
    VERSION_HEADER,
    function_name,
    variable_name,
)

ROUTER_ENDING = f"_{ROUTER}"

CHOSEN = frozenset({"weight", "sticky", "fallback"})
"""The part of a router's answer that describes the chosen version."""

_INFERENCE = re.compile(r"models/([a-z][a-z0-9]*(?:-[a-z][a-z0-9]*)*)/infer")
"""The Open Inference Protocol's path after `/v2/` of a call that leaves the version to the stage."""


def count_requests(counters: Counters, callers: Counters | None = None, *, known: Collection[str] = ()) -> Observer:
    """Return an observer that counts each request, except replayed ones.

    Args:
        counters: counters by stage, function and share.
        callers: counters by stage and consumer, for requests with a consumer's key.
        known: names of versions' functions and models' routers: calls to them through a shared route count for them.
    """
    record = counters.record
    shared = SharedRoutes(known)

    def count(exchange: Exchange, response: Response, duration_s: float) -> None:
        if exchange.is_replayed:
            return
        stage, share, routed, target = exchange.stage, exchange.share, exchange.routed, exchange.target
        function = "" if target is None else target.function
        if target is not None and function and routed is not None and routed.parameters and function not in known:
            if "proxy" in routed.parameters:
                function = _function_behind(routed, function) or function
            elif behind := shared.find(routed.operation.resource, routed.parameters, routed.share, target):
                function = behind.target.function
        key = (
            stage.settings.name if stage is not None else "",
            function,
            share is not None and share.is_canary,
        )
        is_router = function.endswith(ROUTER_ENDING)
        failed = response.status >= 500 or response.status == 429 or (is_router and _fell_back(response))
        record(key, response.status, duration_s, failed=failed)
        if is_router and (chosen := _find_chosen(function, response)) in known:
            record((key[0], chosen, key[2], ROUTED), response.status, duration_s, failed=failed)
        if callers is not None and (caller := exchange.caller):
            callers.record((key[0], caller, False), response.status, duration_s)

    return count


def _fell_back(response: Response) -> bool:
    """Whether the chosen version failed and another one answered."""
    return any(name == FALLBACK_HEADER for name, _ in response.headers)


def _find_chosen(function: str, response: Response) -> str:
    """Return the function of the version that a router chose for a request, even if its fallback answered.

    Return an empty text if the caller named the version, and for a graph, which chooses for each of its steps.
    """
    headers = {name.lower(): value for name, value in response.headers}
    version = headers.get(FALLBACK_HEADER) or headers.get(VERSION_HEADER, "")
    is_chosen = headers.get(ROUTE_HEADER) in CHOSEN and not headers.get(FALLBACK_HEADER, "").count(" ")
    return f"{function.removesuffix(ROUTER)}{version}" if version and is_chosen else ""


def _function_behind(routed: Routed, general: str) -> str:
    """Return the function that the stage calls for a model, for an inference through the general router.

    Such a call counts for the model, because a canary is judged by it, too. Empty for other requests.
    """
    match = _INFERENCE.fullmatch(routed.parameters["proxy"])
    if match is None:
        return ""
    # Count only names that the stage knows: a caller must not fill the table with others.
    chosen = routed.share.choice_of(variable_name(match[1]))
    return function_name(general.removesuffix(f"_{ROUTER}"), match[1], chosen) if chosen else ""

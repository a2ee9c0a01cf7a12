"""One call of a model: choose a version, copy the call to a shadow, and fall back to another version if it fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from turnout.protocol.aws.limits import LARGEST_ASYNC_EVENT_BYTES
from turnout.protocol.errors import RequestError
from turnout.protocol.naming import (
    ALIAS_VARIABLE,
    LIVE,
    ROUTER,
    VERSION_HEADER,
    function_name,
    pool_name,
    route_variable_of,
)
from turnout.protocol.requests.runs import read_draw
from turnout.protocol.routing.choice import (
    RouteError,
    choose_by_draw,
    choose_for_key,
    handed_on,
    is_replay,
    is_shadow,
    is_worth_fallback,
    parse_route,
)
from turnout.protocol.routing.choice_tables import FindTable, TableError, no_tables, refuse_unreadable
from turnout.protocol.routing.invocation import Answered, Invoke
from turnout.protocol.routing.packed_choices import find_choice
from turnout.protocol.routing.pooled import aim_at
from turnout.protocol.routing.route_table import ModelRoute, RouteTable
from turnout.protocol.routing.sticky import read_header, read_sticky_key

from .proxy_answers import check_answered, status_of
from .tasks import Tasks

SHADOW_TIMEOUT_S = 5.0
"""Longest time for a shadow copy to be accepted. No caller waits for it."""

_LOG = logging.getLogger("turnout.router")


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """The outcome of one call.

    Args:
        answered: a proxy response, or the reason why there is none.
        version: the version that answered.
        route: how the version was chosen: `weight`, `sticky`, `override`, `pinned` (by a graph) or `fallback`.
        instead_of: the version that failed first, or empty.
    """

    answered: Answered
    version: str
    route: str
    instead_of: str = ""


class Calls:
    """Calls models by name.

    Args:
        table: the models.
        invoke: calls a function.
        tasks: runs shadow copies in the background.
        random: returns a number from 0 up to, but not including, 1.
        clock: a monotonic one, in seconds.
        tables: finds a stage's table of choices.
    """

    def __init__(
        self,
        table: RouteTable,
        invoke: Invoke,
        tasks: Tasks,
        *,
        random: Callable[[], float],
        clock: Callable[[], float],
        tables: FindTable = no_tables,
    ) -> None:
        self._table = table
        self._tables = tables
        self._invoke = invoke
        self._tasks = tasks
        self._random = random
        self._clock = clock

    def read_override(self, event: Mapping[str, Any]) -> str:
        """Return the version that the caller requests in a header; empty if there is no such header.

        Raises:
            RequestError: VERSION_NOT_ALLOWED, UNKNOWN_VERSION.
        """
        wanted = read_header(event, VERSION_HEADER)
        if not wanted:
            return ""
        stage = (event.get("requestContext") or {}).get("stage", "")
        if stage not in self._table.override_stages:
            message = f"{VERSION_HEADER}: header not allowed: the stage `{stage}` does not set `version_override`"
            raise RequestError("VERSION_NOT_ALLOWED", message, stage=stage, got=wanted[:50])
        versions = list(self._table.models[self._table.model].versions)
        if not versions:
            message = f"{VERSION_HEADER}: header not allowed: {self._table.model} is a graph without versions"
            raise RequestError("VERSION_NOT_ALLOWED", message, got=wanted[:50])
        if wanted not in versions:
            message = f"{VERSION_HEADER}: expected one of {', '.join(versions)}, got {wanted[:50]}"
            raise RequestError("UNKNOWN_VERSION", message, expected=versions, got=wanted[:50])
        return wanted

    def choose(self, model: str, caller: Mapping[str, Any]) -> tuple[str, str]:
        """Choose the version of a model that answers; return it and how it was chosen.

        Args:
            model: the model's name.
            caller: the event of the caller's own request, with the stage's variables and the caller's key.

        Raises:
            RouteError: the stage's variables name no version.
            RequestError: CHOICES_UNREADABLE.
        """
        route = self._table.models[model]
        variables = caller.get("stageVariables") or {}
        try:
            version = find_choice(variables, route.variable, self._tables)
        except TableError as error:
            raise refuse_unreadable(error) from error
        if version != ROUTER:
            if version not in route.versions:
                raise RouteError(f"stage variable {route.variable}: expected a version of {model}, got {version!r}")
            return version, "weight"
        weights = _read_weights(variables, route_variable_of(route.variable))
        key = read_sticky_key(route.sticky, caller) if route.sticky is not None else None
        if key is not None:
            return choose_for_key(weights, key, model), "sticky"
        draw = read_draw(caller, model)
        return choose_by_draw(weights, self._random() if draw is None else draw), "weight"

    async def call(
        self,
        model: str,
        version: str,
        how: str,
        event: Mapping[str, Any],
        deadline_s: float,
        *,
        may_fall_back: bool = True,
    ) -> CallOutcome:
        """Call a version, and its fallback if it fails.

        Args:
            model: the model's name.
            version: the version from `choose`, or the one that the caller requests.
            how: `route` of the outcome of the first call.
            event: the function's event, without what `handed_on` adds.
            deadline_s: when the caller gives up, as a time of the clock.
            may_fall_back: whether another version may answer; not if the caller requested this version.
        """
        route = self._table.models[model]
        self._start_shadow(model, version, event)
        fallback = route.fallback if may_fall_back and route.fallback != version else ""
        first_deadline_s = deadline_s - self._reserve_s(route, fallback, deadline_s)
        first = CallOutcome(await self._call_version(model, version, event, first_deadline_s), version, how)
        if not fallback or not _failed(first.answered):
            return first
        second = await self._call_version(model, fallback, event, deadline_s)
        if _failed(second):
            return first
        _LOG.warning("%s: %s answered instead of %s, which failed", model, fallback, version)
        return CallOutcome(second, fallback, "fallback", instead_of=version)

    def _reserve_s(self, route: ModelRoute, fallback: str, deadline_s: float) -> float:
        """Return the part of the remaining time that is reserved for the fallback: its own timeout, at most half."""
        if not fallback:
            return 0.0
        return min(float(route.versions[fallback].timeout_s), max(deadline_s - self._clock(), 0.0) / 2)

    async def _call_version(self, model: str, version: str, event: Mapping[str, Any], deadline_s: float) -> Answered:
        name, alias = self._function(model, version, event)
        if version not in self._table.models[model].versions:  # a route may name any function, even a router
            answered = Answered(None, "unknown_function", f"{model} has no version {version}")
        elif self._clock() >= deadline_s:
            answered = Answered(None, "timed_out", "no time left to call it")
        else:
            handed = self._aimed(handed_on(event), model, version)
            answered = check_answered(await self._invoke(name, alias, handed, deadline_s=deadline_s))
        if answered.error:
            _LOG.warning("%s: %s: %s", name, answered.error, answered.message)
        return answered

    def _function(self, model: str, version: str, event: Mapping[str, Any]) -> tuple[str, str]:
        alias = (event.get("stageVariables") or {}).get(ALIAS_VARIABLE, LIVE)
        pool = self._pool_of(model, version)
        return pool_name(self._table.prefix, pool) if pool else function_name(self._table.prefix, model, version), alias

    def _pool_of(self, model: str, version: str) -> str:
        route = self._table.models[model].versions.get(version)
        return "" if route is None else route.pool

    def _aimed(self, event: dict[str, Any], model: str, version: str) -> dict[str, Any]:
        """Return the event for a version's function; for a pool, it contains the version."""
        return aim_at(event, model, version) if self._pool_of(model, version) else event

    def _start_shadow(self, model: str, version: str, event: Mapping[str, Any]) -> None:
        route = self._table.models[model]
        if (
            route.shadow in {"", version}
            or is_shadow(event)
            or is_replay(event)
            or self._random() * 100 >= route.shadow_percent
        ):
            return
        if len(event.get("body") or "") > LARGEST_ASYNC_EVENT_BYTES:
            _LOG.info("%s: a body over %d bytes is not copied to %s", model, LARGEST_ASYNC_EVENT_BYTES, route.shadow)
            return
        copy = self._aimed(handed_on(event, shadow=True), model, route.shadow)
        self._tasks.start(self._send_shadow(*self._function(model, route.shadow, event), copy))

    async def _send_shadow(self, name: str, alias: str, event: Mapping[str, Any]) -> None:
        try:
            deadline_s = self._clock() + SHADOW_TIMEOUT_S
            answered = await self._invoke(name, alias, event, deadline_s=deadline_s, asynchronous=True)
            if answered.error:
                _LOG.warning("%s: the copy was not taken: %s: %s", name, answered.error, answered.message)
        except Exception:
            _LOG.exception("%s: the copy could not be sent", name)


def _read_weights(variables: Mapping[str, str], name: str) -> dict[str, float]:
    try:
        return parse_route(variables.get(name, ""))
    except RouteError as error:
        raise RouteError(f"stage variable {name}: {error}") from None


def _failed(answered: Answered) -> bool:
    """Whether the call failed in a way that makes another version worth trying."""
    status = 0 if answered.answer is None else status_of(answered.answer)
    return is_worth_fallback(answered.error, status)

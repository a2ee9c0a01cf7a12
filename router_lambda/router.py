"""A model's router: takes an event and returns a proxy response."""

from __future__ import annotations

import logging
import random as random_module
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from turnout.protocol.aws.cors import cors_headers
from turnout.protocol.errors import RequestError
from turnout.protocol.naming import FALLBACK_HEADER, MODEL_HEADER, ROUTE_HEADER, VERSION_HEADER
from turnout.protocol.routing.choice import MOST_HOPS, RouteError, read_hop
from turnout.protocol.routing.choice_tables import FindTable, no_tables
from turnout.protocol.routing.invocation import Invoke
from turnout.protocol.routing.route_table import RouteTable

from .calls import CallOutcome, Calls
from .proxy_answers import answer_error, answer_failure, with_cors, with_headers
from .tasks import AsyncioTasks, Tasks

if TYPE_CHECKING:
    from .graphs.runner import Graphs

_LOG = logging.getLogger("turnout.router")


class Router:
    """Answers calls of one model.

    Args:
        table: this model and the models that its graph reaches.
        invoke: calls a function; several calls may run at once.
        random: returns a number from 0 up to, but not including, 1.
        clock: monotonic clock in seconds, also used for deadlines.
        tasks: runs coroutines concurrently; asyncio's tasks by default.
        tables: finds a stage's table of choices, which only graphs need.
    """

    def __init__(
        self,
        table: RouteTable,
        invoke: Invoke,
        *,
        random: Callable[[], float] = random_module.random,
        clock: Callable[[], float] = time.monotonic,
        tasks: Tasks | None = None,
        tables: FindTable = no_tables,
    ) -> None:
        self._model = table.model
        tasks = tasks or AsyncioTasks()
        self._calls = Calls(table, invoke, tasks, random=random, clock=clock, tables=tables)
        self._graphs: Graphs | None = None
        if table.models[table.model].graph is not None:
            from .graphs.runner import Graphs  # imports numpy, which only graphs need

            self._graphs = Graphs(table, self._calls, tasks)

    async def answer(self, event: Mapping[str, Any], deadline_s: float) -> dict[str, Any]:
        """Return the proxy response to an event.

        Args:
            event: API Gateway's proxy event, or one forwarded by another router.
            deadline_s: when the caller gives up, as a time of the clock.
        """
        try:
            return with_cors(await self._answer(event, deadline_s), event)
        except RequestError as error:
            answer = answer_error(error)
        except RouteError as error:
            _LOG.error("%s cannot be routed: %s", self._model, error)
            answer = answer_failure("unknown_function")
        except Exception:
            _LOG.exception("the router of %s failed", self._model)
            answer = answer_failure("failed")
        return with_headers(answer, {MODEL_HEADER: self._model, **cors_headers(event)})

    async def _answer(self, event: Mapping[str, Any], deadline_s: float) -> dict[str, Any]:
        if read_hop(event) >= MOST_HOPS:
            message = f"{self._model}: the request passed through more than {MOST_HOPS} routers"
            raise RequestError("LOOP", message)
        wanted = self._calls.read_override(event)
        if self._graphs is not None:
            return await self._graphs.answer(self._model, event, deadline_s)
        version, how = (wanted, "override") if wanted else self._calls.choose(self._model, event)
        return _show(self._model, await self._calls.call(self._model, version, how, event, deadline_s))


def _show(model: str, outcome: CallOutcome) -> dict[str, Any]:
    """Return the proxy response that the caller gets."""
    answer = outcome.answered.answer
    if answer is None:
        failure = answer_failure(outcome.answered.error)
        named = {MODEL_HEADER: model, VERSION_HEADER: outcome.version, ROUTE_HEADER: outcome.route}
        return with_headers(failure, named)
    fallback = {FALLBACK_HEADER: outcome.instead_of} if outcome.instead_of else {}
    return with_headers(answer, {ROUTE_HEADER: outcome.route, **fallback})

"""Assembles the asynchronous requests of a server. Most servers accept none and never import the modules for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from turnout.gateway.api.asynchronous import AsyncRequests
from turnout.gateway.functions.deferred import Deferred
from turnout.gateway.functions.invocation import Functions, Wrap, no_wrap
from turnout.gateway.requests.policies import Policies, make_policies
from turnout.gateway.requests.queue import LOOK_S, Queue
from turnout.gateway.shared.counters import Counters
from turnout.plan.values import Plan
from turnout.project.project import Project


def most_running(processors: int) -> int:
    """Return the most asynchronous runs of all workers together.

    Half of the processors remain for synchronous calls.
    """
    return max(1, processors // 2)


def open_requests(
    queue: Queue,
    project: Project,
    plan: Plan,
    *,
    counters: Counters,
    capture: Callable[[str], object] | None,
    deferred: Deferred,
) -> AsyncRequests | None:
    """Return what accepts the asynchronous requests of an edition; None if no stage does and none are stored.

    Args:
        queue: the project's queue.
        project: the manifest and its artifacts.
        plan: the project's plan.
        counters: see `observe_runs`.
        capture: see `observe_runs`.
        deferred: see `observe_runs`.
    """
    policies = make_policies(plan)
    if not (policies.stages or queue.is_stored):
        return None
    from turnout.gateway.requests.api import RequestsApi
    from turnout.gateway.requests.observing import observe_runs

    return RequestsApi(queue, policies, observe_runs(counters, project, plan, capture, deferred))


async def work(
    queue: Queue,
    functions: Callable[[], Functions],
    requests: Callable[[], AsyncRequests | None],
    stop: asyncio.Event,
    *,
    workers: int,
    processors: int,
    wrap: Wrap = no_wrap,
) -> None:
    """Run queued requests in this worker until `stop` is set.

    Args:
        queue: the project's queue.
        functions: returns the current functions.
        requests: returns what currently accepts requests.
        stop: ends it.
        workers: number of workers that process the queue.
        processors: number of processors of this machine.
        wrap: wraps the functions.
    """
    while requests() is None and not queue.is_stored:
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), LOOK_S)
        if stop.is_set():
            return
    from turnout.gateway.requests.api import RequestsApi
    from turnout.gateway.requests.pump import YIELD_S, Pump, ServedQueue

    def served() -> ServedQueue:
        api = requests()
        if not isinstance(api, RequestsApi):
            return ServedQueue(functions(), Policies(), wrap=wrap)
        return ServedQueue(functions(), api.policies, api.observe, wrap)

    most = most_running(processors)
    yield_s = YIELD_S if workers > 1 else 0.0
    await Pump(queue, served, at_once=-(-most // workers), most_running=most, yield_s=yield_s).run(stop)

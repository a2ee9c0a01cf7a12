"""Assembles and runs the pump of one worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from turnout.gateway.api.asynchronous import AsyncRequests
from turnout.gateway.functions.invocation import Functions, Wrap, no_wrap
from turnout.gateway.requests.api import RequestsApi
from turnout.gateway.requests.policies import Policies
from turnout.gateway.requests.pump import Pump, ServedQueue
from turnout.gateway.requests.queue import Queue


def most_running(processors: int) -> int:
    """The most asynchronous runs of all workers together. Half of the processors remain for synchronous calls."""
    return max(1, processors // 2)


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
        queue: of the project.
        functions: returns those that are called now.
        requests: returns what accepts requests now.
        stop: ends it.
        workers: how many run the queue.
        processors: of this machine.
        wrap: put around the functions.
    """

    def served() -> ServedQueue:
        api = requests()
        if not isinstance(api, RequestsApi):
            return ServedQueue(functions(), Policies(), wrap=wrap)
        return ServedQueue(functions(), api.policies, api.observe, wrap)

    most = most_running(processors)
    await Pump(queue, served, at_once=-(-most // workers), most_running=most).run(stop)

"""The parts of a server that outlive an edition, and how each edition's functions and gateway are made from them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from turnout.gateway.api.gateway import Gateway
from turnout.gateway.editions.edition import Edition, build_gateway
from turnout.gateway.editions.in_process import edition_functions
from turnout.gateway.editions.switch import EditionFunctions, Switch
from turnout.gateway.functions.invocation import Functions
from turnout.gateway.observers.line_writer import LineWriter
from turnout.gateway.observers.registry import Outlets, make_observers
from turnout.gateway.pages import make_docs, make_front, settings_of
from turnout.gateway.requests.queue import Queue
from turnout.gateway.requests.work import open_requests, work
from turnout.gateway.services.registry import ServiceParts, make_services
from turnout.gateway.shared.session_budget import SessionBudget
from turnout.gateway.tracing_parts import TracingParts
from turnout.gateway.workers.processors import processors
from turnout.packaging.build_progress import BuildProgress, ignore_progress
from turnout.system.service_tokens import ServicesMode

if TYPE_CHECKING:
    from turnout.gateway.editions.isolated import Isolation
    from turnout.gateway.functions.isolated.functions import IsolatedFunctions

FINISH_S = 2.0
"""How long a stopping worker waits for captured requests that are still being read."""

Preparing = Callable[[int], AbstractContextManager[BuildProgress]]
"""Shows progress while packages are built; called with the number of functions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """The parts of a server that do not depend on the edition.

    Args:
        stage: the stage for paths that name none; empty for the manifest's first.
        port: the port that the server listens on.
        workers: number of processes that answer requests.
        mode: who may use the services besides the API.
        isolation: how each function runs in separate processes; None runs all of them in this process.
        preparing: shows progress while the isolated functions' packages are built.
        parts: parts of the services.
        outlets: outlets of the observers.
        lines: writes the access log.
        captured: writes captured requests; None if nothing is captured.
        tracing: traces requests and calls.
        queue: the queue of asynchronous requests.
        budget: the memory limit for loaded versions; None for no limit.
    """

    stage: str
    port: int
    workers: int
    mode: ServicesMode
    isolation: Isolation | None
    preparing: Preparing
    parts: ServiceParts
    outlets: Outlets
    lines: LineWriter
    captured: LineWriter | None
    tracing: TracingParts
    queue: Queue
    budget: SessionBudget | None

    def functions_of(self, edition: Edition, before: EditionFunctions | None) -> EditionFunctions:
        """Make the functions of an edition, which may take over those of the previous edition."""
        if self.isolation is not None:
            return self._isolated_functions(edition, before, self.isolation)
        at_once = max(2, -(-processors() // self.workers))
        return edition_functions(
            edition,
            before,
            running_limit=at_once,
            running=self.parts.state.running,
            budget=self.budget,
            loads_at_once=at_once,
            wrap=self.tracing.wrap,
        )

    def _isolated_functions(
        self, edition: Edition, before: EditionFunctions | None, isolation: Isolation
    ) -> IsolatedFunctions:
        from turnout.gateway.editions.isolated import open_isolated  # without --isolated a start does not need it
        from turnout.gateway.functions.isolated.functions import IsolatedFunctions

        count = len(edition.plan.functions)
        with self.preparing(count) if before is None else nullcontext(ignore_progress) as progress:
            return open_isolated(
                edition.project,
                edition.plan,
                isolation,
                progress=progress,
                share=self.workers,
                make_slots=self.parts.state.slots.slots_of,
                budget=self.budget,
                wrap=self.tracing.wrap,
                before=before if isinstance(before, IsolatedFunctions) else None,
            )

    def gateway_of(self, edition: Edition, functions: Functions) -> Gateway:
        """Make the gateway of an edition."""
        parts, outlets = self.parts, self.outlets
        called = self.tracing.wrap(functions)
        docs = make_docs(
            edition,
            parts.guard,
            lambda name: settings_of(gateway, name),
            is_public=self.mode is ServicesMode.TOKEN,
            console=parts.console,
        )
        has_services = self.mode is not ServicesMode.OFF
        names = [function.name for function in edition.plan.unpooled_functions]
        gateway = build_gateway(
            edition.project,
            edition.plan,
            called,
            apis=edition.apis,
            stage=self.stage,
            keys=edition.keys,
            consumer_keys=edition.consumer_keys,
            port=self.port,
            observers=make_observers(outlets, edition.project, edition.plan),
            bucket_of=parts.state.buckets.bucket_of,
            services=make_services(parts, edition.apis, names, called, docs, edition.plan.tables)
            if has_services
            else {},
            replay_token=parts.state.replay_token,
            front=make_front(parts.console, docs) if has_services else None,
            shortens_shared_routes=self.isolation is None,
            tracer=self.tracing.tracer,
            requests=open_requests(
                self.queue,
                edition.project,
                edition.plan,
                counters=outlets.counters,
                capture=outlets.capture,
                deferred=outlets.deferred,
            ),
        )
        return gateway

    async def work_queue(self, switch: Switch, stop: asyncio.Event) -> None:
        """Run asynchronous requests in this worker until `stop` is set."""
        served = (lambda: switch.functions, lambda: switch.gateway.requests)
        try:
            await work(self.queue, *served, stop, workers=self.workers, processors=processors(), wrap=self.tracing.wrap)
        finally:
            self.queue.database.close(FINISH_S)

    def flush(self) -> None:
        """Write what a stopping worker still buffers: spans, captured requests, lines of the access log."""
        self.tracing.close()
        self.outlets.deferred.finish(FINISH_S)
        self.lines.flush()
        if self.captured is not None:
            self.captured.flush()

"""`Functions` that run in this process, each model version's session opened once and shared by threads.

Comes in: the plan's functions. Goes out: `invoke(name, alias, event, timeout_s) -> Invocation`. Called by the gateway's
core; made by `turnout.gateway.local`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from turnout.gateway.functions import Invocation
from turnout.gateway.hosted_function import HostedFunction, Runnable
from turnout.gateway.lambda_context import Cancellation
from turnout.gateway.threads import Threads
from turnout.plan import Function

log = logging.getLogger("turnout.functions")

ALIASES = frozenset({"live", "next"})
"""The Lambda aliases that a stage may name; here both are the one code that there is."""

RUNNING_LIMIT = max(2, os.cpu_count() or 1)
"""Runs of one function in threads at once: more than the processors would only wait for each other."""

RUNNING_LIMIT_WITH_TRANSFORM = 16
"""The same for a function with a transform, which may wait for something else than the processor."""

WAITING_LIMIT = 10_000
"""Calls of one function that wait for a thread; more are refused as `throttled`, as by Lambda's concurrency limit."""

LOOP_LIMIT_S = 0.0005
"""The longest run on the event loop. Going through a thread costs 0.1 ms, which short runs would feel; from half a
millisecond on, eight clients are served faster by two threads than by the loop alone (measured on two processors)."""

CLOSING_PATIENCE_S = 2.0
"""How long `close` waits for threads whose runs were cancelled."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """One session opened, or not: what `preload` tells while it works.

    Args:
        function: which.
        seconds: how long it took.
        reason: why it failed; empty where it did not.
        done: how many are through, this one with them.
        total: how many there are.
    """

    function: Function
    seconds: float
    reason: str
    done: int
    total: int


class InProcessFunctions:
    """The plan's functions in this process.

    Args:
        functions: those of the plan that can run here.
        make: the code of one model function, not yet loaded; called in a thread.
        make_cancellation: what stops one run, put into its context.
        refused: name -> why, of those of the plan that cannot run here.
        with_transform: names of the functions that run the user's own code beside the model: never on the event loop.
        running_limit: per function; see `RUNNING_LIMIT`.
        running_limit_with_transform: see `RUNNING_LIMIT_WITH_TRANSFORM`.
        waiting_limit: per function; see `WAITING_LIMIT`.
        loop_limit_s: see `LOOP_LIMIT_S`; 0 keeps every run off the event loop.
    """

    def __init__(
        self,
        functions: Iterable[Function],
        make: Callable[[Function], Runnable],
        make_cancellation: Callable[[], Cancellation],
        *,
        refused: Mapping[str, str] | None = None,
        with_transform: frozenset[str] = frozenset(),
        running_limit: int = RUNNING_LIMIT,
        running_limit_with_transform: int = RUNNING_LIMIT_WITH_TRANSFORM,
        waiting_limit: int = WAITING_LIMIT,
        loop_limit_s: float = LOOP_LIMIT_S,
    ) -> None:
        self._threads = Threads()
        self._refused = refused or {}
        self._hosted = {
            function.name: HostedFunction(
                function,
                lambda function=function: make(function),  # type: ignore[misc]
                make_cancellation,
                self._threads,
                running_limit=running_limit_with_transform if function.name in with_transform else running_limit,
                waiting_limit=waiting_limit,
                loop_limit_s=0 if function.name in with_transform else loop_limit_s,
            )
            for function in functions
        }
        self.busy_after_close = 0

    def invoke(
        self, name: str, alias: str, event: Mapping[str, Any], timeout_s: float
    ) -> Invocation | Awaitable[Invocation]:
        """Call one function; see `Functions.invoke`. Must be called on the event loop."""
        hosted = self._hosted.get(name)
        if hosted is not None and alias in ALIASES:
            return hosted.invoke(alias, event, timeout_s)
        return self._refuse(name, alias, known=hosted is not None)

    async def preload(self, progress: Callable[[Loaded], None] | None = None, *, at_once: int = RUNNING_LIMIT) -> None:
        """Open every session, some at once; `progress` hears of each. One that fails is tried again when called."""
        gate = asyncio.Semaphore(at_once)
        done = 0

        async def load(hosted: HostedFunction) -> None:
            nonlocal done
            async with gate:
                started = time.monotonic()
                reason = await hosted.load()
                done += 1
                if progress is not None:
                    progress(Loaded(hosted.function, time.monotonic() - started, reason, done, len(self._hosted)))

        await asyncio.gather(*map(load, self._hosted.values()))

    def close(self, patience_s: float = CLOSING_PATIENCE_S) -> None:
        """Cancel what still runs and end the threads. `busy_after_close` then says how many could not be stopped."""
        for hosted in self._hosted.values():
            hosted.cancel()
        self.busy_after_close = self._threads.close(patience_s)
        if self.busy_after_close:
            log.warning("%d runs could not be stopped", self.busy_after_close)

    def _refuse(self, name: str, alias: str, *, known: bool) -> Invocation:
        if known:
            message = f"{name}: there is no alias {alias!r}; there are {', '.join(sorted(ALIASES))}"
        elif name in self._refused:
            message = f"{name} cannot run here: {self._refused[name]}"
        else:
            message = f"there is no function {name!r}: the stage's variable names a version that models.yaml has not"
        return Invocation(None, "unknown_function", message)

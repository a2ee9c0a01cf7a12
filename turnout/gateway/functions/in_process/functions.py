"""`Functions` that run in this process; each model version's session is opened once and shared by threads."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any

from turnout.gateway.functions.in_process.hosted_function import ENDING_S, HostedFunction, Runnable, Running
from turnout.gateway.functions.in_process.hosted_router import HostedRouter, LocalInvoke, RouterCode
from turnout.gateway.functions.in_process.load_gate import LoadGate
from turnout.gateway.functions.in_process.run_memory import RunMemory
from turnout.gateway.functions.in_process.threads import LoopThread, Threads
from turnout.gateway.functions.in_process.watchdog import Watchdog
from turnout.gateway.functions.in_process.watched import OneAtATime
from turnout.gateway.functions.invocation import (
    ALIASES,
    Current,
    Invocation,
    Loaded,
    Occupancy,
    Wrap,
    await_opening,
    no_wrap,
    refuse,
)
from turnout.gateway.functions.lambda_context import Cancellation
from turnout.gateway.shared.session_budget import SessionBudget
from turnout.plan.values import Function

log = logging.getLogger("turnout.functions")

RUNNING_LIMIT = max(2, os.cpu_count() or 1)
"""Most concurrent runs of one function in threads: more than the processors would only wait for each other."""

RUNNING_LIMIT_WITH_TRANSFORM = 16
"""The same for a function with a transform, which may wait for something other than the processor."""

WAITING_LIMIT = 10_000
"""Most calls of one function that wait for a thread; more are rejected as `throttled`, as by Lambda's concurrency
limit.
"""

LOOP_LIMIT_S = 0.0005
"""The longest run on the event loop. Using a thread costs 0.1 ms, which is noticeable for short runs; from half a
millisecond on, two threads serve eight clients faster than the loop alone (measured on two processors).
"""

CLOSING_PATIENCE_S = 2.0
"""How long `close` waits for threads whose runs were canceled."""


class InProcessFunctions:
    """The plan's functions in this process.

    Args:
        functions: the plan's functions that can run here.
        make: makes the code of one model function, not yet loaded; called in a thread.
        make_cancellation: makes what stops one run, for its context.
        routers: the plan's routers; they are made again for each edition, because they hold no session.
        refused: name -> reason, for the plan's functions that cannot run here.
        with_transform: names of the functions that run the user's own code besides the model; never on the event loop.
        off_loop: names of others that never run on the event loop, because the cost of a run depends on the values in
            the request. The memory of their runs is limited, too.
        running_limit: per function; see `RUNNING_LIMIT`.
        running_limit_with_transform: see `RUNNING_LIMIT_WITH_TRANSFORM`.
        waiting_limit: per function; see `WAITING_LIMIT`.
        loop_limit_s: see `LOOP_LIMIT_S`; 0 keeps every run off the event loop.
        digests: name -> digest of the function; functions with an equal digest are taken over from `before`.
        before: the functions that these replace.
        check: called in a thread around loading a function; raises an exception if its files have changed.
        ending_s: see `hosted_function.ENDING_S`.
        running: records running calls, or None.
        budget: unloads idle functions when memory is short, or None.
        session_bytes: name -> memory that the function is expected to use when loaded.
        loads_at_once: most functions that are loaded at the same time.
        wrap: wraps the functions that routers call.
    """

    def __init__(
        self,
        functions: Iterable[Function],
        make: Callable[[Function], Runnable],
        make_cancellation: Callable[[], Cancellation],
        *,
        routers: Iterable[RouterCode] = (),
        refused: Mapping[str, str] | None = None,
        with_transform: frozenset[str] = frozenset(),
        off_loop: frozenset[str] = frozenset(),
        running_limit: int = RUNNING_LIMIT,
        running_limit_with_transform: int = RUNNING_LIMIT_WITH_TRANSFORM,
        waiting_limit: int = WAITING_LIMIT,
        loop_limit_s: float = LOOP_LIMIT_S,
        digests: Mapping[str, str] | None = None,
        before: InProcessFunctions | None = None,
        check: Callable[[Function], None] | None = None,
        ending_s: float = ENDING_S,
        running: Running | None = None,
        budget: SessionBudget | None = None,
        session_bytes: Mapping[str, int] | None = None,
        loads_at_once: int = RUNNING_LIMIT,
        wrap: Wrap = no_wrap,
    ) -> None:
        self._budget = budget
        self._gate: LoadGate = LoadGate(loads_at_once) if before is None else before._gate
        self._one_at_a_time: OneAtATime = OneAtATime() if before is None else before._one_at_a_time
        self._threads: Threads = Threads() if before is None else before._threads
        self._watchdog: Watchdog = Watchdog() if before is None else before._watchdog
        self._run_memory: RunMemory = RunMemory() if before is None else before._run_memory
        self._beside: LoopThread = LoopThread() if before is None else before._beside
        self._refused = refused or {}
        self._digests = digests or {}
        self._hosted: dict[str, HostedFunction] = {}
        self._new: list[HostedFunction] = []
        for function in functions:
            kept = None if before is None else before.find(function.name, self._digests.get(function.name))
            check_it = None if check is None else partial(check, function)
            if kept is not None:
                kept.check = check_it  # the same content, but possibly another file
                self._hosted[function.name] = kept
                continue
            hosted = self._hosted[function.name] = HostedFunction(
                function,
                partial(make, function),
                make_cancellation,
                self._threads,
                self._watchdog,
                running_limit=running_limit_with_transform if function.name in with_transform else running_limit,
                waiting_limit=waiting_limit,
                loop_limit_s=0 if function.name in with_transform or function.name in off_loop else loop_limit_s,
                check=check_it,
                ending_s=ending_s,
                running=running,
                one_at_a_time=self._one_at_a_time,
                gate=self._gate,
                budget=budget,
                session_bytes=(session_bytes or {}).get(function.name, 0),
                run_memory=self._run_memory,
                limits_memory=function.name in off_loop,
            )
            self._new.append(hosted)
        self._current: Current = Current(self) if before is None else before._current
        invoke = LocalInvoke(wrap(self._current))
        self._routers = {code.function.name: HostedRouter(code, invoke, self._beside) for code in routers}
        self._models_before = frozenset() if before is None else before.wanted_models()
        self.busy_after_close = 0

    def notify_opened(self, callback: Callable[[str], None]) -> None:
        """Report the name of every function that is opened later."""
        for hosted in self._hosted.values():
            hosted.on_open = callback

    def note_deaths(self, deaths: Mapping[str, tuple[str, int]]) -> None:
        """Set which functions ended workers: watched after one end, rejected after `MOST_DEATHS`."""
        for name, hosted in self._hosted.items():
            digest, count = deaths.get(name, ("", 0))
            hosted.note_deaths(count if self._digests.get(name) == digest else 0)

    def notify_worn(self, callback: Callable[[], None]) -> None:
        """Set the callback for when so many runs could not be ended that this process should be replaced."""
        self._threads.on_worn = callback

    def open(self, name: str) -> None:
        """Open a function that will be called here, too; a removed function is skipped."""
        hosted = self._hosted.get(name)
        if hosted is not None:
            hosted.load()

    @property
    def names(self) -> Collection[str]:
        """The names of the functions that run here."""
        return self._hosted.keys() | self._routers.keys()

    takes_files = True

    def occupancy(self) -> Occupancy:
        """The functions' load; see `Functions.occupancy`."""
        hosted = self._hosted.values()
        return Occupancy(
            open=sum(function.is_open for function in hosted),
            running=sum(function.running for function in hosted),
            waiting=sum(function.waiting for function in hosted),
            called_s=max((function.called_s for function in hosted), default=-math.inf),
        )

    def find(self, name: str, digest: str | None) -> HostedFunction | None:
        """Return the function with this name if it has this digest."""
        return self._hosted.get(name) if digest is not None and self._digests.get(name) == digest else None

    def wanted_models(self) -> frozenset[str]:
        """Return the models of which a version has been called."""
        return frozenset(hosted.function.model for hosted in self._hosted.values() if hosted.is_wanted)

    def invoke(
        self, name: str, alias: str, event: Mapping[str, Any], timeout_s: float
    ) -> Invocation | Awaitable[Invocation]:
        """Call one function; see `Functions.invoke`. Must be called on the event loop."""
        hosted = self._hosted.get(name)
        if hosted is not None and alias in ALIASES:
            return hosted.invoke(alias, event, timeout_s)
        router = self._routers.get(name)
        if router is not None and alias in ALIASES:
            return router.invoke(event, timeout_s)
        return refuse(name, alias, self._refused, known=hosted is not None or router is not None)

    async def preload(self, progress: Callable[[Loaded], None] | None = None, *, at_once: int = RUNNING_LIMIT) -> None:
        """Open sessions until memory is full, several at once. A failed one is tried again when called.

        Args:
            progress: called after each session.
            at_once: number of sessions opened at the same time.
        """
        gate = asyncio.Semaphore(at_once)
        done = left = 0

        async def load(hosted: HostedFunction) -> None:
            nonlocal done, left
            async with gate:
                if self._budget is not None and not self._budget.has_room(hosted.session_bytes):
                    left += 1
                    return
                started = time.monotonic()
                reason = await hosted.load()
                done += 1
                if progress is not None:
                    progress(Loaded(hosted.function, time.monotonic() - started, reason, done, len(self._hosted)))

        await asyncio.gather(*map(load, self._hosted.values()))
        if left and progress is not None:
            log.warning(
                "Preloaded %d of %d versions: the memory limit is reached, the others are loaded when they are called",
                done,
                len(self._hosted),
            )

    async def prepare(self, *, everything: bool) -> str:
        """Open what is new, of the models that were called before or of all.

        Return why one cannot be opened, or empty.
        """
        chosen = [hosted for hosted in self._new if everything or hosted.function.model in self._models_before]
        reasons = await asyncio.gather(*(await_opening(hosted.function, hosted.load()) for hosted in chosen))
        named = zip(chosen, reasons, strict=True)
        return "; ".join(f"{hosted.function.name}: {reason}" for hosted, reason in named if reason)

    async def try_out(self, names: Iterable[str]) -> dict[str, str]:
        """Open these functions one after another, and close each again; return name -> why it cannot be opened."""
        reasons = {}
        for name in names:
            reason = await await_opening(self._hosted[name].function, self._hosted[name].load())
            self._hosted[name].retire()
            if reason:
                reasons[name] = reason
        return reasons

    def retire(self, kept: InProcessFunctions) -> None:
        """Release what `kept` does not share, each function when its last call has ended."""
        self._current.functions = kept
        shared = set(map(id, kept._hosted.values()))
        for hosted in self._hosted.values():
            if id(hosted) not in shared:
                hosted.retire()

    def close(self, patience_s: float = CLOSING_PATIENCE_S) -> None:
        """Cancel runs and end the threads. `busy_after_close` then says how many could not be stopped."""
        for hosted in self._hosted.values():
            hosted.cancel()
        self._watchdog.close()
        if not self._beside.close(patience_s):
            log.warning("a router could not be stopped")
        self.busy_after_close = self._threads.close(patience_s)
        if self.busy_after_close:
            log.warning("%d runs could not be stopped", self.busy_after_close)

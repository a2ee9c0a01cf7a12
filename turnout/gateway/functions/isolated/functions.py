"""`Functions` that each run in separate awslambdaric processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from turnout.gateway.functions.invocation import (
    ALIASES,
    Current,
    Invocable,
    Invocation,
    Loaded,
    Occupancy,
    Wrap,
    await_opening,
    no_wrap,
    refuse,
)
from turnout.gateway.functions.isolated.environment import no_sidecar
from turnout.gateway.functions.isolated.isolated_function import IsolatedFunction
from turnout.gateway.functions.isolated.limits import EnvironmentLimits, LocalSlots, Slots
from turnout.gateway.functions.isolated.process import FunctionCode
from turnout.gateway.functions.isolated.warden_client import ProcessGuard
from turnout.gateway.shared.session_budget import SessionBudget
from turnout.protocol.naming import split_function_name
from turnout.protocol.routing.pooled import aim_at

ServeInvoke = Callable[[Invocable, Current], AbstractAsyncContextManager[Mapping[str, str]]]
"""Serves Lambda's Invoke API for functions to one environment, and returns the variables with its address. The second
argument lists the names of the functions.
"""


def serve_nothing(_functions: Invocable, _names: Current) -> AbstractAsyncContextManager[Mapping[str, str]]:
    """Serve no Invoke API: for functions without routers."""
    return no_sidecar()


class IsolatedFunctions:
    """The plan's functions, each in its own environments.

    Args:
        codes: the code of each function; or a function that makes it, called in a thread by `prepare` or `try_out`,
            before the first call.
        limits: limits of each function.
        refused: name -> reason, for the plan's functions that cannot run here.
        make_slots: makes the counter of calls of a function with a reserved concurrency; if several processes serve
            together, it counts across all of them.
        serve_invoke: serves the Invoke API to each environment of a router.
        before: the previous functions; `prepare` takes over unchanged ones, with their environments.
        budget: ends idle environments when memory is short, or None.
        wrap: wraps the functions that routers call.
        pooled: name that a pooled version's own function would have -> its pool's function.
    """

    def __init__(
        self,
        codes: Iterable[FunctionCode] | Callable[[], Iterable[FunctionCode]],
        limits: EnvironmentLimits,
        *,
        refused: Mapping[str, str] | None = None,
        make_slots: Callable[[str, int], Slots] = lambda _name, count: LocalSlots(count),
        serve_invoke: ServeInvoke = serve_nothing,
        before: IsolatedFunctions | None = None,
        budget: SessionBudget | None = None,
        wrap: Wrap = no_wrap,
        pooled: Mapping[str, str] | None = None,
    ) -> None:
        self._pooled = pooled or {}
        self._budget = budget
        self._guard: ProcessGuard = ProcessGuard() if before is None else before._guard
        self._wrap = wrap
        self._current: Current = Current(self) if before is None else before._current
        self._limits = limits
        self._refused = refused or {}
        self._make_slots = make_slots
        self._serve_invoke = serve_invoke
        self._before = before
        self._functions: dict[str, IsolatedFunction] = {}
        self._codes: Callable[[], Iterable[FunctionCode]] | None = None
        if callable(codes):
            self._codes = codes
        else:
            self._fill(codes)

    def _fill(self, codes: Iterable[FunctionCode]) -> None:
        """Take over or make each function."""
        before = {} if self._before is None else self._before._functions
        for code in codes:
            name, reserved = code.function.name, code.function.settings.reserved_concurrency
            kept = before.get(name)
            if kept is not None and kept.code == code:
                self._functions[name] = kept
                continue
            slots = None if reserved is None else self._make_slots(name, reserved)
            beside = no_sidecar if code.function.runs_models else self._serve_routers
            self._functions[name] = IsolatedFunction(code, self._limits, self._guard, slots, beside, self._budget)

    def _serve_routers(self) -> AbstractAsyncContextManager[Mapping[str, str]]:
        return self._serve_invoke(self._wrap(self._current), self._current)

    async def _make_codes(self) -> None:
        if self._codes is not None:
            codes, self._codes = self._codes, None
            self._fill(await asyncio.to_thread(codes))

    def invoke(
        self, name: str, alias: str, event: Mapping[str, Any], timeout_s: float
    ) -> Invocation | Awaitable[Invocation]:
        """Call one function; see `Functions.invoke`. Must be called on the event loop.

        A pooled version has two names: the one of a function without a pool, as in one process, and its pool's.
        """
        pooled = self._pooled.get(name)
        if pooled is not None:
            name, event = pooled, aim_at(event, *split_function_name(name))
        function = self._functions.get(name)
        if function is not None and alias in ALIASES:
            return function.invoke(alias, event, timeout_s)
        return refuse(name, alias, self._refused, known=function is not None)

    @property
    def names(self) -> Collection[str]:
        """The names of the functions that run here."""
        return self._functions.keys() | self._pooled.keys()

    takes_files = False

    def environments(self) -> dict[str, int]:
        """Return name -> number of environments, for functions that have some."""
        return {name: function.environments for name, function in self._functions.items() if function.environments}

    def occupancy(self) -> Occupancy:
        """The functions' load; see `Functions.occupancy`."""
        functions = self._functions.values()
        return Occupancy(
            open=sum(function.environments for function in functions),
            running=sum(function.running for function in functions),
            waiting=sum(function.waiting for function in functions),
        )

    async def preload(self, progress: Callable[[Loaded], None] | None = None) -> None:
        """Start one environment of each function, several at once; `progress` is called with each.

        They belong to the event loop on which this runs. A failed init is tried again when the function is called.
        """
        gate = asyncio.Semaphore(self._limits.environments)
        done = 0

        async def load(function: IsolatedFunction) -> None:
            nonlocal done
            async with gate:
                started = time.monotonic()
                reason = await function.load()
                done += 1
                if progress is not None:
                    seconds = time.monotonic() - started
                    progress(Loaded(function.function, seconds, reason, done, len(self._functions)))

        await asyncio.gather(*map(load, self._functions.values()))

    def notify_opened(self, callback: Callable[[str], None]) -> None:
        """Does nothing: environments run from copies of their files."""

    def note_deaths(self, deaths: Mapping[str, tuple[str, int]]) -> None:
        """Does nothing: the end of an environment does not affect others."""

    def notify_worn(self, callback: Callable[[], None]) -> None:
        """Does nothing: an environment that does not answer is killed."""

    def open(self, name: str) -> None:
        """Does nothing: environments start when they are needed."""

    async def prepare(self, *, everything: bool) -> str:
        """Start an environment for functions that had one before, or for all; return why one cannot start, or empty."""
        await self._make_codes()
        warm = {} if self._before is None else self._before.environments()
        self._before = None
        names = [name for name in self._functions if everything or name in warm]
        reasons = await self._load(names)
        return "; ".join(f"{name}: {reason}" for name, reason in reasons.items())

    async def try_out(self, names: Iterable[str]) -> dict[str, str]:
        """Start an environment of each function and end it again; return name -> why it cannot start."""
        await self._make_codes()
        try:
            return await self._load(names)
        finally:
            self.close()

    def retire(self, kept: IsolatedFunctions) -> None:
        """End the environments of every function that `kept` does not share, each when its last call has ended."""
        self._current.functions = kept
        shared = set(map(id, kept._functions.values()))
        for function in self._functions.values():
            if id(function) not in shared:
                function.retire()

    async def _load(self, names: Iterable[str]) -> dict[str, str]:
        chosen = {name: self._functions[self._pooled.get(name, name)] for name in names}
        reasons = {name: await await_opening(function.function, function.load()) for name, function in chosen.items()}
        return {name: reason for name, reason in reasons.items() if reason}

    def close(self) -> None:
        """End every environment immediately; running calls are lost."""
        for function in self._functions.values():
            function.close()
        self._guard.close()

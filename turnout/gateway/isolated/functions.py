"""`Functions` that run each in awslambdaric processes of its own.

Comes in: the plan's functions, their packages unpacked. Goes out: `invoke(name, alias, event, timeout_s)`, whose answer
is awaited. Called by the gateway's core; made by `turnout.gateway.isolated.start`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from turnout.gateway.functions import ALIASES, Invocation, refuse
from turnout.gateway.in_process import Loaded
from turnout.gateway.isolated.isolated_function import IsolatedFunction, Limits, LocalSlots, Slots
from turnout.gateway.isolated.process import Code
from turnout.gateway.isolated.watch import Watch

LONGEST_CALL_S = 30.0
"""The gateway gives up a call after 29 s, as API Gateway does."""


class IsolatedFunctions:
    """The plan's functions, each in environments of its own.

    Args:
        codes: what runs here.
        limits: of each function.
        refused: name -> why, of those of the plan that cannot run here.
        make_slots: what counts the calls of a function with a reserved concurrency; several processes that serve
            together give one that counts over all of them.
        warm: names of functions that `prepare` starts one environment of.
    """

    def __init__(
        self,
        codes: Iterable[Code],
        limits: Limits,
        *,
        refused: Mapping[str, str] | None = None,
        make_slots: Callable[[str, int], Slots] = lambda _name, count: LocalSlots(count),
        warm: frozenset[str] = frozenset(),
    ) -> None:
        self._watch = Watch()
        self._limits = limits
        self._refused = refused or {}
        self._functions: dict[str, IsolatedFunction] = {}
        for code in codes:
            name, reserved = code.function.name, code.function.reserved_concurrency
            slots = None if reserved is None else make_slots(name, reserved)
            self._functions[name] = IsolatedFunction(code, limits, self._watch, slots)
        self._warm = warm
        self.busy_after_close = 0

    def invoke(
        self, name: str, alias: str, event: Mapping[str, Any], timeout_s: float
    ) -> Invocation | Awaitable[Invocation]:
        """Call one function; see `Functions.invoke`. Must be called on the event loop."""
        function = self._functions.get(name)
        if function is not None and alias in ALIASES:
            return function.invoke(alias, event, timeout_s)
        return refuse(name, alias, self._refused, known=function is not None)

    def environments(self) -> dict[str, int]:
        """Name -> how many environments a function has, of those that have some."""
        return {name: row.environments for name, row in self._functions.items() if row.environments}

    async def preload(self, progress: Callable[[Loaded], None] | None = None) -> None:
        """Start one environment of each function, some at once; `progress` hears of each.

        They belong to the event loop that this runs on. One whose init fails is tried again when called.
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

    async def prepare(self, *, everything: bool) -> str:
        """Start an environment of those that had one before, or of all; empty, or why one cannot start."""
        names = [name for name in self._functions if everything or name in self._warm]
        reasons = await self._load(names)
        return "; ".join(f"{name}: {reason}" for name, reason in reasons.items())

    async def try_out(self, names: Iterable[str]) -> dict[str, str]:
        """Start an environment of each and end it again: name -> why it cannot start."""
        try:
            return await self._load(names)
        finally:
            self.close()

    def retire(self, kept: IsolatedFunctions) -> None:  # noqa: ARG002 - no environment goes from one to the other
        """End every environment once the last call must have been answered."""
        asyncio.get_running_loop().call_later(LONGEST_CALL_S, self.close)

    async def _load(self, names: Iterable[str]) -> dict[str, str]:
        reasons = {name: await self._functions[name].load() for name in names}
        return {name: reason for name, reason in reasons.items() if reason}

    def close(self) -> None:
        """End every environment at once; what still runs is lost."""
        for function in self._functions.values():
            function.close()
        self._watch.close()

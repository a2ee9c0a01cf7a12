"""The gateway that a worker serves with at this moment, and the one that it will serve with next.

Each worker has one; its HTTP server calls it for every request.

A new edition is prepared beside the present one: its gateway is made in a thread, sessions of versions that changed are
opened, those of versions that did not are taken over. Every worker goes over to it in its first request after the
control state says so, between two requests; what was begun before ends with the old one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from turnout.gateway.api.gateway import Gateway
from turnout.gateway.editions.edition import Edition
from turnout.gateway.functions.invocation import Functions, Loaded
from turnout.gateway.rules.authorize import ApiKeys
from turnout.gateway.shared.state import SharedState
from turnout.http_server.messages import BodySink, Request, Response

log = logging.getLogger(__name__)


class EditionFunctions(Functions, Protocol):
    """Functions that can make room for those of another edition."""

    async def preload(self, progress: Callable[[Loaded], None] | None = None) -> None:
        """Open everything before the first request."""
        ...

    def notify_opened(self, callback: Callable[[str], None]) -> None:
        """Report the name of every function that is opened later, where an open one outlives a change of its files."""
        ...

    def note_deaths(self, deaths: Mapping[str, tuple[str, int]]) -> None:
        """Obey which functions ended workers, by name: what they were made of, and how many."""
        ...

    def notify_worn(self, callback: Callable[[], None]) -> None:
        """Call it when this process should be replaced by a new one."""
        ...

    def open(self, name: str) -> None:
        """Open a function before it is called."""
        ...

    async def prepare(self, *, everything: bool) -> str:
        """Open what is new, all of it or what is sure to be called; empty, or why that failed."""
        ...

    async def try_out(self, names: Iterable[str]) -> Mapping[str, str]:
        """Whether these functions can be opened: name -> why not."""
        ...

    def retire(self, kept: Any) -> None:
        """Let go of everything that `kept`, the functions that go on, do not share, once its last call has ended."""
        ...


FunctionsOf = Callable[[Edition, "EditionFunctions | None"], EditionFunctions]
"""Makes an edition's functions; the second are those of the edition before, which it may take over."""

GatewayOf = Callable[[Edition, Functions], Gateway]


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """An edition as one worker serves it."""

    number: int
    gateway: Gateway
    functions: EditionFunctions


class Switch:
    """A `Handler` that obeys the shared control state.

    Args:
        state: shared by all workers; it has been published once.
        served: the first edition.
        functions_of: makes functions of further editions.
        gateway_of: makes gateways of further editions.
        preload: open everything that is new in an edition before going over to it.
        on_open: called with every function that is opened, or None.
        on_unprepared: called when the control state names an edition that this worker lacks; the worker must end.
    """

    def __init__(
        self,
        state: SharedState,
        served: Served,
        *,
        functions_of: FunctionsOf,
        gateway_of: GatewayOf,
        preload: bool,
        on_open: Callable[[str], None] | None = None,
        on_unprepared: Callable[[], None],
    ) -> None:
        self._state = state
        self._served = served
        self._handle = served.gateway.handle
        self._functions_of = functions_of
        self._gateway_of = gateway_of
        self._preload = preload
        self._on_open = on_open
        if on_open is not None:
            served.functions.notify_opened(on_open)
        self._on_unprepared = on_unprepared
        self._prepared: dict[int, Served] = {}
        self._generation = state.generation_word()
        self._seen = -1
        self.look()

    @property
    def functions(self) -> EditionFunctions:
        """Those that requests reach now."""
        return self._served.functions

    def handle(self, request: Request) -> Response | Awaitable[Response]:
        """Answer one request by the state of this moment."""
        if self._generation[0] != self._seen:
            self.look()
        return self._handle(request)

    def admit(self, request: Request) -> Response | None:
        """Refuse one request by its head, by the state of this moment; None where it may go on."""
        if self._generation[0] != self._seen:
            self.look()
        return self._served.gateway.admit(request)

    @property
    def gateway(self) -> Gateway:
        """The one that answers requests now."""
        return self._served.gateway

    def receive(self, request: Request) -> BodySink | None:
        """Return what takes a request's body; None where it is kept in memory."""
        return self._served.gateway.receive(request)

    def look(self) -> None:
        """Obey the control state as it is now."""
        generation, state = self._state.read()
        if state.edition != self._served.number:
            following = self._prepared.pop(state.edition, None)
            if following is None:
                log.error("edition %d is served now and this worker has %d only", state.edition, self._served.number)
                self._seen = generation
                self._on_unprepared()
                return
            self._served, before = following, self._served
            self._handle = following.gateway.handle
            before.functions.retire(following.functions)
        keys = {stage: ApiKeys(values) for stage, values in state.api_keys.items()}
        self._served.gateway.stages.replace(state.stages, keys)
        self._served.functions.note_deaths(state.deaths)
        self._seen = generation

    async def prepare(self, number: int, edition: Edition) -> str:
        """Make everything ready for going over to an edition; empty, or why that failed: nothing is kept then."""
        present = self._served.functions
        try:
            functions = await asyncio.to_thread(self._functions_of, edition, present)
            if self._on_open is not None:
                functions.notify_opened(self._on_open)
            gateway = await asyncio.to_thread(self._gateway_of, edition, functions)
            reason = await functions.prepare(everything=self._preload)
        except Exception as error:
            log.exception("edition %d cannot be prepared", number)
            return f"{type(error).__name__}: {error}"
        if not reason:
            self._prepared[number] = Served(number, gateway, functions)
        return reason

    def discard(self, number: int) -> None:
        """Forget an edition that was prepared and is not wanted."""
        discarded = self._prepared.pop(number, None)
        if discarded is not None:
            discarded.functions.retire(self._served.functions)

"""The gateway with which a worker serves now, and the next one.

Each worker has one; its HTTP server calls it for every request.

A new edition is prepared next to the current one: its gateway is made in a thread, sessions of changed versions are
opened, those of unchanged versions are taken over. Every worker switches in its first request after the control state
requires it, between two requests; requests that have started end with the old edition.
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
    """Functions that can be replaced by those of another edition."""

    async def preload(self, progress: Callable[[Loaded], None] | None = None) -> None:
        """Open everything before the first request."""
        ...

    def notify_opened(self, callback: Callable[[str], None]) -> None:
        """Report the name of every function opened later, and of open ones that survive a change of their files."""
        ...

    def note_deaths(self, deaths: Mapping[str, tuple[str, int]]) -> None:
        """Apply which functions ended workers, by name: the digest of each and the number of ends."""
        ...

    def notify_worn(self, callback: Callable[[], None]) -> None:
        """Set the callback for when this process should be replaced by a new one."""
        ...

    def open(self, name: str) -> None:
        """Open a function before it is called."""
        ...

    async def prepare(self, *, everything: bool) -> str:
        """Open what is new, all of it or what is certain to be called; return why that failed, or an empty text."""
        ...

    async def try_out(self, names: Iterable[str]) -> Mapping[str, str]:
        """Test whether these functions can be opened: name -> why not."""
        ...

    def retire(self, kept: Any) -> None:
        """Close everything that is not shared with `kept`, the next functions, once its last call has ended."""
        ...


FunctionsOf = Callable[[Edition, "EditionFunctions | None"], EditionFunctions]
"""Makes an edition's functions; may take over functions of the previous edition, the second argument."""

GatewayOf = Callable[[Edition, Functions], Gateway]


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """An edition as one worker serves it."""

    number: int
    gateway: Gateway
    functions: EditionFunctions


class Switch:
    """A `Handler` that follows the shared control state.

    Args:
        state: shared by all workers; it has been published once.
        served: the first edition.
        functions_of: makes functions of further editions.
        gateway_of: makes gateways of further editions.
        preload: open everything that is new in an edition before switching to it.
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
        """The functions that requests call now."""
        return self._served.functions

    def handle(self, request: Request) -> Response | Awaitable[Response]:
        """Answer one request using the current state."""
        if self._generation[0] != self._seen:
            self.look()
        return self._handle(request)

    def admit(self, request: Request) -> Response | None:
        """Reject one request by its head, using the current state; None if it may continue."""
        if self._generation[0] != self._seen:
            self.look()
        return self._served.gateway.admit(request)

    @property
    def gateway(self) -> Gateway:
        """The gateway that answers requests now."""
        return self._served.gateway

    def receive(self, request: Request) -> BodySink | None:
        """Return the receiver of a request's body; None if it is kept in memory."""
        return self._served.gateway.receive(request)

    def look(self) -> None:
        """Apply the current control state."""
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
        """Prepare the switch to an edition; return why that failed, with nothing kept, or an empty text."""
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
        """Drop a prepared edition that is no longer needed."""
        discarded = self._prepared.pop(number, None)
        if discarded is not None:
            discarded.functions.retire(self._served.functions)

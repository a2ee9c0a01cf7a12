"""One worker: a process with an event loop that answers the requests of the connections it is given.

It receives `connections`, `open`, `prepare`, `discard`, `look` and `stop`, and sends `ready`, `opened`, `prepared` and
`heard` (immediately for each `prepare` and `stop`, which shows the supervisor that the event loop runs). If the
supervisor disappears, the worker stops.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from turnout.gateway.api.gateway import Gateway
from turnout.gateway.editions.edition import Edition
from turnout.gateway.editions.rebuild import take_edition
from turnout.gateway.editions.switch import EditionFunctions, FunctionsOf, GatewayOf, Served, Switch
from turnout.gateway.functions.invocation import Loaded
from turnout.gateway.shared.gauges import Load
from turnout.gateway.shared.session_budget import SessionBudget
from turnout.gateway.shared.state import SharedState
from turnout.gateway.workers.channel import Channel, Message
from turnout.gateway.workers.memory import keep_freed_memory, proportional_bytes, resident_bytes
from turnout.gateway.workers.reload import READ_S
from turnout.gateway.workers.workers import ACKNOWLEDGED
from turnout.http_server import server as http
from turnout.http_server.messages import Response

log = logging.getLogger(__name__)

RETRY_S = 0.01
"""Time after which a message is sent again that did not fit into the channel."""

BEAT_S = 1.0
"""Seconds between the iterations that a worker counts."""

BESIDE_S = 2.0
"""Time for background work to end after the last request."""

WORN = 4
"""The exit code of a worker with too many runs that cannot be ended."""

UNPREPARED = 3
"""The exit code of a worker that must be restarted with the served edition."""


Beside = Callable[[Switch, asyncio.Event], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class ServerParts:
    """The parts of the server that do not depend on the edition.

    Args:
        functions_of: makes an edition's functions.
        gateway_of: makes an edition's gateway.
        preload: open every session before the first request.
        opens_together: what one worker opens, all open, so that each has it when its files are edited and become
            invalid.
        progress: called with every preloaded session.
        limits: limits of one client.
        refusals: the HTTP server's own error responses.
        log: called with each answer, or None.
        flush: writes buffered lines of the access log.
        read_s: time limit for reading the files at a reload.
        budget: the memory budget of loaded versions.
        beside: runs in each worker next to the requests until the event is set; or None.
    """

    functions_of: FunctionsOf
    gateway_of: GatewayOf
    preload: bool
    opens_together: bool
    progress: Callable[[Loaded], None]
    limits: http.Limits
    refusals: Mapping[int, Response]
    log: http.Log | None
    flush: Callable[[], None]
    read_s: float = READ_S
    budget: SessionBudget | None = None
    beside: Beside | None = None


@dataclass(frozen=True, slots=True)
class First:
    """The first edition that a worker serves.

    Args:
        number: the edition's number.
        edition: the edition.
        functions: functions of the edition, if they were made before the fork; they must not have been used.
        gateway: likewise.
    """

    number: int
    edition: Edition
    functions: EditionFunctions | None = None
    gateway: Gateway | None = None


class Worker:
    """Runs one worker process.

    Args:
        number: number of the worker, from 0.
        channel: its end of the channel.
        state: state shared by all.
        serving: parts that do not depend on the edition.
        first: the first edition.
    """

    def __init__(
        self,
        number: int,
        channel: Channel,
        state: SharedState,
        serving: ServerParts,
        first: First,
    ) -> None:
        self._number = number
        self._channel = channel
        self._state = state
        self._serving = serving
        self._first = first
        self._stop = asyncio.Event()
        self._code = 0
        self._attach: Callable[[socket.socket], None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._switch: Switch

    async def run(self) -> int:
        """Serve until the supervisor says stop; returns the exit code."""
        serving = self._serving
        loop = asyncio.get_running_loop()
        first = self._first
        if serving.budget is not None:
            serving.budget.start(proportional_bytes(), resident_bytes())
        functions = first.functions or serving.functions_of(first.edition, None)
        gateway = first.gateway or serving.gateway_of(first.edition, functions)
        self._switch = Switch(
            self._state,
            Served(first.number, gateway, functions),
            functions_of=serving.functions_of,
            gateway_of=serving.gateway_of,
            preload=serving.preload,
            on_open=self._send_opened if serving.opens_together else None,
            on_unprepared=self._give_up,
        )
        functions.notify_worn(self._renew)
        beside: asyncio.Task[None] | None = None
        try:
            if serving.preload:
                await functions.preload(serving.progress if self._number == 0 else None)
            if serving.beside is not None:
                beside = loop.create_task(serving.beside(self._switch, self._stop))
            await http.serve_accepted(
                self._switch.handle,
                stop=self._stop,
                on_ready=self._open,
                on_close=self._count_closed,
                limits=serving.limits,
                refusals=serving.refusals,
                log=serving.log,
                admit=self._switch.admit,
                receive=self._switch.receive,
                count_refusal=self._count_refusal,
            )
        finally:
            await self._end(beside)
            loop.remove_reader(self._channel.fileno())
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            serving.flush()
            self._switch.functions.close()
        return self._code

    def _count_refusal(self, status: int) -> None:
        """Count an answer to a request that reached no stage. It took no time of the gateway."""
        self._state.counters.record(("", "", False), status, 0.0)

    async def _end(self, beside: asyncio.Task[None] | None) -> None:
        """Let background work end, for which it has had time."""
        if beside is None:
            return
        self._stop.set()
        await asyncio.wait([beside], timeout=BESIDE_S)
        beside.cancel()
        await asyncio.gather(beside, return_exceptions=True)

    def _open(self, attach: Callable[[socket.socket], None]) -> None:
        self._attach = attach
        asyncio.get_running_loop().add_reader(self._channel.fileno(), self._listen)
        self._beat()
        self._send("ready")

    def _beat(self) -> None:
        self._state.beat(self._number)
        occupancy = self._switch.functions.occupancy()
        resident = resident_bytes()
        load = Load(occupancy.open, occupancy.running, occupancy.waiting, resident)
        self._state.gauges.write(self._number, load)
        self._fit_memory(resident)
        asyncio.get_running_loop().call_later(BEAT_S, self._beat)

    def _fit_memory(self, resident: int) -> None:
        budget = self._serving.budget
        if budget is not None and (evicted := budget.look(resident)):
            asyncio.get_running_loop().run_in_executor(None, budget.drop, evicted)

    def _renew(self) -> None:
        """End in order to be restarted, once requests in flight are answered, because threads cannot be ended."""
        log.warning("worker %d has too many runs that do not end", self._number)
        self._code = WORN
        self._send("leaving")
        self._stop.set()

    def _give_up(self) -> None:
        """End in order to be restarted: the supervisor has an edition that this process lacks."""
        self._code = UNPREPARED
        self._stop.set()

    def _send_opened(self, name: str) -> None:
        self._send("opened", name)

    def _count_closed(self) -> None:
        self._state.drop_connection(self._number)

    def _listen(self) -> None:
        try:
            while (message := self._channel.receive()) is not None:
                self._obey(message)
        except EOFError:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            self._stop.set()

    def _obey(self, message: Message) -> None:
        if message.kind in ACKNOWLEDGED:
            self._send("heard")
        match message.kind:
            case "connections":
                self._take_connections(message)
            case "prepare":
                task = asyncio.get_running_loop().create_task(self._prepare(message.values[0], *message.files))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            case "discard":
                self._switch.discard(message.values[0])
            case "open":
                self._switch.functions.open(message.values[0])
            case "look":
                self._switch.look()
            case "stop":
                self._stop.set()
            case _:
                raise ValueError(f"there is no message {message.kind!r}")

    def _take_connections(self, message: Message) -> None:
        assert self._attach is not None
        for file in message.files:
            self._attach(_connected(file))
        for _ in range(message.values[0] - len(message.files)):
            self._count_closed()  # this process had no free descriptor for it, so the kernel closed it

    async def _prepare(self, number: int, file: int | None = None) -> None:
        if file is None:
            self._send("prepared", number, "this worker has no descriptor left: raise the limit with `ulimit -n`")
            return
        try:
            edition = await asyncio.to_thread(take_edition, file)
        except Exception as error:
            log.exception("edition %d cannot be read", number)
            self._send("prepared", number, f"{type(error).__name__}: {error}")
            return
        self._send("prepared", number, await self._switch.prepare(number, edition))

    def _send(self, kind: str, *values: object) -> None:
        self._channel.send(kind, *values)
        self._retry()

    def _retry(self) -> None:
        self._channel.flush()
        if self._channel.is_waiting:
            asyncio.get_running_loop().call_later(RETRY_S, self._retry)


def _connected(file: int) -> socket.socket:
    connected = socket.socket(fileno=file)
    connected.settimeout(0)
    return connected


def ignore_signals() -> None:
    """Leave stopping to the supervisor, which also gets the terminal's signals.

    Handlers that do nothing are not inherited by programs that user code may start; ignored signals would be.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)


def run_worker(number: int, channel: Channel, state: SharedState, serving: ServerParts, first: First) -> int:
    """Run a worker until it ends; return its exit code."""
    ignore_signals()
    keep_freed_memory()
    channel.move_up()
    sys.dont_write_bytecode = True  # otherwise an edit within the same second would run the old bytecode
    state.become(number)
    # The runner is not closed: that would wait for threads that may hang, and the process ends anyway.
    runner = asyncio.Runner(loop_factory=http.new_event_loop)
    return runner.run(_run(Worker(number, channel, state, serving, first)))


async def _run(worker: Worker) -> int:
    return await worker.run()

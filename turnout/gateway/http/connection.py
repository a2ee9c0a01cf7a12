"""One client's connection: asks the handler, writes the answers in the order of the requests, ends what is too slow.

Comes in: a transport's calls. Goes out: bytes to the transport. Made by the server (`http.py`) for each client. The
answer is written inside the parser's callback: no task, no queue and no timer is made for a request whose handler
answers at once.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

from turnout.gateway.http.busy_poll import BusyPoll
from turnout.gateway.http.reader import Limits, NotHTTPError, RequestReader
from turnout.gateway.http.wire import CLOSE, CONTINUE, Refused, make_refusal, render
from turnout.gateway.messages import Handler, Request, Response

logger = logging.getLogger("turnout.gateway.http")

Log = Callable[[Request, Response, float], None]
"""Told of every answer, with the seconds between the request's last byte and the answer's first."""

_IDLE, _HEAD, _BODY = range(3)
_JOINED_BYTES = 65_536


class Service:
    """What all connections share.

    Args:
        handle: answers requests.
        limits: what one client may take.
        refusals: the answers given without the handler, by status.
        log: told of every answer, or None.

    Attributes:
        now: seconds, of a clock that is read once per sweep.
        date: the `Date` line of this second.
        draining: the server stops; every answer is its connection's last.
        on_close: told of every connection that is gone, or None.
        busy_poll: keeps the loop awake between requests, or None.
    """

    def __init__(self, handle: Handler, limits: Limits, refusals: Mapping[int, Response], log: Log | None) -> None:
        self.handle = handle
        self.limits = limits
        self.refusals = refusals
        self.log = log
        self.now = 0.0
        self.date = ""
        self.draining = False
        self.connections: set[Connection] = set()
        self.tasks: set[asyncio.Future[Response]] = set()
        self.emptied = asyncio.Event()
        self.on_close: Callable[[], None] | None = None
        self.busy_poll: BusyPoll | None = None

    def forget(self, connection: Connection) -> None:
        """Let go of a closed connection, and wake who waits for the last."""
        self.connections.discard(connection)
        if self.on_close is not None:
            self.on_close()
        if self.draining and not self.connections:
            self.emptied.set()


class Connection(asyncio.Protocol):
    """The protocol that the event loop drives for one client."""

    __slots__ = (
        "_awaited",
        "_deaf",
        "_eof",
        "_lingering",
        "_moved",
        "_phase",
        "_queue",
        "_reader",
        "_reading",
        "_served",
        "_service",
        "_since",
        "_stalled",
        "_transport",
        "_unsent_bytes",
    )

    _transport: asyncio.Transport
    _reader: RequestReader

    def __init__(self, service: Service) -> None:
        self._service = service
        # Requests read while an earlier answer is awaited or waits to be written; a refusal comes with its response.
        self._queue: deque[tuple[Request, str, Response | None]] = deque()
        self._awaited = False  # the handler works on an answer
        self._stalled = False  # the client does not read
        self._reading = True  # we do
        self._deaf = False  # what still comes in is thrown away
        self._eof = False  # nothing more comes in
        self._lingering = False  # refused; the client is given time to see it
        self._served = False
        self._phase = _IDLE
        self._since = service.now  # when the phase began
        self._moved = service.now  # when the client last took bytes
        self._unsent_bytes = sys.maxsize

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come."""
        service = self._service
        peer = transport.get_extra_info("peername")
        self._transport = cast("asyncio.Transport", transport)
        self._reader = RequestReader(service.limits, peer[0] if isinstance(peer, tuple) else "127.0.0.1", self._take)
        service.connections.add(self)
        if service.draining:
            self._close()
        elif len(service.connections) > service.limits.max_connections:
            self._refuse(503)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The connection is gone; an answer still awaited is dropped when it comes."""
        self._deaf = True
        self._queue.clear()
        self._reader.close()
        self._service.forget(self)

    def data_received(self, data: bytes) -> None:
        """Read on, and answer what is complete."""
        if self._deaf:
            return
        reader = self._reader
        try:
            reader.feed(data)
        except Exception as error:
            self._stop_reading(error)
        else:
            phase = _BODY if reader.request is not None else _HEAD if reader.target else _IDLE
            if phase != self._phase:
                self._phase = phase
                self._since = self._service.now
            if reader.continue_due:
                self._send_continue()
        if self._queue and self._reading and not self._deaf:
            self._reading = False
            self._transport.pause_reading()
        if self._service.busy_poll is not None:
            self._service.busy_poll.prolong()

    def eof_received(self) -> bool:
        """The client has closed its writing side, and may still wait for its answers."""
        self._deaf = self._eof = True
        return self._awaited or bool(self._queue)

    def pause_writing(self) -> None:
        """The client does not read: answer nothing more until it does."""
        self._stalled = True
        self._unsent_bytes = sys.maxsize

    def resume_writing(self) -> None:
        """The client has read."""
        self._stalled = False
        self._since = self._service.now
        self._advance()

    # What the server calls.

    def check_time(self) -> None:
        """End the connection if something took too long."""
        if self._stalled or self._transport.is_closing():
            self._check_unsent()
            return
        limits = self._service.limits
        waited_s = self._service.now - self._since
        if self._lingering:
            if waited_s > limits.linger_s:
                self._transport.abort()
        elif self._awaited or self._deaf:
            return
        elif self._phase == _BODY:
            if waited_s > limits.body_timeout_s:
                self._refuse(408)
        elif self._phase == _HEAD:
            if waited_s > limits.header_timeout_s:
                self._refuse(408)
        elif waited_s > (limits.keep_alive_s if self._served else limits.header_timeout_s):
            self._close()

    def drain(self) -> None:
        """The server stops: close unless a request is being read or answered; its answer will say `close`."""
        if self._phase == _IDLE and not (self._awaited or self._queue):
            self._close()

    def abort(self) -> None:
        """Close at once, whatever is unsent."""
        self._transport.abort()

    # Answers.

    def _take(self, request: Request, connection: str) -> None:
        if self._deaf:
            # The server began to stop, and closed, amid what it had read.
            return
        self._phase = _IDLE
        self._since = self._service.now
        if connection is CLOSE:
            self._deaf = True
        if self._awaited or self._stalled or self._queue:
            self._queue.append((request, connection, None))
        else:
            self._answer(request, connection)

    def _answer(self, request: Request, connection: str) -> None:
        service = self._service
        started = time.perf_counter() if service.log is not None else 0.0
        try:
            answer = service.handle(request)
            if isinstance(answer, Response):
                self._write(request, answer, connection, started)
                return
            task = asyncio.ensure_future(answer)
        except Exception:
            logger.exception("%s %s failed", request.method, request.path)
            self._write(request, make_refusal(500, service.refusals), connection, started)
            return
        self._awaited = True
        service.tasks.add(task)
        task.add_done_callback(partial(self._end_awaited, request, connection, started))

    def _end_awaited(self, request: Request, connection: str, started: float, task: asyncio.Future[Response]) -> None:
        service = self._service
        service.tasks.discard(task)
        self._awaited = False
        self._since = service.now
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None:
            response = task.result()
        else:
            response = make_refusal(500, service.refusals)
            if not (service.draining and task.cancelled()):
                logger.error("%s %s failed", request.method, request.path, exc_info=error)
        self._write(request, response, connection, started)
        self._advance()

    def _advance(self) -> None:
        """Go on with what was read while an answer was awaited or the client did not read."""
        while self._queue and not (self._awaited or self._stalled or self._transport.is_closing()):
            request, connection, refusal = self._queue.popleft()
            if refusal is None:
                self._answer(request, connection)
            else:
                self._write_refusal(request, refusal)
        if self._queue or self._awaited or self._stalled or self._transport.is_closing():
            return
        if self._eof:
            self._close()
            return
        if self._reader.continue_due:
            self._send_continue()
        self._resume_reading()

    def _write(self, request: Request, response: Response, connection: str, started: float) -> None:
        """Write one answer, if there is still somebody to read it, and close if it is the last one."""
        service = self._service
        transport = self._transport
        if not transport.is_closing():
            if service.draining and not self._queue:
                connection = CLOSE
            try:
                head, body = render(request, response, service.date, connection)
            except Exception:
                logger.exception("%s %s: the answer cannot be written", request.method, request.path)
                response = make_refusal(500, service.refusals)
                head, body = render(request, response, service.date, connection)
            if len(body) > _JOINED_BYTES:
                transport.writelines((head, body))
            else:
                transport.write(head + body)
            self._served = True
            if connection is CLOSE:
                self._hang_up()
        if service.log is not None:
            try:
                service.log(request, response, time.perf_counter() - started)
            except Exception:
                logger.exception("the access log failed")

    def _write_refusal(self, request: Request, response: Response) -> None:
        self._lingering = True
        self._since = self._service.now
        self._write(request, response, CLOSE, time.perf_counter())

    def _send_continue(self) -> None:
        """Tell a client that waits to send its body to go on, once no earlier answer is due."""
        if not (self._awaited or self._queue or self._stalled):
            self._reader.continue_due = False
            self._transport.write(CONTINUE)

    # Ends.

    def _stop_reading(self, error: Exception) -> None:
        if self._deaf:
            # The client said `Connection: close` and went on talking.
            return
        if isinstance(error, Refused):
            self._refuse(error.status)
        elif isinstance(error, NotHTTPError):
            self._close()
        else:
            logger.error("a request broke the server", exc_info=error)
            self._refuse(500)

    def _refuse(self, status: int) -> None:
        """Answer with `status` when its turn comes, read nothing more, and end the connection."""
        request = self._reader.describe()
        response = make_refusal(status, self._service.refusals)
        self._deaf = True
        self._phase = _IDLE
        if self._awaited or self._stalled or self._queue:
            self._queue.append((request, CLOSE, response))
        else:
            self._write_refusal(request, response)

    def _hang_up(self) -> None:
        if self._lingering and not self._eof:
            # Closing with unread bytes would reset the connection, and the client might never see the answer.
            self._transport.write_eof()
            self._resume_reading()
        else:
            self._close()

    def _close(self) -> None:
        self._deaf = True
        self._unsent_bytes = sys.maxsize
        self._transport.close()

    def _resume_reading(self) -> None:
        if not self._reading:
            self._reading = True
            self._transport.resume_reading()

    def _check_unsent(self) -> None:
        unsent_bytes = self._transport.get_write_buffer_size()
        if unsent_bytes < self._unsent_bytes:
            self._unsent_bytes = unsent_bytes
            self._moved = self._service.now
        elif self._service.now - self._moved > self._service.limits.write_timeout_s:
            self._transport.abort()

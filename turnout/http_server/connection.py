"""One client's connection: calls the handler, writes the answers in the order of the requests, ends what is too slow.

The server (`server.py`) makes one for each client. The answer is written inside the parser's callback: no task, queue
or timer is made for a request whose handler answers immediately.
"""

from __future__ import annotations

import asyncio
import logging
import select
import sys
import time
from collections import deque
from collections.abc import AsyncGenerator
from functools import partial
from typing import cast

from turnout.http_server.messages import BodySink, FileBody, Request, Response
from turnout.http_server.reader import NotHTTPError, RequestReader
from turnout.http_server.service import SMALL_BODY_BYTES, SURELY_IDLE_S, Service, origin_of
from turnout.http_server.streaming import ChunkStream
from turnout.http_server.wire import (
    CLOSE,
    CONTINUE,
    RefusedRequest,
    make_refusal,
    render,
    render_stream_head,
)

logger = logging.getLogger("turnout.http_server.server")

_IDLE, _HEAD, _BODY = range(3)
_JOINED_BYTES = 65_536
_PIECE_BYTES = 262_144
"""Size of the pieces in which a file is sent."""

LEFT_S = 0.05
"""Time between a client closing its sending side and checking whether it still reads. Most answers are earlier."""

ASKED_S = 0.02
"""Time until the result of this check is read for the first time; that of a distant client is noticed by a sweep."""

_CLOSED = getattr(select, "POLLRDHUP", 0)  # Linux only: the client sends no more, whether or not everything was read


class Connection(asyncio.Protocol):
    """The protocol that the event loop drives for one client."""

    __slots__ = (
        "_answered_bytes",
        "_awaited",
        "_body_bytes",
        "_deaf",
        "_eof",
        "_is_asked",
        "_is_counted",
        "_lingering",
        "_moved",
        "_origin",
        "_phase",
        "_queue",
        "_reader",
        "_reading",
        "_resumed",
        "_sending",
        "_served",
        "_service",
        "_since",
        "_stalled",
        "_stream",
        "_transport",
        "_unsent_bytes",
    )

    _transport: asyncio.Transport
    _reader: RequestReader

    def __init__(self, service: Service) -> None:
        self._service = service
        # Requests that were read while an earlier answer is awaited or waits to be written; a refusal is queued with
        # its response.
        self._queue: deque[tuple[Request, str, Response | None]] = deque()
        self._awaited: asyncio.Future[Response] | None = None  # the answer that the handler is working on
        self._answered_bytes = 0  # size of that request's body
        self._is_asked = False  # whether a client that sends no more has been checked for still reading
        self._is_counted = False  # whether it is counted among its address's connections without a whole request
        self._body_bytes = 0  # size of all bodies held here, as reported to the service
        self._stream: ChunkStream | None = None  # a chunked answer, the last one on this connection
        self._stalled = False  # whether the client does not read
        self._reading = True  # whether this side reads
        self._deaf = False  # whether further input is discarded
        self._eof = False  # whether the client's input has ended
        self._lingering = False  # whether the client was refused and is given time to read the refusal
        self._served = False
        self._sending = False  # whether a file is being sent, piece by piece
        self._resumed: asyncio.Future[None] | None = None  # set when the client reads again
        self._phase = _IDLE
        self._since = service.now  # when the current phase started
        self._moved = service.now  # when the client last accepted bytes
        self._unsent_bytes = sys.maxsize

    # The protocol that the event loop uses.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        service = self._service
        peer = transport.get_extra_info("peername")
        client = peer[0] if isinstance(peer, tuple) else "127.0.0.1"
        self._transport = cast("asyncio.Transport", transport)
        self._reader = RequestReader(service.limits, client, self._take, service.receive)
        self._origin = origin_of(client)
        service.connections.add(self)
        if service.draining and not self._poll(select.POLLIN):
            self._close()
        elif not service.make_room():
            self._refuse(503)
        else:
            self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The connection was lost, and its answers have no reader."""
        self._deaf = True
        self._queue.clear()
        self._reader.close()
        if self._awaited is not None:
            # Not immediately: a task that has not started would never see the cancellation.
            asyncio.get_running_loop().call_soon(self._awaited.cancel)
        if self._stream is not None:
            self._stream.cancel()
        if self._is_counted:
            self._service.discount_incomplete(self._origin)
        self._count_bodies()
        self._service.forget(self)

    def data_received(self, data: bytes) -> None:
        """Read further, and answer complete requests."""
        if self._deaf:
            return
        reader = self._reader
        try:
            reader.feed(data)
        except Exception as error:
            self._stop_reading(error)
        else:
            phase = _BODY if reader.request is not None else _HEAD if reader.target else _IDLE
            if phase != self._phase or phase == _BODY:
                self._go_on_reading(phase)
            if reader.continue_due:
                self._send_continue()
        if self._queue or self._body_bytes:
            self._count_bodies()
        if self._queue and self._reading and not self._deaf:
            self._reading = False
            self._transport.pause_reading()
        if reader.request is not None and reader.sink is not None and not self._deaf:
            self._follow_sink(reader.sink)
        if self._service.busy_poll is not None:
            self._service.busy_poll.prolong()

    def eof_received(self) -> bool:
        """The client has closed its sending side, and may still wait for its answers."""
        self._deaf = self._eof = True
        if self._awaited is not None:
            asyncio.get_running_loop().call_later(LEFT_S, self._ask_whether_read)
        return self._awaited is not None or bool(self._queue)

    def pause_writing(self) -> None:
        """The client does not read: pause answers until it does."""
        self._stalled = True
        self._unsent_bytes = sys.maxsize
        if self._stream is not None:
            self._stream.pause()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._stalled = False
        self._since = self._service.now
        if self._stream is not None:
            self._stream.resume()
        if self._resumed is not None:
            if not self._resumed.done():
                self._resumed.set_result(None)
            return
        self._advance()

    # The methods that the server uses.

    def check_time(self) -> None:
        """End the connection if something took too long."""
        if self._stalled or self._transport.is_closing():
            self._check_unsent()
            return
        waited_s = self._service.now - self._since
        if self._lingering:
            if waited_s > self._service.limits.linger_s:
                self._transport.abort()
        elif self._stream is not None:
            if self._poll(_CLOSED):
                self._transport.abort()
        elif self._awaited is not None:
            if self._eof or (not self._reading and self._poll(_CLOSED)):
                self._ask_whether_read()
        elif not self._deaf:
            self._check_request(waited_s)

    def _check_request(self, waited_s: float) -> None:
        """End the connection if its client takes too long to send a request, or to start one."""
        limits = self._service.limits
        if self._phase != _IDLE:
            if waited_s > (limits.body_timeout_s if self._phase == _BODY else limits.header_timeout_s):
                self._refuse(408)
        elif waited_s > (limits.keep_alive_s if self._served else limits.header_timeout_s):
            self._close()

    def drain(self) -> None:
        """The server stops: close unless a request has arrived, whose answer will contain `close`.

        Chunked answers end immediately.
        """
        if self._stream is not None:
            self._stream.cancel()
        elif self._phase == _IDLE and self._awaited is None and not self._queue and not self._poll(select.POLLIN):
            self._close()

    @property
    def expects_request(self) -> bool:
        """Whether it was answered so recently that its client's next request may be in flight."""
        return self._served and self._service.now - self._since < SURELY_IDLE_S

    def abort(self) -> None:
        """Close immediately, dropping unsent data."""
        self._transport.abort()

    @property
    def idle_since(self) -> float | None:
        """When its last answer was written; None if it has work, or never had any."""
        if not self._served or self._phase != _IDLE or self._deaf or self._awaited is not None or self._stalled:
            return None
        return self._since

    # Answers.

    def _take(self, request: Request, connection: str) -> None:
        if self._deaf:
            # The server started to stop and closed the connection while this input was being handled.
            return
        self._phase = _IDLE
        self._since = self._service.now
        if self._is_counted:
            self._is_counted = False
            self._service.discount_incomplete(self._origin)
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
        self._awaited = task
        if request.body:
            self._answered_bytes = len(request.body)
            self._count_bodies()
        service.tasks.add(task)
        task.add_done_callback(partial(self._end_awaited, request, connection, started))

    def _end_awaited(self, request: Request, connection: str, started: float, task: asyncio.Future[Response]) -> None:
        service = self._service
        service.tasks.discard(task)
        self._awaited = None
        self._since = service.now
        self._answered_bytes = 0
        if self._body_bytes:
            self._count_bodies()
        if task.cancelled() and self._transport.is_closing() and not service.draining:
            return  # the client is gone, and the handler has logged it
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
        """Continue with what was read while an answer was awaited or the client did not read."""
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
        """Write one answer, if the client is still there, and close if it is the last one."""
        service = self._service
        transport = self._transport
        if isinstance(response, Response) and response.chunks is not None:
            response = self._begin_stream(request, response, response.chunks)
        if self._stream is None and not transport.is_closing():
            if service.draining and not self._queue:
                connection = CLOSE
            try:
                head, body = render(request, response, service.date, connection)
            except Exception:
                logger.exception("%s %s: the answer cannot be written", request.method, request.path)
                response = make_refusal(500, service.refusals)
                head, body = render(request, response, service.date, connection)
            if response.file is None and len(body) <= _JOINED_BYTES:
                transport.write(head + body)
            else:
                self._write_body(request, response, head, body, connection)
            self._served = True
            if connection is CLOSE and not self._sending:
                self._hang_up()
        elif response.file is not None:
            response.file.file.close()
        if service.log is not None:
            try:
                service.log(request, response, time.perf_counter() - started)
            except Exception:
                logger.exception("the access log failed")

    def _write_body(self, request: Request, response: Response, head: bytes, body: bytes, connection: str) -> None:
        transport = self._transport
        if response.file is not None:
            transport.write(head)
            if request.method == "HEAD":
                response.file.file.close()
            else:
                self._send(response.file, connection)
        else:
            # Not writelines: asyncio's version never pauses a protocol in Python 3.12.0-3.12.8 and 3.13.0-3.13.1
            # (CVE-2024-12254), so a client that does not read would fill the memory.
            transport.write(head)
            transport.write(body)

    def _send(self, body: FileBody, connection: str) -> None:
        """Send a file; the next answer waits for its end."""
        self._sending = True
        task = asyncio.ensure_future(self._send_pieces(body))
        self._awaited = cast("asyncio.Future[Response]", task)
        task.add_done_callback(partial(self._end_sending, connection))

    async def _send_pieces(self, body: FileBody) -> bool:
        """Send the file; return whether all of it was sent."""
        loop, left = asyncio.get_running_loop(), body.length
        with body.file as file:
            file.seek(body.offset)
            while left and not self._transport.is_closing():
                piece = await loop.run_in_executor(None, file.read, min(_PIECE_BYTES, left))
                if not piece or self._transport.is_closing():
                    return False  # the file was truncated, or the client does not read
                left -= len(piece)
                self._transport.write(piece)
                if self._stalled:
                    self._resumed = loop.create_future()
                    await self._resumed
                    self._resumed = None
        return not left

    def _end_sending(self, connection: str, task: asyncio.Future[bool]) -> None:
        self._awaited = self._resumed = None
        self._sending = False
        self._since = self._service.now
        if self._transport.is_closing():
            return
        if task.cancelled() or task.exception() is not None or not task.result():
            self._transport.abort()  # the client must not mistake a part for the whole
        elif connection is CLOSE:
            self._hang_up()
        else:
            self._advance()

    def _begin_stream(self, request: Request, response: Response, chunks: AsyncGenerator[bytes]) -> Response:
        """Send the head of a chunked answer and start to send the chunks, or return what is answered instead."""
        service = self._service
        if request.method == "HEAD" or self._transport.is_closing() or service.draining:
            return Response(response.status, response.headers)
        if service.streams >= service.limits.max_streams:
            return make_refusal(503, service.refusals)
        is_framed = self._reader.is_current
        try:
            head = render_stream_head(response, service.date, is_chunked=is_framed)
        except Exception:
            logger.exception("%s %s: the answer cannot be written", request.method, request.path)
            return make_refusal(500, service.refusals)
        # The last answer on this connection: later requests are not answered; reading continues to notice when the
        # client closes.
        self._deaf = True
        self._queue.clear()
        self._resume_reading()
        self._served = True
        self._since = service.now
        self._transport.write(head)
        self._stream = ChunkStream(service, self._transport, chunks, is_framed=is_framed)
        return response

    def _write_refusal(self, request: Request, response: Response, *, patient: bool = True) -> None:
        self._lingering = patient
        self._since = self._service.now
        self._write(request, response, CLOSE, time.perf_counter())

    # Limits of a client.

    def _go_on_reading(self, phase: int) -> None:
        """Part of a request has arrived."""
        if phase != self._phase:
            self._phase = phase
            self._since = self._service.now
            if phase != _IDLE:
                self._expect_request()
        if phase == _BODY and not self._deaf:
            self._check_body()

    def _expect_request(self) -> None:
        """Count the connection among those of its address without a whole request."""
        if self._is_counted or self._deaf or self._awaited is not None or self._queue:
            return
        self._is_counted = self._service.count_incomplete(self._origin)
        if not self._is_counted:
            # While there is room, the client gets time to read the refusal: clients with so many connections may open
            # as many more.
            self._refuse(503, patient=4 * len(self._service.connections) < 3 * self._service.limits.max_connections)

    def _follow_sink(self, sink: BodySink) -> None:
        """Part of a large body has arrived: its client has time as long as it sends; wait for the disk."""
        self._since = self._service.now
        if sink.is_behind and self._reading:
            self._reading = False
            self._transport.pause_reading()
            sink.notify_drained(self._go_on_with_body)

    def _go_on_with_body(self) -> None:
        """The sink has caught up."""
        self._since = self._service.now
        if not self._deaf and not self._transport.is_closing() and not self._queue:
            self._resume_reading()

    def _check_body(self) -> None:
        """Check a request whose head has arrived: reject it before its body if it must be, or if there is no space."""
        service, reader = self._service, self._reader
        request = reader.request
        assert request is not None
        if request.admitted is None:
            request.admitted = ""
            refusal = self._ask_for_admission(request)
            if refusal is not None:
                self._refuse_with(request, refusal)
                return
        self._count_bodies()
        if request.sink is not None:
            return
        size_bytes = max(reader.length, reader.body_bytes)
        others_bytes = service.body_bytes - reader.body_bytes
        if size_bytes > SMALL_BODY_BYTES and others_bytes + size_bytes > service.limits.max_bodies_bytes:
            self._refuse(503)

    def _ask_for_admission(self, request: Request) -> Response | None:
        service = self._service
        if service.admit is None:
            return None
        try:
            return service.admit(request)
        except Exception:
            logger.exception("%s %s failed", request.method, request.path)
            return make_refusal(500, service.refusals)

    def _count_bodies(self) -> None:
        """Report to the service how many bytes of bodies are held here.

        They are partly read, waiting for their turn or being answered.
        """
        held = self._reader.held_bytes + self._answered_bytes + sum(len(waiting[0].body) for waiting in self._queue)
        self._service.body_bytes += held - self._body_bytes
        self._body_bytes = held

    def _ask_whether_read(self) -> None:
        """Check whether a client that sends no more still reads, and end the connection if it does not.

        A closed connection looks like one whose client has closed only its sending side, until something is sent to it.
        `100 Continue` is skipped by every HTTP/1.1 client.
        """
        if self._awaited is None or self._sending or self._transport.is_closing():
            return
        if self._poll(0):
            self._transport.abort()
        elif not self._is_asked and self._reader.is_current and not self._stalled:
            self._is_asked = True
            self._transport.write(CONTINUE)
            asyncio.get_running_loop().call_later(ASKED_S, self._ask_whether_read)

    def _poll(self, events: int) -> bool:
        """Whether the socket has one of these events or is broken; does not wait."""
        connected = self._transport.get_extra_info("socket")
        if connected is None or connected.fileno() < 0:
            return False
        poll = select.poll()
        poll.register(connected.fileno(), events)
        return bool(poll.poll(0))

    def _send_continue(self) -> None:
        """Send `100 Continue` to a client that waits for it, once no earlier answer is due."""
        if not (self._awaited or self._queue or self._stalled or self._deaf):
            self._reader.continue_due = False
            self._transport.write(CONTINUE)

    # Closing.

    def _stop_reading(self, error: Exception) -> None:
        if self._deaf:
            # The client sent `Connection: close` and then further requests.
            return
        if isinstance(error, RefusedRequest):
            if error.response is None:
                self._refuse(error.status)
            else:
                self._refuse_with(self._reader.describe(), error.response)
        elif isinstance(error, NotHTTPError):
            self._close()
        else:
            logger.error("a request broke the server", exc_info=error)
            self._refuse(500)

    def _refuse(self, status: int, *, patient: bool = True) -> None:
        """Answer with `status` when its turn comes, read nothing more, and end the connection."""
        if self._service.count_refusal is not None:
            self._service.count_refusal(status)
        self._refuse_with(self._reader.describe(), make_refusal(status, self._service.refusals), patient=patient)

    def _refuse_with(self, request: Request, response: Response, *, patient: bool = True) -> None:
        self._reader.drop_body()
        self._deaf = True
        self._phase = _IDLE
        if self._awaited or self._stalled or self._queue:
            self._queue.append((request, CLOSE, response))
        else:
            self._write_refusal(request, response, patient=patient)

    def _hang_up(self) -> None:
        if self._lingering and not self._eof:
            # Closing with unread bytes would reset the connection, and the client might never receive the answer.
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

"""A real HTTP server in its own thread, and raw clients for it."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import BinaryIO

import uvloop

from tests.builders.http_service import serve_http
from tests.builders.waiting import PATIENCE_S
from turnout.http_server.messages import Handler, Request, Response
from turnout.http_server.server import Limits
from turnout.http_server.service import Admit

NEW_LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) < 2, f"{name} is there {len(values)} times"
        return values[0] if values else None


def read_answer(stream: BinaryIO, *, head_only: bool = False) -> Answer:
    """Read exactly one answer; raise EOFError if there is none."""
    line = stream.readline()
    if not line:
        raise EOFError
    version, status, _ = line.decode("latin-1").split(" ", 2)
    assert version == "HTTP/1.1", line
    assert line.endswith(b"\r\n"), line
    headers = []
    while (line := stream.readline()) != b"\r\n":
        assert line.endswith(b"\r\n"), f"the head is cut off: {line!r}"
        name, value = line[:-2].decode("latin-1").split(": ", 1)
        headers.append((name, value))
    answer = Answer(int(status), headers, b"")
    length = int(answer.header("content-length") or 0)
    if head_only or int(status) < 200 or int(status) in {204, 304}:
        return answer
    body = stream.read(length)
    assert len(body) == length, "the body is cut off"
    return Answer(int(status), headers, body)


class Client:
    """One raw connection."""

    def __init__(self, address: tuple[str, int], receive_buffer_bytes: int = 0, own_address: str = "") -> None:
        self.socket = socket.socket()
        if own_address:
            self.socket.bind((own_address, 0))
        if receive_buffer_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.socket.settimeout(PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.socket.connect(address)
        except OSError:
            self.socket.close()
            raise
        self.stream = self.socket.makefile("rb")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self.stream.close()
        self.socket.close()

    def reset(self) -> None:
        """Close immediately: the server gets a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, data: bytes, *, head_only: bool = False) -> Answer:
        self.send(data)
        return read_answer(self.stream, head_only=head_only)

    def read(self, *, head_only: bool = False, informational: bool = True) -> Answer:
        """Return the next answer; 1xx answers, too, unless they are skipped as clients must."""
        answer = read_answer(self.stream, head_only=head_only)
        while not informational and answer.status < 200:
            answer = read_answer(self.stream, head_only=head_only)
        return answer

    def read_to_end(self) -> bytes:
        """Return everything that still arrives; time out if the server does not close."""
        return self.stream.read()


@dataclass
class Gate:
    """A handler that records its requests, answers with their body and, for `/slow...`, waits until it is opened."""

    seen: list[Request] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self, request: Request) -> Response | Awaitable[Response]:
        with self.changed:
            self.seen.append(request)
            self.changed.notify_all()
        if request.path.startswith("/slow"):
            return self._answer_slowly(request)
        return self._answer(request)

    async def _answer_slowly(self, request: Request) -> Response:
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            with self.changed:
                self.cancelled.append(request.path)
                self.changed.notify_all()
            raise
        return self._answer(request)

    def _answer(self, request: Request) -> Response:
        with self.changed:
            self.finished.append(request.path)
            self.changed.notify_all()
        return Response(200, (("X-Path", request.path),), request.body)

    def wait_until_cancelled(self, paths: list[str]) -> None:
        self.wait_until(lambda: self.cancelled == paths)

    def wait_until(self, true: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(true, PATIENCE_S), "it did not come about"


class RunningServer:
    """`serve_http` in a thread; `stop` sets its event and waits until it has returned."""

    def __init__(
        self,
        handle: Handler,
        limits: Limits | None,
        new_loop: Callable[[], asyncio.AbstractEventLoop],
        admit: Admit | None = None,
    ) -> None:
        self.logged: list[tuple[Request, Response, float]] = []
        self.address = ("", 0)
        self._handle = handle
        self._limits = limits
        self._admit = admit
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._stop = asyncio.Event()
        self.loop = new_loop()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._ready.wait(PATIENCE_S)

    def _run(self) -> None:
        def log(request: Request, response: Response, seconds: float) -> None:
            self.logged.append((request, response, seconds))

        def set_ready(host: str, port: int) -> None:
            self.address = (host, port)
            self._ready.set()

        try:
            self.loop.run_until_complete(
                serve_http(
                    self._handle, host="127.0.0.1", port=0, limits=self._limits, stop=self._stop,
                    on_ready=set_ready, log=log, admit=self._admit,
                )
            )  # fmt: skip
            self.left_tasks = asyncio.all_tasks(self.loop)
        except BaseException as error:  # reported by `join`
            self._error = error
        finally:
            self._ready.set()
            self.loop.close()

    def connect(self, own_address: str = "", *, receive_buffer_bytes: int = 0) -> Client:
        return Client(self.address, receive_buffer_bytes, own_address)

    def call(self, function: Callable[[], object]) -> None:
        """Call something in the server's loop."""
        self.loop.call_soon_threadsafe(function)

    def begin_stop(self) -> None:
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._stop.set)

    def join(self) -> None:
        self._thread.join(PATIENCE_S * 2)
        assert not self._thread.is_alive(), "the server did not stop"
        if self._error is not None:
            raise self._error
        assert not self.left_tasks, self.left_tasks


@contextmanager
def serving(
    handle: Handler, limits: Limits | None = None, loop: str = "uvloop", admit: Admit | None = None
) -> Iterator[RunningServer]:
    """Run a server for the duration of a block. Logged errors fail the test, unless it reads them itself."""
    server = RunningServer(handle, limits, NEW_LOOPS[loop], admit)
    try:
        yield server
    finally:
        server.begin_stop()
        server.join()


class Errors(logging.Handler):
    """Collects a logger's messages from WARNING on."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def collecting_errors() -> Iterator[list[logging.LogRecord]]:
    """Collect everything logged as a warning or worse: by the server's own logger and by the event loop's."""
    errors = Errors()
    root = logging.getLogger()
    root.addHandler(errors)
    try:
        yield errors.records
    finally:
        root.removeHandler(errors)

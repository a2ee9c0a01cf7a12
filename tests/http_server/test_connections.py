"""Connections over real sockets: slow clients, clients that disconnect, many clients, failing handlers, and the
stop.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import selectors
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress

import pytest

from tests.builders.http_server import NEW_LOOPS, Client, Gate, RunningServer, collecting_errors, serving
from tests.builders.http_service import serve_http
from tests.builders.waiting import PATIENCE_S, wait_until
from turnout.http_server.connection import ASKED_S, LEFT_S
from turnout.http_server.messages import Request, Response
from turnout.http_server.reader import RequestReader
from turnout.http_server.server import Limits
from turnout.http_server.service import Service
from turnout.http_server.wire import RefusedRequest

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
SLOW = b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n"
MIB = 1024 * 1024
LOOPS = pytest.mark.parametrize("loop", sorted(NEW_LOOPS))


@pytest.fixture(autouse=True)
def _nothing_is_logged(request: pytest.FixtureRequest) -> Iterator[None]:
    """Check that no traceback and no warning is logged, except where a test reads them."""
    with collecting_errors() as errors:
        yield
    if "caplog" not in request.fixturenames:
        assert [record.getMessage() for record in errors] == []


# Failing handlers.


async def fail_later(request: Request) -> Response:
    await asyncio.sleep(0)
    raise LookupError("later")


def fail(request: Request) -> Response | Awaitable[Response]:
    answers: dict[str, object] = {
        "/value": Response(200, (("A", "b\r\nEvil: 1"),)),
        "/value-lf": Response(200, (("A", "b\nEvil: 1"),)),
        "/value-cr": Response(200, (("A", "b\rEvil: 1"),)),
        "/value-nul": Response(200, (("A", "b\0"),)),
        "/value-wide": Response(200, (("A", "\u20ac"),)),
        "/value-int": Response(200, (("A", 1),)),  # type: ignore[arg-type]
        "/name": Response(200, (("A: b\r\nEvil", "1"),)),
        "/name-colon": Response(200, (("A:", "1"),)),
        "/name-space": Response(200, (("A b", "1"),)),
        "/name-empty": Response(200, (("", "1"),)),
        "/status-100": Response(100),
        "/status-600": Response(600),
        "/status-text": Response("200"),  # type: ignore[arg-type]
        "/body-text": Response(200, (), "text"),  # type: ignore[arg-type]
        "/none": None,
        "/later": fail_later(request) if request.path == "/later" else None,
        "/later-none": asyncio.sleep(0) if request.path == "/later-none" else None,
    }
    if request.path == "/raise":
        raise LookupError("now")
    return answers[request.path]  # type: ignore[return-value]


@pytest.mark.parametrize(
    "name",
    ["value", "value-lf", "value-cr", "value-nul", "value-wide", "value-int", "name", "name-colon", "name-space",
     "name-empty", "status-100", "status-600", "status-text", "body-text", "none", "later", "later-none", "raise"],
)  # fmt: skip
def test_failing_handler_gets_a_500_and_the_connection_stays_open(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with serving(fail) as server, server.connect() as client:
        for _ in range(2):
            answer = client.ask(b"GET /%b HTTP/1.1\r\nHost: h\r\n\r\n" % name.encode())
            assert answer.status == 500
            assert answer.body == b'{"message": "Internal server error"}'
            assert answer.header("evil") is None
    assert len(caplog.records) == 2
    assert all(record.exc_info for record in caplog.records)
    assert f"GET /{name}" in caplog.text


def test_failing_log_does_not_affect_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    with serving(Gate()) as server, server.connect() as client:
        server.logged = None  # type: ignore[assignment]
        assert [client.ask(GET).status for _ in range(2)] == [200, 200]
    assert "access log" in caplog.text


def test_framing_headers_of_a_handler_are_dropped() -> None:
    headers = tuple(
        (name, "x") for name in ("Content-Length", "connection", "TRANSFER-ENCODING", "Date", "Upgrade", "Keep-Alive")
    )
    with (
        serving(lambda request: Response(200, (*headers, ("X-Kept", "1"), ("x-kept2", "\xe9")), b"abc")) as server,
        server.connect() as client,
    ):
        answer = client.ask(GET)
        assert [name for name, _ in answer.headers] == ["X-Kept", "x-kept2", "Date", "Content-Length"]
        assert client.ask(GET).body == b"abc"


# Slow clients.


def connect_and_ask(server: RunningServer) -> Client:
    """Connect a client and answer one request, because clients without a request have a lower limit."""
    client = server.connect()
    assert client.ask(GET).status == 200
    return client


def is_served(server: RunningServer) -> bool:
    """Whether a new client gets an answer."""
    with suppress(EOFError, ConnectionError), server.connect() as client:
        return client.ask(GET).status == 200
    return False


def send_on(client: Client, data: bytes) -> None:
    """Send repeatedly; return only if nothing stops it."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        client.send(data)


QUICK = Limits(
    header_timeout_s=0.1, body_timeout_s=0.1, keep_alive_s=0.1, write_timeout_s=0.3, linger_s=0.3, shutdown_s=5
)


@LOOPS
@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (b"", b""),
        (b"GE", b""),
        (b"GET /", b"408"),
        (b"GET / HTTP/1.1\r\nHost: h\r\n", b"408"),
        (POST, b"408"),
        (POST + b"x" * 99, b"408"),
        (GET, b"200"),
        (GET + b"\r\n", b"200"),
        (GET + GET[:-1], b"200 408"),
        (GET + POST, b"200 408"),
    ],
)
def test_silent_client_is_closed_after_its_time_limit(loop: str, sent: bytes, answered: bytes) -> None:
    with serving(Gate(), QUICK, loop) as server, server.connect() as client:
        client.send(sent)
        got = client.read_to_end()
    statuses = [line.split()[1] for line in got.split(b"\r\n") if line.startswith(b"HTTP/1.1")]
    assert b" ".join(statuses) == answered


@pytest.mark.parametrize("start", [b"", POST])
def test_slowly_sending_client_is_closed_after_its_time_limit(start: bytes) -> None:
    with serving(Gate(), QUICK) as server, server.connect() as client:
        client.send(start + b"GET /")
        client.socket.settimeout(0.01)
        got = b""

        def is_answered() -> bool:
            nonlocal got
            try:
                got = client.socket.recv(1000)
            except TimeoutError:
                client.send(b"a")
            return bool(got)

        wait_until(is_answered, "the answer")
    assert got.startswith(b"HTTP/1.1 408 ")


def test_slow_handler_is_not_affected_by_client_time_limits() -> None:
    async def wait(request: Request) -> Response:
        await asyncio.sleep(0.5)
        return Response(200)

    with serving(wait, QUICK) as server, server.connect() as client:
        assert client.ask(GET).status == 200


@LOOPS
def test_client_that_does_not_read_is_closed_and_memory_is_limited(loop: str) -> None:
    made = 0

    def handle(request: Request) -> Response:
        nonlocal made
        made += 1
        return Response(200, (), bytes(MIB))

    with serving(handle, QUICK, loop) as server, server.connect(receive_buffer_bytes=4096) as client:
        client.socket.settimeout(PATIENCE_S)
        # Send as many requests as the server reads: it must stop reading, and then give up.
        with pytest.raises(ConnectionError):
            send_on(client, GET * 1000)
    # Allow what fits into the sockets' buffers, and one more answer: not one per request.
    assert 1 <= made < 20


@LOOPS
def test_reader_of_small_pieces_gets_everything(loop: str) -> None:
    body = bytes(range(256)) * (8 * MIB // 256)
    with (
        serving(lambda request: Response(200, (), body), loop=loop) as server,
        server.connect(receive_buffer_bytes=65_536) as client,
    ):
        client.send(GET * 3)
        got = bytearray()
        while len(got) < 24 * MIB + 3 * (got.find(b"\r\n\r\n") + 4):
            piece = client.socket.recv(32 * 1024)
            assert piece
            got += piece
    assert got.count(body) == 3


def test_pipelined_answers_continue_when_a_stalled_client_reads_again() -> None:
    gate = Gate()
    head = b"PUT /%d HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n"
    count = 30
    with serving(gate) as server, server.connect(receive_buffer_bytes=4096) as client:
        client.socket.setblocking(False)
        data = b"".join(head % index + bytes(1_000_000) for index in range(count))
        view = memoryview(data)
        got = bytearray()
        selector = selectors.DefaultSelector()
        selector.register(client.socket, selectors.EVENT_WRITE)
        # Write until the server reads no more, then read.
        while view and selector.select(0.2):
            view = view[client.socket.send(view) :]
        assert view, "the server took everything from a client that does not read"
        selector.modify(client.socket, selectors.EVENT_READ | selectors.EVENT_WRITE)
        while len(got) < count * 1_000_000:
            for _, events in selector.select(PATIENCE_S):
                if events & selectors.EVENT_READ:
                    got += client.socket.recv(MIB)
                if events & selectors.EVENT_WRITE:
                    if view:
                        view = view[client.socket.send(view) :]
                    else:
                        selector.modify(client.socket, selectors.EVENT_READ)
        selector.close()
        paths = [part.split(b"\r\n", 1)[0] for part in bytes(got).split(b"X-Path: ")[1:]]
    assert paths == [b"/%d" % index for index in range(count)]


# Clients that disconnect.


def wait_until_gone(server: RunningServer) -> None:
    """Wait until the server has no connections."""
    wait_until(lambda: open_connections(server) == 0, "the end of the last connection")


def service_of(server: RunningServer) -> Service:
    """Return the server's service; no other runs at the same time."""

    async def find() -> Service:
        results = [each for each in gc.get_objects() if isinstance(each, Service) and each.date]
        return max(results, key=lambda each: each.now)

    return asyncio.run_coroutine_threadsafe(find(), server.loop).result(PATIENCE_S)


def wait_for(server: RunningServer, true: Callable[[Service], bool]) -> None:
    service = service_of(server)
    wait_until(lambda: true(service), lambda: f"a change; there are {service.body_bytes} bytes of bodies")


def open_connections(server: RunningServer) -> int:
    async def count() -> int:
        return sum(len(each.connections) for each in gc.get_objects() if isinstance(each, Service))

    return asyncio.run_coroutine_threadsafe(count(), server.loop).result(PATIENCE_S)


@LOOPS
@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("sent", [b"", b"GET /", POST + b"x", GET, GET * 100, SLOW, SLOW + GET + b"nonsense"])
def test_disconnected_client_is_forgotten(loop: str, how: str, sent: bytes) -> None:
    gate = Gate()
    with serving(gate, loop=loop) as server:
        client = server.connect()
        client.send(sent)
        if sent.startswith(SLOW):
            gate.wait_until(lambda: len(gate.seen) == 1)
        client.close() if how == "close" else client.reset()
        server.call(gate.opened.set)
        wait_until_gone(server)
        with server.connect() as other:
            assert other.ask(GET).status == 200


@LOOPS
@pytest.mark.parametrize("how", ["close", "reset", "half"])
@pytest.mark.parametrize("sent", [SLOW, SLOW + GET, SLOW + GET * 3 + b"GET /"])
def test_work_ends_when_its_client_disconnects(loop: str, how: str, sent: bytes) -> None:
    """Also if the client has sent more, so that nothing is read from it at the moment."""
    gate = Gate()
    with serving(gate, loop=loop) as server:
        client = server.connect()
        client.send(sent)
        gate.wait_until(lambda: len(gate.seen) == 1)
        if how == "half":
            client.socket.shutdown(socket.SHUT_WR)
        client.reset() if how == "reset" else client.close()
        wait_until_gone(server)
        gate.wait_until_cancelled(["/slow"])
    assert gate.finished == []
    assert server.logged == []  # the handler's responsibility


@LOOPS
def test_client_that_only_closed_its_sending_side_gets_a_late_answer(loop: str) -> None:
    gate = Gate()
    with serving(gate, loop=loop) as server, server.connect() as client:
        client.send(SLOW)
        client.socket.shutdown(socket.SHUT_WR)
        assert client.read().status == 100  # every client skips it
        server.call(gate.opened.set)
        assert client.read().status == 200
        assert client.read_to_end() == b""
    assert gate.cancelled == []


@LOOPS
def test_http_1_0_client_that_closed_its_sending_side_gets_no_continue(loop: str) -> None:
    gate = Gate()
    with serving(gate, loop=loop) as server, server.connect() as client:
        client.send(b"GET /slow HTTP/1.0\r\n\r\n")
        client.socket.shutdown(socket.SHUT_WR)
        gate.wait_until(lambda: len(gate.seen) == 1)
        server.call(lambda: server.loop.call_later(LEFT_S + ASKED_S, gate.opened.set))
        assert client.read().status == 200


def test_thread_of_a_client_that_disconnects_before_its_task_starts_ends() -> None:
    """The task is canceled once it has started; otherwise its handler would never see the cancellation."""
    gate = Gate()
    with serving(gate) as server:
        for _ in range(50):
            client = server.connect()
            client.send(SLOW)
            client.reset()
        wait_until_gone(server)
        gate.wait_until_cancelled(["/slow"] * len(gate.seen))


# What clients use together.


def test_address_with_too_many_connections_without_a_request_gets_503_and_others_are_served() -> None:
    with serving(Gate(), Limits(max_connections=100, max_incomplete_loopback=5)) as server:
        slow = [server.connect() for _ in range(3)] + [server.connect() for _ in range(2)]
        for client in slow[:2]:
            client.send(b"GET /")
        slow[2].send(POST)
        with server.connect() as late:
            answer = late.read()
            assert (answer.status, answer.header("retry-after")) == (503, "1")
            assert late.read_to_end() == b""
        with server.connect("127.0.0.2") as other:
            assert other.ask(GET).status == 200
        # A connection that has sent a request no longer counts, until it sends a part of another one.
        assert slow[3].ask(GET).status == 200
        with server.connect() as late:
            assert late.ask(GET).status == 200
            slow[3].send(b"GET /")
            slow[0].send(b"a HTTP/1.1\r\nHost: h\r\n\r\n")
            assert slow[0].read().status == 200
        for client in slow:
            client.close()
        wait_until_gone(server)
        assert service_of(server)._incomplete == {}


def test_connection_that_sends_partial_requests_again_is_counted_again() -> None:
    with serving(Gate(), Limits(max_connections=100, max_incomplete_loopback=3)) as server:
        clients = []
        for _ in range(3):
            clients.append(server.connect())
            assert clients[-1].ask(GET).status == 200
        for client in clients:
            client.send(b"GET /")
        with server.connect() as late:
            assert late.read().status == 503
        for client in clients:
            client.send(b"a HTTP/1.1\r\nHost: h\r\n\r\n")
            assert client.read().status == 200
            client.close()


def test_idle_connection_is_closed_for_a_new_one() -> None:
    with serving(Gate(), Limits(max_connections=2, keep_alive_s=60)) as server:
        first, second = connect_and_ask(server), connect_and_ask(server)
        wait_until(lambda: is_served(server), "the first connection to be idle for long enough")
        alive = 0
        for idle in (first, second):
            with suppress(EOFError, ConnectionError):
                alive += idle.ask(GET).status == 200
            idle.close()
        assert alive == 1


BIG = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 400000\r\n\r\n"
CHUNKED = b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("head", [BIG, CHUNKED + b"61a80\r\n"])
def test_bodies_of_all_connections_are_limited_and_small_ones_pass(head: bytes) -> None:
    with serving(Gate(), Limits(max_bodies_bytes=1_000_000)) as server:
        held = [server.connect() for _ in range(2)]
        for client in held:
            client.send(head + bytes(399_999))
        wait_for(server, lambda service: service.body_bytes == 799_998)
        with server.connect() as late:
            late.send(head + bytes(399_999))
            answer = late.read()
            assert (answer.status, answer.header("retry-after"), answer.header("connection")) == (503, "1", "close")
        with server.connect() as small:
            assert small.ask(POST + bytes(100)).status == 200
        for client in held:
            client.send(b"x" if head is BIG else b"x\r\n0\r\n\r\n")
            assert len(client.read().body) == 400_000
        wait_for(server, lambda service: service.body_bytes == 0)
        with server.connect() as late:
            late.send(head + bytes(400_000) + (b"" if head is BIG else b"\r\n0\r\n\r\n"))
            assert late.read().status == 200
        for client in held:
            client.close()


def test_body_counts_until_its_request_is_answered() -> None:
    gate = Gate()
    with serving(gate, Limits(max_bodies_bytes=1_000_000)) as server, server.connect() as client:
        client.send(BIG.replace(b"/a", b"/slow") + bytes(400_000) + GET)
        wait_for(server, lambda service: service.body_bytes == 400_000)
        server.call(gate.opened.set)
        assert [client.read().status for _ in range(2)] == [200, 200]
        wait_for(server, lambda service: service.body_bytes == 0)


def test_body_of_a_disconnected_client_no_longer_counts() -> None:
    gate = Gate()
    with serving(gate) as server:
        for sent in (BIG + bytes(300_000), BIG.replace(b"/a", b"/slow") + bytes(400_000), GET + BIG + bytes(9)):
            client = server.connect()
            client.send(sent)
            wait_for(server, lambda service: service.body_bytes > 0)
            client.reset()
            wait_for(server, lambda service: service.body_bytes == 0)


def test_head_is_checked_before_its_body_is_read() -> None:
    def admit(request: Request) -> Response | None:
        asked.append(request.path)
        return Response(403, (), b"no") if request.path == "/secret" else None

    asked: list[str] = []
    gate = Gate()
    with serving(gate, admit=admit) as server:
        for extra in (b"Content-Length: 9000000", b"Content-Length: 10", b"Transfer-Encoding: chunked"):
            for expect in (b"", b"Expect: 100-continue\r\n"):
                with server.connect() as client:
                    client.send(b"POST /secret HTTP/1.1\r\nHost: h\r\n" + expect + extra + b"\r\n\r\n")
                    answer = client.read()
                    assert (answer.status, answer.body, answer.header("connection")) == (403, b"no", "close")
        assert gate.seen == []
        asked.clear()
        with server.connect() as client:
            client.send(POST + bytes(50))
            wait_for(server, lambda _: asked == ["/a"])
            client.send(bytes(25))
            client.send(bytes(25) + POST + bytes(10))
            assert client.read().status == 200
            wait_for(server, lambda _: asked == ["/a", "/a"])
            client.send(bytes(90))
            assert client.read().status == 200
            # The handler checks what arrives in one piece.
            assert client.ask(GET).status == 200
        assert asked == ["/a", "/a"]


@LOOPS
def test_client_that_disconnects_during_an_answer_is_forgotten(loop: str) -> None:
    def handle(request: Request) -> Response:
        return Response(200, (), bytes(20 * MIB))

    with serving(handle, loop=loop) as server:
        for how in ("close", "reset"):
            client = server.connect(receive_buffer_bytes=4096)
            client.send(GET * 2)
            client.socket.recv(10)
            client.close() if how == "close" else client.reset()
            wait_until_gone(server)


def test_rejected_client_that_keeps_sending_is_closed() -> None:
    with serving(Gate(), QUICK) as server, server.connect() as client, pytest.raises(ConnectionError):
        send_on(client, b"nonsense" * 100)


# Many clients.


def test_client_over_the_limit_gets_503_and_the_others_stay() -> None:
    with serving(Gate(), Limits(max_connections=3)) as server:
        clients = [connect_and_ask(server) for _ in range(3)]
        with server.connect() as client:
            assert client.read().status == 503
            assert client.read_to_end() == b""
        assert [client.ask(GET).status for client in clients] == [200] * 3
        for client in clients:
            client.close()
        wait_until(lambda: is_served(server), "room for another client")


@LOOPS
def test_a_thousand_concurrent_clients_are_all_answered(loop: str) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 2500:
        pytest.skip(f"only {soft} open files are allowed here")
    gate = Gate()
    with serving(gate, loop=loop) as server:
        clients = [server.connect() for _ in range(1000)]
        for index, client in enumerate(clients):
            client.send(b"GET /slow%d HTTP/1.1\r\nHost: h\r\n\r\n" % index)
        gate.wait_until(lambda: len(gate.seen) == 1000)
        server.call(gate.opened.set)
        assert [client.read().header("x-path") for client in clients] == [f"/slow{index}" for index in range(1000)]
        for client in clients:
            client.close()
        wait_until_gone(server)


# The stop.


@LOOPS
def test_stop_finishes_requests_and_closes_idle_connections(loop: str) -> None:
    gate = Gate()
    with serving(gate, loop=loop) as server:
        idle, used, busy, reading, pipelined = (server.connect() for _ in range(5))
        assert used.ask(GET).status == 200
        busy.send(SLOW)
        pipelined.send(SLOW + GET)
        reading.send(POST + b"x" * 50)
        gate.wait_until(lambda: len(gate.seen) == 3)
        # The loop has read `reading`'s half by the time it answers this.
        assert used.ask(GET).status == 200
        server.begin_stop()
        assert idle.read_to_end() == used.read_to_end() == b""
        with pytest.raises(ConnectionError):
            server.connect()
        answer = reading.ask(b"x" * 50)
        assert (answer.status, answer.header("connection")) == (200, "close")
        server.call(gate.opened.set)
        answer = busy.read()
        assert (answer.status, answer.header("connection")) == (200, "close")
        assert [pipelined.read().header("connection") for _ in range(2)] == [None, "close"]
        for client in (reading, busy, pipelined):
            assert client.read_to_end() == b""
        server.join()
        for client in (idle, used, busy, reading, pipelined):
            client.close()


@LOOPS
def test_stop_gives_up_on_requests_that_take_too_long(loop: str, caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    with (
        serving(gate, Limits(shutdown_s=0.1), loop) as server,
        server.connect() as busy,
        server.connect() as reading,
    ):
        reading.send(POST)
        busy.send(SLOW)
        gate.wait_until(lambda: len(gate.seen) == 1)
        server.begin_stop()
        server.join()
    assert gate.cancelled == ["/slow"]
    assert "still busy" in caplog.text


def test_stop_sends_what_a_client_has_not_read_yet() -> None:
    body = bytes(range(256)) * (8 * MIB // 256)
    with (
        serving(lambda request: Response(200, (), body)) as server,
        server.connect(receive_buffer_bytes=4096) as client,
    ):
        client.send(GET)
        assert client.socket.recv(1) == b"H"
        server.begin_stop()
        assert client.stream.read().endswith(b"\r\n\r\n" + body)


def test_canceled_server_releases_everything() -> None:
    async def main() -> None:
        ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(
            serve_http(
                Gate(),
                host="127.0.0.1",
                port=0,
                stop=asyncio.Event(),
                on_ready=lambda host, port: ready.set_result(port),
            )
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", await ready)
        writer.write(SLOW)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await reader.read() == b""
        writer.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


@LOOPS
def test_port_in_use_is_an_oserror(loop: str) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        asyncio.Runner(loop_factory=NEW_LOOPS[loop]) as runner,
        pytest.raises(OSError, match="in use"),
    ):
        runner.run(serve_http(Gate(), host="127.0.0.1", port=taken.getsockname()[1], stop=asyncio.Event()))


def test_given_sockets_are_listened_on() -> None:
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    resolved: list[tuple[str, int]] = []

    async def main() -> None:
        stop = asyncio.Event()

        def ask_both(host: str, port: int) -> None:
            resolved.append((host, port))
            asyncio.get_running_loop().run_in_executor(None, ask).add_done_callback(lambda done: stop.set())

        await serve_http(Gate(), host="", port=0, sockets=listening, stop=stop, on_ready=ask_both)

    statuses = []

    def ask() -> None:
        for each in addresses:
            with Client(each) as client:
                statuses.append(client.ask(GET).status)

    addresses = [each.getsockname() for each in listening]
    asyncio.run(main())
    assert statuses == [200, 200]
    assert resolved == addresses[:1]


SCRIPT = """
import asyncio, sys
from tests.builders.http_service import run
from turnout.http_server.messages import Response
{before}
async def slow(request):
    print("asked", flush=True)
    await asyncio.sleep({seconds})
    return Response(200, (("X-Loop", type(asyncio.get_running_loop()).__module__),), b"done")
run(slow, host="127.0.0.1", port=0, on_ready=lambda host, port: print(port, flush=True))
print("returned", flush=True)
"""


@pytest.mark.parametrize(("before", "loop"), [("", "uvloop"), ("sys.modules['uvloop'] = None", "asyncio.unix_events")])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_stops_cleanly_on_a_signal(number: signal.Signals, before: str, loop: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(before=before, seconds=0.3)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        with Client(("127.0.0.1", int(process.stdout.readline()))) as client:
            client.send(GET)
            assert process.stdout.readline() == "asked\n"
            process.send_signal(number)
            answer = client.read()
            assert (answer.body, answer.header("connection"), answer.header("x-loop")) == (b"done", "close", loop)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert (out, process.returncode) == ("returned\n", 0)
        assert ("uvloop is not installed" in err) == bool(before)
        assert "Traceback" not in err
    finally:
        process.kill()
        process.communicate()


def test_run_ends_immediately_on_a_second_signal() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(before="", seconds=60)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = ("127.0.0.1", int(process.stdout.readline()))
        with Client(address) as client:
            client.send(GET)
            assert process.stdout.readline() == "asked\n"
            process.send_signal(signal.SIGTERM)

            def is_refused() -> bool:
                try:
                    Client(address).close()
                except ConnectionError:
                    return True
                return False

            wait_until(is_refused, "the end of listening, with which the first signal has been taken")
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == -signal.SIGTERM
    finally:
        process.kill()
        process.communicate()


def test_run_serves_more_clients_than_the_shell_allows_open_files() -> None:
    before = "import resource; hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
    before += "resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(before=before, seconds=0)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        address = ("127.0.0.1", int(process.stdout.readline()))
        clients = [Client(address) for _ in range(200)]
        assert [client.ask(GET).status for client in clients] == [200] * 200
        for client in clients:
            client.close()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


TCP_INFO_DATA_SEGS_IN = 152  # the offset of `tcpi_data_segs_in` in Linux's `struct tcp_info`


def test_every_answer_is_sent_in_one_packet() -> None:
    """Two writes would cost a call 40 ms: Nagle's algorithm holds the second one until the first is acknowledged."""
    with serving(Gate()) as server, server.connect() as client:
        for _ in range(50):
            assert client.ask(GET).status == 200
        info = client.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_DATA_SEGS_IN + 4)
        assert struct.unpack_from("=I", info, TCP_INFO_DATA_SEGS_IN) == (50,)


def test_every_event_loop_answers_the_http_client_of_the_standard_library() -> None:
    """Another client than the tests' own accepts what is written."""
    import http.client

    with serving(Gate()) as server:
        connection = http.client.HTTPConnection(*server.address, timeout=PATIENCE_S)
        for body in (b"", b"abc", os.urandom(300_000)):
            connection.request("POST", "/p", body)
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (200, body)
            connection.request("POST", "/p", iter([body, b"more"]), encode_chunked=True)
            assert connection.getresponse().read() == body + b"more"
        connection.close()


def test_requests_with_one_head_share_a_cache_and_each_has_its_own_path() -> None:
    taken: list[Request] = []
    reader = RequestReader(Limits(), "192.0.2.1", lambda request, _: taken.append(request))
    for line in ("GET /a?b", "GET /a?b", "POST /a?c", "GET http://h/d", "OPTIONS http://h/d", "OPTIONS *", "GET /a?b"):
        reader.feed(f"{line} HTTP/1.1\r\nHost: h\r\nX-A: 1\r\n\r\n".encode())
    reader.feed(b"GET /a HTTP/1.1\r\nHost: h\r\nX-A: 2\r\n\r\n")

    assert [(request.method, request.path, request.query) for request in taken] == [
        ("GET", "/a", "b"),
        ("GET", "/a", "b"),
        ("POST", "/a", "c"),
        ("GET", "/d", ""),
        ("OPTIONS", "/d", ""),
        ("OPTIONS", "*", ""),
        ("GET", "/a", "b"),
        ("GET", "/a", ""),
    ]
    assert all(request.kept is taken[0].kept for request in taken[:-1])
    assert taken[-1].kept is not taken[0].kept
    with pytest.raises(RefusedRequest):
        reader.feed(b"GET * HTTP/1.1\r\nHost: h\r\nX-A: 2\r\n\r\n")

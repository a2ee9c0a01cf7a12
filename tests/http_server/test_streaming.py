"""Chunked answers on a real server: each chunk arrives as it is made, and the end of an answer always ends its
generator.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from tests.builders.http_server import Client, RunningServer, collecting_errors, serving
from tests.builders.waiting import wait_until
from turnout.http_server.messages import Request, Response
from turnout.http_server.server import Limits


@dataclass
class Source:
    """Answers `/chunks` with what the test puts, `/flood` endlessly, `/broken` with one chunk and a failure."""

    queue: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    made: int = 0
    ended: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __call__(self, request: Request) -> Response:
        if request.path == "/plain":
            return Response(200, (), b"plain")
        makers = {"/chunks": self._put, "/flood": self._flood, "/broken": self._break}
        return Response(200, (("Content-Type", "text/event-stream"),), chunks=makers[request.path]())

    async def _put(self) -> AsyncGenerator[bytes]:
        try:
            while (data := await self.queue.get()) is not None:
                yield data
        finally:
            self.ended.release()

    async def _flood(self) -> AsyncGenerator[bytes]:
        try:
            while True:
                self.made += 1
                yield bytes(65_536)
                await asyncio.sleep(0)
        finally:
            self.ended.release()

    async def _break(self) -> AsyncGenerator[bytes]:
        yield b"first"
        raise RuntimeError("the source is broken")

    def await_end(self) -> None:
        assert self.ended.acquire(timeout=60), "the generator was not closed"


def begin(client: Client, path: str = "/chunks", version: str = "1.1") -> bytes:
    """Send the request and return the answer's head."""
    client.send(f"GET {path} HTTP/{version}\r\nHost: x\r\n\r\n".encode())
    head = b""
    while (line := client.stream.readline()) not in (b"\r\n", b""):
        head += line
    return head


def put(server: RunningServer, source: Source, data: bytes | None) -> None:
    server.call(lambda: source.queue.put_nowait(data))


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_each_chunk_arrives_as_it_is_made(loop: str) -> None:
    source = Source()
    with serving(source, loop=loop) as server, server.connect() as client:
        head = begin(client)
        assert b"Transfer-Encoding: chunked\r\n" in head
        assert b"Connection: close\r\n" in head
        assert b"Content-Length" not in head
        put(server, source, b"one")
        assert client.stream.read(8) == b"3\r\none\r\n"
        put(server, source, b"")
        put(server, source, b"x" * 20)
        assert client.stream.read(26) == b"14\r\n" + b"x" * 20 + b"\r\n"
        put(server, source, None)
        assert client.read_to_end() == b"0\r\n\r\n"
        source.await_end()
        assert [entry[0].path for entry in server.logged] == ["/chunks"]


def test_http_1_0_gets_no_chunked_encoding() -> None:
    source = Source()
    with serving(source) as server, server.connect() as client:
        assert b"chunked" not in begin(client, version="1.0")
        put(server, source, b"one")
        put(server, source, b"two")
        put(server, source, None)
        assert client.read_to_end() == b"onetwo"


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_client_that_disconnects_ends_the_generator(loop: str) -> None:
    source = Source()
    with serving(source, loop=loop) as server:
        with server.connect() as client:
            begin(client)
        source.await_end()
        with server.connect() as client:
            begin(client)
            client.reset()
        source.await_end()


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_client_that_does_not_read_is_waited_for_and_closed(loop: str) -> None:
    source = Source()
    limits = Limits(write_timeout_s=0.6)
    with serving(source, limits, loop) as server, server.connect(receive_buffer_bytes=4096) as client:
        begin(client, "/flood")
        source.await_end()
        made = source.made
        # At most what the two sockets buffer: nothing is made for a client that does not read.
        assert made * 65_536 < 16 * 1024 * 1024


@pytest.mark.parametrize("path", ["/chunks", "/flood"])
def test_a_stop_ends_a_stream_immediately(path: str) -> None:
    source = Source()
    with serving(source, Limits(shutdown_s=50)) as server, server.connect(receive_buffer_bytes=4096) as client:
        begin(client, path)
        server.begin_stop()
        source.await_end()
        if path == "/chunks":
            assert client.read_to_end() == b"0\r\n\r\n"
        server.join()


def test_a_failing_generator_aborts_the_answer_and_nothing_else() -> None:
    with collecting_errors() as errors, serving(Source()) as server:
        with server.connect() as client:
            begin(client, "/broken")
            rest = b""
            with suppress(ConnectionResetError):  # what was read before has no last chunk
                rest = client.read_to_end()
            assert not rest.endswith(b"0\r\n\r\n")
        with server.connect() as client:
            assert client.ask(b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n").body == b"plain"
    assert [record.getMessage() for record in errors] == ["an answer in chunks failed"]


def test_the_number_of_streams_is_limited() -> None:
    source = Source()
    with serving(source, Limits(max_streams=2)) as server, server.connect() as first, server.connect() as second:
        begin(first)
        begin(second)
        with server.connect() as third:
            assert third.ask(b"GET /chunks HTTP/1.1\r\nHost: x\r\n\r\n").status == 503
            assert third.ask(b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n").body == b"plain", "its connection goes on"
            first.close()
            source.await_end()

            def is_let_in() -> bool:
                with server.connect() as again:
                    return begin(again).startswith(b"HTTP/1.1 200")

            wait_until(is_let_in, "room for another stream")


def test_a_request_pipelined_behind_a_stream_is_not_answered() -> None:
    source = Source()
    request = b"GET /chunks HTTP/1.1\r\nHost: x\r\n\r\nGET /plain HTTP/1.1\r\nHost: x\r\n\r\n"
    with serving(source) as server, server.connect() as client:
        client.send(request)
        put(server, source, None)
        answer = client.read_to_end()
    assert answer.endswith(b"\r\n\r\n0\r\n\r\n")
    assert b"plain" not in answer


def test_head_has_no_chunks() -> None:
    with serving(Source()) as server, server.connect() as client:
        answer = client.ask(b"HEAD /chunks HTTP/1.1\r\nHost: x\r\n\r\n", head_only=True)
        assert (answer.status, answer.header("content-type")) == (200, "text/event-stream")
        assert client.ask(b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n").body == b"plain"

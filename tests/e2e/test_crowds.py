"""Many clients at once, and clients that disconnect: all that stay are answered, and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import struct
from collections.abc import Iterator
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET

import orjson
import pytest

from tests.builders.running_server import RunningServer, running_server
from tests.builders.waiting import PATIENCE_S, wait_until
from tests.e2e.conftest import write_variants

IRIS = b'{"inputs": [{"name": "measurements", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}]}'
HEAD = (
    b"POST /models/iris/inference HTTP/1.1\r\nHost: here\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
)
REQUEST = HEAD % len(IRIS) + IRIS
ECHO = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
CLIENTS = 1000


@pytest.fixture
def many_files() -> Iterator[None]:
    """Raise the limit of open files: a thousand connections need a thousand descriptors, here and in the server."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * CLIENTS
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"only {hard} files may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    return status, await reader.readexactly(length)


async def call(port: int, requests: int, everyone: asyncio.Barrier) -> list[tuple[int, bytes]]:
    """One client: connects, waits until all are connected, then sends one request after another."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        await everyone.wait()
        answers = []
        for _ in range(requests):
            writer.write(REQUEST)
            answers.append(await read_answer(reader))
        return answers
    finally:
        writer.close()


def test_a_thousand_clients_at_once_are_all_answered(many_files: None, tmp_path: Path, root: Path) -> None:
    async def crowd(port: int) -> list[list[tuple[int, bytes]]]:
        everyone = asyncio.Barrier(CLIENTS)
        return await asyncio.gather(*(call(port, 3, everyone) for _ in range(CLIENTS)))

    with running_server(write_variants(tmp_path, root)) as server:
        answers = asyncio.run(asyncio.wait_for(crowd(server.port), PATIENCE_S))
        flat = [answer for client in answers for answer in client]
        assert len(flat) == 3 * CLIENTS
        assert {status for status, _ in flat} == {200}
        assert len({body for _, body in flat}) == 1
        lines = server.await_log(lambda text: text.count("\n") >= 3 * CLIENTS).splitlines()
        assert len(lines) == 3 * CLIENTS
        assert server.stop() == 0


def open_files(server: RunningServer) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /mod",
        REQUEST[:90],
        REQUEST[:-5],
        REQUEST,
        REQUEST * 3 + REQUEST[:-5],
        HEAD % 10_000_000 + b"[" * 100_000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),  # TLS
    ],
    ids=["nothing", "a word", "half a head", "half a body", "all of it", "pipelined", "a large body", "tls"],
)
@pytest.mark.parametrize("reset", [False, True], ids=["closes", "resets"])
def test_clients_that_disconnect_leave_nothing_behind(variants: RunningServer, sent: bytes, *, reset: bool) -> None:
    assert variants.post("/models/iris/inference", IRIS).status == 200
    before = open_files(variants)
    for _ in range(30):
        connection = variants.connect()
        with contextlib.suppress(ConnectionError):
            connection.sendall(sent)
        if reset:
            connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    assert variants.post("/models/iris/inference", IRIS).status == 200
    wait_until(lambda: open_files(variants) <= before + 1, "the connections to be closed")
    assert "Traceback" not in variants.stderr.read_text()


def test_clients_that_disconnect_during_their_call_do_not_delay_others(tmp_path: Path, root: Path) -> None:
    project = write_variants(tmp_path, root)
    body = orjson.dumps(ECHO)
    request = HEAD.replace(b"iris", b"waiting") % len(body) + body
    with running_server(project) as server:
        connections = [server.connect() for _ in range(40)]
        for connection in connections:
            connection.sendall(request)
        wait_until((project / "started").exists, "the function to run")
        for connection in connections:
            connection.close()
        assert server.post("/models/iris/inference", IRIS).status == 200
        (project / "go-on").touch()
        assert server.post("/models/waiting/inference", ECHO).status == 200
        assert server.stop() == 0
        assert "Traceback" not in server.stderr.read_text()


def test_a_client_that_sends_slowly_does_not_delay_others(variants: RunningServer) -> None:
    with variants.connect() as slow:
        for at in range(len(REQUEST)):
            slow.sendall(REQUEST[at : at + 1])
            if at % 20 == 0:
                assert variants.post("/models/iris/inference", IRIS).status == 200
        assert slow.recv(12) == b"HTTP/1.1 200"


def test_a_fast_function_answers_next_to_a_slow_one(tmp_path: Path, root: Path) -> None:
    project = write_variants(tmp_path, root)
    body = orjson.dumps(ECHO)
    request = HEAD.replace(b"iris", b"waiting") % len(body) + body
    with running_server(project) as server:
        slow = [server.connect() for _ in range(60)]
        for connection in slow:
            connection.sendall(request)
        with server.client() as client:
            for _ in range(50):
                assert client.post("/models/iris/inference", IRIS).status == 200
        (project / "go-on").touch()  # no slow call can have ended before the fast ones
        for connection in slow:
            assert connection.recv(12) == b"HTTP/1.1 200"
            connection.close()
        assert server.stop() == 0

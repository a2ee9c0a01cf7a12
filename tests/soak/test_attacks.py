"""Each attack finds the fault that it looks for, in a server that has it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from soak.cases import make_tag
from soak.http_client import Client, HangError, LostError
from soak.result import Findings, Settings
from soak.runs.crashes import Load
from soak.runs.fuzz import Fuzz
from soak.runs.raw_http import attack

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answering(body: bytes, status: bytes = b"200 OK") -> Handler:
    """A server that gives the same answer to everything."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(1_000_000):
                writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    return handle


async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(10)
    writer.close()


def against(handler: Handler, talk: Callable[[int], Awaitable[None]]) -> None:
    """Connect to a server that handles each connection in this way; check that none stays open."""
    open_ones: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_ones[writer] = asyncio.current_task()
        await handler(reader, writer)

    async def main() -> None:
        async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
            await talk(server.sockets[0].getsockname()[1])
            for writer in open_ones:
                writer.transport.abort()
            await asyncio.gather(*(task for task in open_ones.values() if task is not None), return_exceptions=True)
            for writer in open_ones:
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("handler", "what"),
    [
        (answering(b"{}", b"500 Internal Server Error"), "a 500"),
        (answering(b"{}", b"504 Gateway Timeout"), "a 504"),
        (answering(make_tag(200, 1).encode()), "a swapped answer"),
        (answering(b'{"outputs":[]}'), "a wrong answer"),
        (closing, "a lost request"),
    ],
)
def test_fuzz_finds_wrong_answers(handler: Handler, what: str) -> None:
    fuzz = Fuzz(0, "key", Settings(0, 1, (), Path()), patience_s=2.0)

    async def talk(port: int) -> None:
        fuzz._port = port
        await fuzz.attack(asyncio.get_running_loop().time() + 0.5)

    against(handler, talk)
    assert fuzz.requests > 0
    assert any(line.startswith(what) for line in fuzz.findings.lines()), fuzz.findings.lines()


@pytest.mark.slow
def test_raw_cases_find_a_server_that_accepts_everything() -> None:
    findings = Findings()

    async def talk(port: int) -> None:
        await attack(port, random.Random(1), 0.0, findings)

    against(answering(b'{"predictions":[[1,2,3,4]]}'), talk)
    lines = findings.lines()
    assert any(line.startswith("length_and_chunked: answered (200,), expected (400,)") for line in lines)
    assert len(lines) > 80


@pytest.mark.parametrize(
    ("handler", "what"),
    [
        (answering(b"{}", b"502 Bad Gateway"), "status 502 instead of 200"),
        (answering(b'{"outputs":{"y":[[9,9,9,9]]}}'), "a swapped answer"),
    ],
)
def test_load_finds_failures(handler: Handler, what: str) -> None:
    findings = Findings()

    async def talk(port: int) -> None:
        load = Load(port, findings)
        running = asyncio.create_task(load.run())
        await load.until_all_are_answered()
        load.is_stopping = True
        await running

    against(handler, talk)
    assert any(line.startswith(what) for line in findings.lines())


def test_client_distinguishes_a_hang_from_a_lost_request() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def talk(port: int) -> None:
        with pytest.raises(HangError):
            await Client(port, patience_s=0.1).ask(b"GET / HTTP/1.1\r\n\r\n")

    against(silent, talk)

    async def lose(port: int) -> None:
        with pytest.raises(LostError):
            await Client(port).ask(b"GET / HTTP/1.1\r\n\r\n")

    against(closing, lose)

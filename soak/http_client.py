"""A byte-level client: sends any bytes and reads complete answers, so it can send what no HTTP library would."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from soak.server import HOST, PATIENCE_S

LARGEST_HEAD_BYTES = 65_536


class LostError(Exception):
    """The connection ended before the answer."""


class HangError(Exception):
    """No answer and no end of the connection within the patience."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; field names are in lower case."""

    status: int
    fields: Mapping[str, str]
    body: bytes
    raw_head: bytes


class Client:
    """One connection, opened again if it was closed."""

    def __init__(self, port: int, patience_s: float = PATIENCE_S) -> None:
        self._port = port
        self.patience_s = patience_s
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        """Connect, if there is no connection."""
        if self._writer is None:
            try:
                self._reader, self._writer = await asyncio.open_connection(HOST, self._port, limit=LARGEST_HEAD_BYTES)
            except OSError as error:
                raise LostError(f"cannot connect: {error}") from None

    async def ask(self, *requests: bytes, heads: Sequence[bool] = ()) -> list[Answer]:
        """Send requests together and read their answers in order.

        Args:
            requests: complete requests.
            heads: for each request, whether it is a HEAD, whose answer has no body.

        Raises:
            LostError: the connection ended before the last answer.
            HangError: an answer did not arrive in time.
        """
        try:
            await self.send(b"".join(requests))
            answers = [await self.read(head_only=bool(heads) and heads[number]) for number in range(len(requests))]
        except BaseException:
            self.close()
            raise
        if answers[-1].fields.get("connection") == "close":
            self.close()
        return answers

    async def send(self, data: bytes) -> None:
        """Send bytes unchanged."""
        await self.open()
        assert self._writer is not None
        try:
            self._writer.write(data)
            await asyncio.wait_for(self._writer.drain(), self.patience_s)
        except TimeoutError:
            raise HangError("the server reads nothing") from None
        except OSError as error:
            raise LostError(str(error)) from None

    async def read(self, *, head_only: bool = False) -> Answer:
        """Read the next answer that is not `100 Continue`."""
        assert self._reader is not None
        try:
            return await asyncio.wait_for(read_answer(self._reader, head_only=head_only), self.patience_s)
        except TimeoutError:
            raise HangError(f"no answer within {self.patience_s:.0f} s") from None
        except (OSError, asyncio.IncompleteReadError) as error:
            raise LostError(f"the connection ended before its answer: {type(error).__name__}") from None

    async def finish(self, *, head_only: bool = False) -> list[Answer]:
        """Close the sending side, and read answers until the server closes."""
        await self.open()
        assert self._writer is not None
        answers: list[Answer] = []
        try:
            self._writer.write_eof()
            while True:
                answers.append(await self.read(head_only=head_only))
        except (LostError, OSError):
            return answers
        finally:
            self.close()

    def close(self) -> None:
        """Close the connection; the next request opens another one."""
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None


async def read_answer(reader: asyncio.StreamReader, *, head_only: bool) -> Answer:
    """Read one answer; raise ValueError if it is malformed."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head[:-4].decode("latin-1").split("\r\n")
        version, _, rest = lines[0].partition(" ")
        if not version.startswith("HTTP/1."):
            raise ValueError(f"no answer: {head[:80]!r}")
        status = int(rest[:3])
        if status >= 200:
            break
    fields = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        fields[name.lower()] = value.strip()
    length = 0 if head_only or status in {204, 304} else int(fields.get("content-length", "0"))
    return Answer(status, fields, await reader.readexactly(length), head)


def render(method: str, target: str, headers: Sequence[tuple[str, str]] = (), body: bytes | None = None) -> bytes:
    """Return a request's bytes; with a body, including its length."""
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers)]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


JSON = ("Content-Type", "application/json")


def post_json(target: str, body: bytes, *headers: tuple[str, str]) -> bytes:
    """Return the bytes of a POST of JSON."""
    return render("POST", target, (JSON, *headers), body)

"""Signed addresses: parts of uploads are written to disk, large answers read from disk, without holding them in memory.

`PUT /transfers/STAGE/uploads/ID/PART` and `GET /transfers/STAGE/answers/ID`, with a query that `signing` made. On AWS
the addresses are S3's.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import BinaryIO

import orjson

from turnout.gateway.api.fields import parse_query
from turnout.gateway.requests import store
from turnout.gateway.requests.files import Files, sync
from turnout.gateway.requests.queue import Queue, refusing_when_full
from turnout.gateway.requests.signing import check_address
from turnout.gateway.requests.uploads import find_upload
from turnout.http_server.messages import BodySink, FileBody, Request, Response
from turnout.http_server.wire import RefusedRequest
from turnout.protocol.naming import TRANSFER_SEGMENT
from turnout.protocol.requests.refusals import Refusal
from turnout.protocol.requests.states import RequestState

log = logging.getLogger("turnout.requests")

BEHIND_BYTES = 4 * 1024 * 1024
"""Most bytes of one body that may wait to be written; with more, its connection is not read."""

WRITTEN_BYTES = 512 * 1024
"""Bytes that are worth passing to the writing thread."""

DIGEST_HEADER = "x-turnout-sha256"
"""Header of a part: its SHA-256 in hexadecimal, checked if it is sent."""

_PART = re.compile(rf"/{TRANSFER_SEGMENT}/([a-z0-9-]+)/uploads/([0-9a-f]{{32}})/([0-9]{{1,5}})")
_ANSWER = re.compile(rf"/{TRANSFER_SEGMENT}/([a-z0-9-]+)/answers/([A-Za-z0-9._-]{{1,128}})")
_RANGE = re.compile(r"bytes=([0-9]{0,15})-([0-9]{0,15})")
_JSON = ("Content-Type", "application/json")


def part_path(stage: str, upload: str, number: int) -> str:
    """Return the path of a part of an upload."""
    return f"/{TRANSFER_SEGMENT}/{stage}/uploads/{upload}/{number}"


def answer_path(stage: str, identifier: str) -> str:
    """Return the path of a request's answer."""
    return f"/{TRANSFER_SEGMENT}/{stage}/answers/{identifier}"


class PartSink:
    """Writes a body to a file, in a thread; at most `BEHIND_BYTES` wait in memory.

    Args:
        files: the folder of files.
        size: size of the whole body.
    """

    def __init__(self, files: Files, size: int) -> None:
        self._files = files
        self._size = size
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._received = 0
        self._writing: asyncio.Future[None] | None = None
        self._drained: Callable[[], None] | None = None
        self._file: BinaryIO | None = None
        self._path: Path | None = None
        self._digest = hashlib.sha256()
        self._is_abandoned = False
        self._error: Exception | None = None

    @property
    def is_behind(self) -> bool:
        """Whether reading should pause."""
        return self._waiting_bytes > BEHIND_BYTES

    def write(self, piece: bytes) -> None:
        """Write the next piece."""
        self._received += len(piece)
        if self._received > self._size:
            message = f"the part: expected {self._size} bytes, got more"
            raise RefusedRequest(413, _refused(Refusal("BODY_TOO_LARGE", message, expected=self._size)))
        if self._error is not None:
            return
        self._waiting.append(piece)
        self._waiting_bytes += len(piece)
        if self._waiting_bytes >= WRITTEN_BYTES:
            self._start_writing()

    def notify_drained(self, notify: Callable[[], None]) -> None:
        """Set the callback for when nothing waits any more."""
        self._drained = notify
        self._start_writing()

    def abandon(self) -> None:
        """Delete what was written."""
        self._is_abandoned = True
        self._waiting = []
        if self._writing is None:
            self._discard()

    async def finish(self) -> tuple[Path, str]:
        """Return the synchronized file, which the caller moves, and its SHA-256.

        Raises:
            Refusal: INVALID_UPLOAD: the body was shorter than announced.
            OSError: it could not be written.
        """
        while self._writing is not None or self._waiting:
            self._start_writing()
            assert self._writing is not None
            await asyncio.wait([self._writing])
            await asyncio.sleep(0)  # lets `_end_writing` run: awaiting a future that is done does not yield to the loop
        try:
            self._check()
            await asyncio.to_thread(self._close)
        except BaseException:
            self._discard()
            raise
        assert self._path is not None
        return self._path, self._digest.hexdigest()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
        if self._received != self._size:
            message = f"the part: expected {self._size} bytes, got {self._received}"
            raise Refusal("INVALID_UPLOAD", message, expected=self._size, got=self._received)

    def _start_writing(self) -> None:
        if self._writing is not None or not self._waiting:
            return
        pieces, self._waiting = self._waiting, []
        loop = asyncio.get_running_loop()
        self._writing = loop.run_in_executor(None, self._write_pieces, pieces)
        self._writing.add_done_callback(self._end_writing)

    def _write_pieces(self, pieces: list[bytes]) -> None:
        try:
            if self._file is None:
                self._path = self._files.temporary_path()
                self._file = self._path.open("xb", buffering=0)
            for piece in pieces:
                self._digest.update(piece)
                rest = memoryview(piece)
                while rest:
                    rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._error = error

    def _end_writing(self, _: asyncio.Future[None]) -> None:
        self._writing = None
        self._waiting_bytes = sum(map(len, self._waiting))
        if self._is_abandoned:
            self._discard()
        elif self._waiting_bytes >= WRITTEN_BYTES and self._error is None:
            self._start_writing()
        if self._drained is not None and not self.is_behind:
            drained, self._drained = self._drained, None
            drained()

    def _close(self) -> None:
        assert self._file is not None
        sync(self._file.fileno())
        self._file.close()

    def _discard(self) -> None:
        if self._file is not None:
            self._file.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)


class RefusedSink:
    """Discards everything: the request is rejected as soon as its head has been read.

    Args:
        refusal: the reason.
    """

    is_behind = False

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal

    def write(self, piece: bytes) -> None:
        """Discard it."""

    def notify_drained(self, notify: Callable[[], None]) -> None:
        """Call back immediately."""
        notify()

    def abandon(self) -> None:
        """Do nothing: nothing is stored."""


class Transfers:
    """Answers requests to signed addresses.

    Args:
        queue: the project's queue.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def receive(self, request: Request) -> BodySink | None:
        """Return the sink of the body of a `PUT`; None for other requests, whose bodies are small."""
        if request.method != "PUT":
            return None
        size = self._allowed(request, "PUT", _PART)
        if size is None:
            return RefusedSink(_not_allowed())
        if any(name.lower() == "content-range" for name, _ in request.headers):
            # The request holds only a piece of the part, which would be stored as the whole part.
            message = "the part: expected all of it in one request, without Content-Range"
            return RefusedSink(Refusal("INVALID_UPLOAD", message))
        return PartSink(self._queue.files, size)

    def admit(self, request: Request) -> Response | None:
        """Reject a `PUT` that is not allowed before its body is read."""
        if isinstance(request.sink, RefusedSink):
            return _refused(request.sink.refusal)
        if isinstance(request.sink, PartSink):
            try:
                with refusing_when_full():
                    self._queue.check_disk(0)
            except Refusal as refusal:
                return _refused(refusal)
        return None

    def handle(self, request: Request) -> Response | Awaitable[Response]:
        """Answer a request."""
        if request.method == "PUT":
            return self._answer_or_refuse(self._put(request))
        if request.method in {"GET", "HEAD"}:
            return self._answer_or_refuse(self._get(request))
        return Response(405, (_JSON, ("Allow", "GET, HEAD, PUT")), b'{"message":"Method Not Allowed"}')

    async def _answer_or_refuse(self, answering: Awaitable[Response]) -> Response:
        try:
            with refusing_when_full():
                return await answering
        except Refusal as refusal:
            return _refused(refusal)

    def _allowed(self, request: Request, method: str, pattern: re.Pattern[str]) -> int | None:
        if pattern.fullmatch(request.path) is None:
            return None
        query = parse_query(request.query)[0] or {}
        return check_address(self._queue.secret, method, request.path, query, self._queue.clock())

    async def _put(self, request: Request) -> Response:
        sink, match = request.sink, _PART.fullmatch(request.path)
        if isinstance(sink, RefusedSink):
            raise sink.refusal
        if match is None:
            raise _not_allowed()
        if not isinstance(sink, PartSink):  # the request has no body
            raise Refusal("INVALID_UPLOAD", "the part: expected a body, got none")
        path, digest = await sink.finish()
        upload_id, number = match[2], int(match[3])
        try:
            await self._check_part(request, upload_id, digest)
            await asyncio.to_thread(self._queue.files.adopt_part, path, upload_id, number)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return Response(200, (_JSON, ("ETag", f'"{digest}"')), orjson.dumps({"part": number, "sha256": digest}))

    async def _check_part(self, request: Request, upload_id: str, digest: str) -> None:
        announced = next((v for n, v in request.headers if n.lower() == DIGEST_HEADER), "").lower()
        if announced and announced != digest:
            message = f"the part's SHA-256: expected {announced[:64]}, got {digest}"
            raise Refusal("DIGEST_MISMATCH", message, expected=announced[:64], got=digest)
        if await self._queue.database.run(lambda database: find_upload(database, upload_id), reads=True) is None:
            raise Refusal("UNKNOWN_UPLOAD", f"there is no upload {upload_id}: it expired, or has been used")

    async def _get(self, request: Request) -> Response:
        match = _ANSWER.fullmatch(request.path)
        if match is None or self._allowed(request, "GET", _ANSWER) is None:
            raise _not_allowed()
        stage, identifier = match[1], match[2]
        stored = await self._queue.database.run(lambda database: store.find(database, stage, identifier), reads=True)
        if stored is None or stored.progress.state is not RequestState.DONE or not stored.answer.content.file:
            raise Refusal("UNKNOWN_REQUEST", f"there is no answer of a request {identifier}", id=identifier)
        size = stored.answer.content.size
        headers = (*stored.answer.headers, ("ETag", f'"{stored.answer.sha256}"'), ("Accept-Ranges", "bytes"))
        sent = {name.lower(): value for name, value in request.headers}
        start, end, status = 0, size, 200
        wanted = sent.get("range")
        if wanted is not None and sent.get("if-range", f'"{stored.answer.sha256}"') == f'"{stored.answer.sha256}"':
            span = read_range(wanted, size)
            if span == (0, 0):
                refusal = Refusal("RANGE_NOT_SATISFIABLE", f"the answer has {size} bytes", bytes=size)
                return Response(416, (_JSON, ("Content-Range", f"bytes */{size}")), orjson.dumps(refusal.body()))
            if span is not None:
                start, end = span
                status = 206
                headers = (*headers, ("Content-Range", f"bytes {start}-{end - 1}/{size}"))
        try:
            file = await asyncio.to_thread(self._queue.files.path(stored.answer.content.file).open, "rb", 0)
        except FileNotFoundError:
            raise Refusal("UNKNOWN_REQUEST", f"the answer of {identifier} has been deleted") from None
        if os.fstat(file.fileno()).st_size != size:
            file.close()
            log.error("%s: the file of the answer has another size than it had", identifier)
            return Response(500, (_JSON,), b'{"message": "Internal server error"}')
        return Response(status, headers, file=FileBody(file, start, end - start))


def read_range(text: str, size: int) -> tuple[int, int] | None:
    """Return the first byte and the one after the last of a `Range` header.

    None for ranges that are not supported (several ranges): the whole content is sent. `(0, 0)` if there is no such
    byte.
    """
    match = _RANGE.fullmatch(text.strip())
    if match is None or match[1] == match[2] == "":
        return None
    if not match[1]:
        length = min(int(match[2]), size)
        return (size - length, size) if length else (0, 0)
    start = int(match[1])
    end = min(int(match[2]) + 1, size) if match[2] else size
    if match[2] and int(match[2]) < start:
        return None
    return (start, end) if start < size else (0, 0)


def _not_allowed() -> Refusal:
    return Refusal(
        "EXPIRED_ADDRESS", "the address is not signed for this, or its signature has expired: ask for another"
    )


def _refused(refusal: Refusal) -> Response:
    return Response(refusal.status, (_JSON,), orjson.dumps(refusal.body()))

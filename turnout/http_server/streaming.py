"""An answer with a chunked body: chunks are sent one after another, as fast as the client reads, until the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator

from turnout.http_server.service import Service
from turnout.http_server.wire import LAST_CHUNK, frame_chunk

logger = logging.getLogger(__name__)


class ChunkStream:
    """The chunks of one answer; their generator is not advanced while the client does not read.

    Args:
        service: the service of the answer.
        transport: connection to the client; it is closed at the end, or aborted if the generator fails.
        chunks: the generator, which is always closed at the end.
        is_framed: whether each chunk is sent with its length.
    """

    def __init__(
        self, service: Service, transport: asyncio.Transport, chunks: AsyncGenerator[bytes], *, is_framed: bool
    ) -> None:
        self._transport = transport
        self._chunks = chunks
        self._is_framed = is_framed
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._task = asyncio.get_running_loop().create_task(self._send())
        self._service = service
        service.streams += 1
        service.tasks.add(self._task)
        self._task.add_done_callback(self._end)

    def pause(self) -> None:
        """The client does not read."""
        self._may_write.clear()

    def resume(self) -> None:
        """The client has read."""
        self._may_write.set()

    def cancel(self) -> None:
        """End the answer.

        Its client has disconnected, or the server stops, which does not wait for a client that does not read.
        """
        self._task.cancel()
        if not self._may_write.is_set():
            self._transport.abort()

    async def _send(self) -> None:
        try:
            async for chunk in self._chunks:
                if chunk:
                    self._transport.write(frame_chunk(chunk) if self._is_framed else chunk)
                await self._may_write.wait()
        finally:
            await self._chunks.aclose()

    def _end(self, task: asyncio.Task[None]) -> None:
        self._service.streams -= 1
        self._service.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("an answer in chunks failed", exc_info=error)
            self._transport.abort()  # the client sees that the answer is incomplete
        elif not self._transport.is_closing():
            if self._is_framed:
                self._transport.write(LAST_CHUNK)
            self._transport.close()

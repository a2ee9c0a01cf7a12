"""The client for programs with an event loop: the same calls, each in a thread, so the loop is not blocked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from turnout.client.client import Client, InferenceResult, PendingRequest
from turnout.client.connection import INFERENCE_TIMEOUT_S
from turnout.protocol.requests.states import RequestState

T = TypeVar("T")


class AsyncClient:
    """Like `Client`. Calls may overlap: each has its own connection.

    Args:
        url: the server's address, with the path before the stage.
        stage: the stage's name; empty for the default stage.
        api_key: sent as `x-api-key` unless it is empty.
        timeout_s: how long an answer may take.
    """

    def __init__(self, url: str, *, stage: str = "", api_key: str = "", timeout_s: float = INFERENCE_TIMEOUT_S) -> None:
        self._url, self._stage, self._api_key, self._timeout_s = url, stage, api_key, timeout_s
        self._make().close()  # raises for an invalid address

    def _make(self) -> Client:
        return Client(self._url, stage=self._stage, api_key=self._api_key, timeout_s=self._timeout_s)

    async def infer(
        self, model: str, inputs: Mapping[str, Any], *, version: str = "", outputs: Sequence[str] = ()
    ) -> InferenceResult:
        """Call a model and return its answer; see `Client.infer`."""
        return await self._run(lambda client: client.infer(model, inputs, version=version, outputs=outputs))

    async def submit(self, model: str, inputs: Mapping[str, Any], **options: Any) -> AsyncPendingRequest:
        """Send an asynchronous request; see `Client.submit`."""
        return AsyncPendingRequest(await self._run(lambda client: client.submit(model, inputs, **options)))

    async def request(self, identifier: str) -> AsyncPendingRequest:
        """Return a request that was sent earlier; see `Client.request`."""
        return AsyncPendingRequest(await self._run(lambda client: client.request(identifier)))

    async def _run(self, call: Callable[[Client], T]) -> T:
        def run() -> T:
            with self._make() as client:
                return call(client)

        return await asyncio.to_thread(run)


class AsyncPendingRequest:
    """Like `PendingRequest`."""

    def __init__(self, pending: PendingRequest) -> None:
        self._pending = pending

    @property
    def id(self) -> str:
        """Its identifier."""
        return self._pending.id

    @property
    def state(self) -> RequestState:
        """The state when the API was last queried."""
        return self._pending.state

    async def refresh(self) -> RequestState:
        """Query the state."""
        return await self._run(self._pending.refresh)

    async def result(self, timeout_s: float | None = None) -> InferenceResult:
        """Wait for the answer and return it; see `PendingRequest.result`."""
        return await self._run(lambda: self._pending.result(timeout_s))

    async def cancel(self) -> None:
        """Cancel it, if it has not started; see `PendingRequest.cancel`."""
        await self._run(self._pending.cancel)

    async def _run(self, call: Callable[[], T]) -> T:
        def run() -> T:
            try:
                return call()
            finally:
                self._pending.close()

        return await asyncio.to_thread(run)

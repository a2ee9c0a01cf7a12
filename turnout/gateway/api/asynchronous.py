"""The interface of the queue of asynchronous requests; `turnout.gateway.requests` implements it."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Protocol

from turnout.gateway.api.exchange import Exchange, Routed
from turnout.gateway.rules.stages import FunctionTarget
from turnout.http_server.messages import BodySink, Request, Response


@dataclass(frozen=True, slots=True, eq=False)
class AsyncCall:
    """A call to be made later: routed, admitted and validated.

    Args:
        exchange: of the request that asks for it.
        routed: to the operation that is called.
        target: the function, chosen by the share that was drawn.
        event: for the function, without a body.
        path: of the operation, without the stage.
        identifier: that the caller chose; empty for one of the gateway's.
    """

    exchange: Exchange
    routed: Routed
    target: FunctionTarget
    event: dict[str, Any]
    path: str
    identifier: str = ""


class AsyncRequests(Protocol):
    """Accepts asynchronous requests and answers for them."""

    def accepts(self, stage: str) -> bool:
        """Whether a stage accepts any."""
        ...

    def accept(self, call: AsyncCall) -> Awaitable[Response]:
        """Store a call, to be made later."""
        ...

    def answer(self, exchange: Exchange, routed: Routed) -> Awaitable[Response]:
        """Answer what is asked of a request that was accepted, or of an upload."""
        ...

    def refuse(self, exchange: Exchange, code: str, message: str) -> Response:
        """Refuse a request with one of the codes of `turnout.protocol.requests.refusals`."""
        ...

    def receive(self, request: Request) -> BodySink | None:
        """Return what takes the body of an upload; None where the request is none."""
        ...

    def transfer(self, request: Request) -> Response | Awaitable[Response]:
        """Answer a request to a signed address."""
        ...

    def admit_transfer(self, request: Request) -> Response | None:
        """Refuse a request to a signed address before its body is read."""
        ...

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
        exchange: the request that asks for the call.
        routed: the operation that is called.
        target: the function, from the share chosen for the request.
        event: the function's event, without a body.
        path: path of the operation, without the stage.
        identifier: the identifier that the caller chose; empty for a generated one.
    """

    exchange: Exchange
    routed: Routed
    target: FunctionTarget
    event: dict[str, Any]
    path: str
    identifier: str = ""


class AsyncRequests(Protocol):
    """Accepts asynchronous requests and answers requests about them."""

    def accepts(self, stage: str) -> bool:
        """Whether a stage accepts asynchronous requests."""
        ...

    def accept(self, call: AsyncCall) -> Awaitable[Response]:
        """Store a call, to be made later."""
        ...

    def answer(self, exchange: Exchange, routed: Routed) -> Awaitable[Response]:
        """Answer a request about an accepted request, or about an upload."""
        ...

    def refuse(self, exchange: Exchange, code: str, message: str) -> Response:
        """Reject a request with one of the codes of `turnout.protocol.requests.refusals`."""
        ...

    def receive(self, request: Request) -> BodySink | None:
        """Return the receiver of an upload's body; None for other requests."""
        ...

    def transfer(self, request: Request) -> Response | Awaitable[Response]:
        """Answer a request to a signed address."""
        ...

    def admit_transfer(self, request: Request) -> Response | None:
        """Reject a request to a signed address before its body is read; None if it is allowed."""
        ...

"""Functions that a router calls in a test: each has a configured answer, and all calls are recorded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from turnout.protocol.aws.events import LENGTH_HEADER, make_answer, read_event
from turnout.protocol.codecs.codecs import decode_request, encode_answer
from turnout.protocol.errors import RequestError
from turnout.protocol.routing.invocation import Answered
from turnout.protocol.tensors.datatypes import Signature
from turnout.protocol.tensors.interface import build_interface

Behaviour = Callable[[Mapping[str, Any]], Answered | Awaitable[Answered]]


@dataclass(frozen=True)
class Call:
    """One call, as `invoke` received it."""

    function: str
    alias: str
    event: Mapping[str, Any]
    deadline_s: float
    asynchronous: bool


@dataclass
class Callees:
    """An `Invoke` that records its calls.

    Args:
        behaviours: function name -> behaviour; a missing function is unknown.
        accept: what happens to copies.
    """

    behaviours: Mapping[str, Behaviour]
    accept: Behaviour = lambda _event: Answered(None)
    calls: list[Call] = field(default_factory=list)

    async def __call__(
        self, function: str, alias: str, event: Mapping[str, Any], *, deadline_s: float, asynchronous: bool = False
    ) -> Answered:
        self.calls.append(Call(function, alias, event, deadline_s, asynchronous))
        behave = self.accept if asynchronous else self.behaviours.get(function)
        if behave is None:
            return Answered(None, "unknown_function", f"there is no {function}")
        answered = behave(event)
        return answered if isinstance(answered, Answered) else await answered

    def called(self) -> list[str]:
        """The functions that were called for an answer, in order."""
        return [call.function for call in self.calls if not call.asynchronous]

    def copied(self) -> list[str]:
        """The functions that got copies."""
        return [call.function for call in self.calls if call.asynchronous]


def answering(status: int = 200, body: str = "{}", **headers: str) -> Behaviour:
    """Always return the same answer."""
    return lambda _event: Answered({"statusCode": status, "headers": headers, "body": body, "isBase64Encoded": False})


def failing(error: str) -> Behaviour:
    """Always fail in the same way."""
    return lambda _event: Answered(None, error, "as told")


def hanging(until: asyncio.Event) -> Behaviour:
    """Answer when released."""

    async def hang() -> Answered:
        await until.wait()
        return Answered({"statusCode": 200, "body": "late"})

    return lambda _event: hang()


def computing(signature: Signature, compute: Callable[..., Mapping[str, Any]]) -> Behaviour:
    """A model with this signature: reads its inputs and writes the result of `compute`, as model functions do."""
    interface = build_interface(signature, "model", "v1")

    def behave(event: Mapping[str, Any]) -> Answered:
        try:
            request = decode_request(*read_event(event), interface)
        except RequestError as error:
            return Answered(make_answer(error.status, {}, json.dumps(error.body()).encode()))
        answer = encode_answer(compute(**request.inputs), request, interface)
        headers = {"Content-Type": "application/octet-stream", LENGTH_HEADER.title(): str(answer.json_length)}
        return Answered(make_answer(200, headers, answer.body, binary=True))

    return behave

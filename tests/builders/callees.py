"""Functions that a router calls in a test: each answers as it was told, and what was called is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from turnout.protocol.answered import Answered

Behaviour = Callable[[Mapping[str, Any]], Answered | Awaitable[Answered]]


@dataclass(frozen=True)
class Call:
    """One call, as it reached `invoke`."""

    function: str
    alias: str
    event: Mapping[str, Any]
    deadline_s: float
    asynchronous: bool


@dataclass
class Callees:
    """An `Invoke`.

    Args:
        behaviours: function name -> what it does; one that is not there is unknown.
        accept: what becomes of copies.
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
    """Answers with the same, whatever comes."""
    return lambda _event: Answered({"statusCode": status, "headers": headers, "body": body, "isBase64Encoded": False})


def failing(error: str) -> Behaviour:
    """Fails in the same way, whatever comes."""
    return lambda _event: Answered(None, error, "as told")


def hanging(until: asyncio.Event) -> Behaviour:
    """Answers when it is let go."""

    async def hang() -> Answered:
        await until.wait()
        return Answered({"statusCode": 200, "body": "late"})

    return lambda _event: hang()

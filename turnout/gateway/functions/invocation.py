"""The functions behind the gateway, called through one small interface: `invoke(name, event) -> Invocation`."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from turnout.plan.values import Function
from turnout.protocol.aws.limits import LARGEST_ANSWER_BYTES
from turnout.protocol.naming import LIVE, NEXT

__all__ = ["ALIASES", "LARGEST_ANSWER_BYTES", "Current", "Functions", "Invocable", "Invocation", "answer_bytes"]

ALIASES = frozenset({LIVE, NEXT})
"""The Lambda aliases that a stage may name; here both call the same code."""


OPEN_S = 30.0
OPEN_S_PER_MB = 0.01
"""The longest time that opening a function may take at a reload, by its memory size, because a transform may hang
during import.
"""


@dataclass(slots=True, eq=False)
class Invocation:
    """The outcome of one call.

    Args:
        answer: what the function returned, None if it failed.
        error: None, or why there is no answer: `unknown_function` (AWS: 500), `failed` (raised or crashed: 502),
            `timed_out` (504), `throttled` (429), `too_large` (an answer over 6 MB: 502).
        message: for the log, never for the caller.
    """

    answer: Mapping[str, Any] | None
    error: str | None = None
    message: str = ""


class Invocable(Protocol):
    """An object that calls functions."""

    def invoke(
        self, name: str, alias: str, event: Mapping[str, Any], timeout_s: float
    ) -> Invocation | Awaitable[Invocation]:
        """Call one function.

        A quick answer may be returned immediately; a slow one is awaited, outside the event loop.
        """
        ...


Wrap = Callable[[Invocable], Invocable]
"""A wrapper of the functions that routers call."""


def no_wrap(functions: Invocable) -> Invocable:
    """Return the functions unchanged."""
    return functions


class Named(Invocable, Protocol):
    """Functions that know their names."""

    @property
    def names(self) -> Collection[str]:
        """The names of the functions that run here."""
        ...


class Current:
    """The functions of the served edition, for callers that may outlive their own edition.

    Args:
        functions: those of the first edition; replaced at every switch to another.
    """

    def __init__(self, functions: Named) -> None:
        self.functions = functions

    def __contains__(self, name: object) -> bool:
        return name in self.functions.names

    def invoke(
        self, name: str, alias: str, event: Mapping[str, Any], timeout_s: float
    ) -> Invocation | Awaitable[Invocation]:
        """See `Invocable.invoke`."""
        return self.functions.invoke(name, alias, event, timeout_s)


@dataclass(frozen=True, slots=True)
class Occupancy:
    """The current load of all functions.

    Args:
        open: number of sessions in this process, or of environments.
        running: number of running calls.
        waiting: number of calls that wait for a thread, an environment or a session.
        called_s: time of the last synchronous call that ran in this process, on the monotonic clock.
    """

    open: int
    running: int
    waiting: int
    called_s: float = -math.inf


class Functions(Invocable, Protocol):
    """Runs functions: in this process, or each in separate processes."""

    @property
    def takes_files(self) -> bool:
        """Whether functions can access files of this process, which asynchronous runs with large bodies need."""
        ...

    def occupancy(self) -> Occupancy:
        """Return their load."""
        ...

    def close(self) -> None:
        """Release every session and thread; called once, after the last request."""
        ...


async def await_opening(function: Function, opening: asyncio.Future[str]) -> str:
    """Return why a function cannot be opened, or an empty text; one that hangs is reported and abandoned."""
    patience_s = OPEN_S + OPEN_S_PER_MB * function.settings.memory_mb
    try:
        return await asyncio.wait_for(asyncio.shield(opening), patience_s)
    except TimeoutError:
        return (
            f"opening it took longer than {patience_s:.0f} s: check whether its transform waits for something at import"
        )


def title_of(function: Function) -> str:
    """Return a function's name in output: `iris v1`, `iris router`, `router`."""
    return f"{function.model} {function.version or 'router'}".lstrip()


def refuse(name: str, alias: str, refused: Mapping[str, str], *, known: bool) -> Invocation:
    """Return why a call reaches no function.

    Args:
        name: the function's name.
        alias: the called alias, one of `ALIASES` or another.
        refused: name -> reason, for functions that cannot run here.
        known: whether the function could be called under another alias.
    """
    if known:
        message = f"{name}: unknown alias {alias!r}; known are {', '.join(sorted(ALIASES))}"
    elif name in refused:
        message = f"{name} cannot run here: {refused[name]}"
    else:
        message = f"unknown function {name!r}: the stage variable names a version that is not in models.yaml"
    return Invocation(None, "unknown_function", message)


def answer_bytes(answer: Any) -> int:
    """Return the bytes of JSON that Lambda's runtime makes of an answer: UTF-8, with `json.dumps`'s spaces.

    Raises TypeError or ValueError if the answer is not JSON, which is a failed invocation on Lambda.
    """
    body = answer.get("body") if isinstance(answer, Mapping) else None
    if not isinstance(body, str):
        return len(json.dumps(answer, ensure_ascii=False).encode())
    # The body is nearly the whole event; orjson escapes the same characters and writes it ten times as fast.
    return len(orjson.dumps(body)) - 2 + len(json.dumps({**answer, "body": ""}, ensure_ascii=False).encode())


ACCOUNT_ID = "000000000000"


REGION = "local"


@dataclass(frozen=True, slots=True)
class Loaded:
    """The result of opening one session, which `preload` reports.

    Args:
        function: the function's name.
        seconds: how long it took.
        reason: why it failed; empty if it did not.
        done: how many are finished, including this one.
        total: the total number.
    """

    function: Function
    seconds: float
    reason: str
    done: int
    total: int

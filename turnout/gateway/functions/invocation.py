"""The functions behind the gateway, reached through one small interface: `invoke(name, event) -> Invocation`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from turnout.plan.values import Function
from turnout.protocol.aws.limits import LARGEST_ANSWER_BYTES
from turnout.protocol.naming import LIVE, NEXT

__all__ = ["ALIASES", "LARGEST_ANSWER_BYTES", "Current", "Functions", "Invocable", "Invocation", "answer_bytes"]

ALIASES = frozenset({LIVE, NEXT})
"""The Lambda aliases that a stage may name; here both are the one code that there is."""


OPEN_S = 30.0
OPEN_S_PER_MB = 0.01
"""The longest that opening a function may take at a reload, by its memory size: a transform may hang at its import."""


@dataclass(slots=True, eq=False)
class Invocation:
    """The outcome of one call.

    Args:
        answer: what the function returned, None when it failed.
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
        """Call one function. An answer that is quick may come at once; a slow one is awaited, off the event loop."""
        ...


Wrap = Callable[[Invocable], Invocable]
"""A wrapper of the functions that routers call."""


def no_wrap(functions: Invocable) -> Invocable:
    """Nothing."""
    return functions


class Named(Invocable, Protocol):
    """Functions that know what they are called."""

    @property
    def names(self) -> Collection[str]:
        """Of those that run here."""
        ...


class Current:
    """The functions of the edition that is served at this moment: what calls them may outlive its own edition.

    Args:
        functions: those of the first edition; set on every switch to another.
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
    """The load of all functions at this moment.

    Args:
        open: sessions in this process, or environments.
        running: calls that run.
        waiting: calls that wait for a thread, an environment or a session.
    """

    open: int
    running: int
    waiting: int


class Functions(Invocable, Protocol):
    """Runs functions: in this process, or each in a process of its own."""

    @property
    def takes_files(self) -> bool:
        """Whether functions reach files of this process, which asynchronous runs with large bodies need."""
        ...

    def occupancy(self) -> Occupancy:
        """Their load."""
        ...

    def close(self) -> None:
        """Let go of every session and thread; called once, after the last request."""
        ...


async def await_opening(function: Function, opening: asyncio.Future[str]) -> str:
    """Why a function cannot be opened, or an empty text; one that hangs is reported, and left to itself."""
    patience_s = OPEN_S + OPEN_S_PER_MB * function.settings.memory_mb
    try:
        return await asyncio.wait_for(asyncio.shield(opening), patience_s)
    except TimeoutError:
        return (
            f"opening it took longer than {patience_s:.0f} s: check whether its transform waits for something at import"
        )


def title_of(function: Function) -> str:
    """A function's name in output: `iris v1`, `iris router`, `router`."""
    return f"{function.model} {function.version or 'router'}".lstrip()


def refuse(name: str, alias: str, refused: Mapping[str, str], *, known: bool) -> Invocation:
    """Why a call reaches no function.

    Args:
        name: the function's.
        alias: which of `ALIASES` was called, or another.
        refused: name -> why, of functions that cannot run here.
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
    """Bytes of JSON that Lambda's runtime makes of an answer: UTF-8, with `json.dumps`'s spaces between the parts.

    TypeError or ValueError where the answer is not JSON, a failed invocation there.
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
    """One session opened, or not: what `preload` reports while it works.

    Args:
        function: which.
        seconds: how long it took.
        reason: why it failed; empty where it did not.
        done: how many are through, this one with them.
        total: how many there are.
    """

    function: Function
    seconds: float
    reason: str
    done: int
    total: int

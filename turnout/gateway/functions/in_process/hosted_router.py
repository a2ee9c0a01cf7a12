"""One router that runs in this process, and how it calls the functions.

A router mostly waits, so it runs on the gateway's own event loop. What computes (a graph combines tensors, a large body
is read for its sticky key, the catalogue of many models is written) runs on the loop of a background thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from turnout.gateway.functions.background import Background
from turnout.gateway.functions.deferred import is_encoded
from turnout.gateway.functions.in_process.hosted_function import body_size, check_answer
from turnout.gateway.functions.in_process.threads import LoopThread
from turnout.gateway.functions.invocation import Invocable, Invocation
from turnout.plan.routes import SHARED_PATHS
from turnout.plan.values import Function
from turnout.protocol.aws.limits import LARGEST_ASYNC_EVENT_BYTES, LARGEST_EVENT_BYTES
from turnout.protocol.routing.invocation import Answered, Invoke

log = logging.getLogger("turnout.functions")

LARGEST_ON_LOOP = 65_536
"""Most characters of a body that a router may read on the gateway's event loop: JSON of this size takes 0.3 ms. A body
with a content encoding may become large, so it is never read there.
"""


class Answering(Protocol):
    """A router's code: `router_lambda.router.Router`, `router_lambda.general.router.GeneralRouter`."""

    async def answer(self, event: Mapping[str, Any], deadline_s: float) -> Mapping[str, Any]:
        """Answer one proxy event until a time of `time.monotonic()`; safe on two event loops at once."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class RouterCode:
    """One router of the plan, not yet made.

    Args:
        function: name and timeout.
        make: makes its code, given a function that calls functions.
        computes: whether it computes for every request; its code is then made with the first request, because that may
            take a second (the catalogue of hundreds of models).
    """

    function: Function
    make: Callable[[Invoke], Answering]
    computes: bool


class LocalInvoke:
    """Calls the functions of this process as a router on Lambda calls functions through the Invoke API.

    Args:
        functions: the called functions; they belong to the event loop on which `settle` was last called.
    """

    def __init__(self, functions: Invocable) -> None:
        self._functions = functions
        self._background = Background(functions)
        self._home: asyncio.AbstractEventLoop | None = None

    def settle(self) -> None:
        """Record the event loop of the functions: the one that calls this."""
        self._home = asyncio.get_running_loop()

    async def __call__(
        self, function: str, alias: str, event: Mapping[str, Any], *, deadline_s: float, asynchronous: bool = False
    ) -> Answered:
        """See `Invoke`."""
        assert self._home is not None
        calling = self._call(function, alias, event, deadline_s, asynchronous=asynchronous)
        if asyncio.get_running_loop() is self._home:
            return await calling
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(calling, self._home))

    async def _call(
        self, function: str, alias: str, event: Mapping[str, Any], deadline_s: float, *, asynchronous: bool
    ) -> Answered:
        if is_large(event, LARGEST_ASYNC_EVENT_BYTES if asynchronous else LARGEST_EVENT_BYTES):
            return Answered(None, "request_too_large", f"{function}: the event exceeds Lambda's limit")
        if asynchronous:
            is_taken = self._background.submit(function, alias, event)
            return Answered(None) if is_taken else Answered(None, "throttled", f"{function}: too many such calls")
        outcome = self._functions.invoke(function, alias, event, max(0.0, deadline_s - time.monotonic()))
        invocation = outcome if isinstance(outcome, Invocation) else await outcome
        return Answered(invocation.answer, invocation.error or "", invocation.message)


class HostedRouter:
    """One router.

    Args:
        code: the router's code.
        invoke: how its code calls functions.
        beside: the background loop for computing.
    """

    def __init__(self, code: RouterCode, invoke: LocalInvoke, beside: LoopThread) -> None:
        self.function = code.function
        self._make = code.make
        self._computes = code.computes
        self._code = None if code.computes else code.make(invoke)
        self._invoke = invoke
        self._beside = beside

    async def invoke(self, event: Mapping[str, Any], timeout_s: float) -> Invocation:
        """Answer one event; must be awaited on the gateway's event loop."""
        self._invoke.settle()
        limit_s = min(timeout_s, self.function.settings.timeout_s)
        deadline_s = time.monotonic() + limit_s
        try:
            async with asyncio.timeout(limit_s):
                if (
                    self._must_leave_loop(event)
                    or body_size(event) > LARGEST_ON_LOOP
                    or is_encoded(event.get("headers") or {})
                ):
                    answer = await self._beside.run(self._answer(event, deadline_s))
                else:
                    answer = await self._answer(event, deadline_s)
            return check_answer(self.function.name, answer)
        except TimeoutError:
            return Invocation(None, "timed_out", f"{self.function.name}: the call ran past its time limit")
        except Exception as error:
            log.exception("%s: the router raised", self.function.name)
            return Invocation(None, "failed", f"{self.function.name} raised {type(error).__name__}: {error}")

    def _must_leave_loop(self, event: Mapping[str, Any]) -> bool:
        """Whether the router computes, or reads a large body; forwarding a call with existing code is cheap."""
        if event.get("resource") in SHARED_PATHS:
            return self._code is None
        return self._computes or body_size(event) > LARGEST_ON_LOOP or is_encoded(event.get("headers") or {})

    async def _answer(self, event: Mapping[str, Any], deadline_s: float) -> Mapping[str, Any]:
        if self._code is None:  # always in the background thread
            self._code = self._make(self._invoke)
        return await self._code.answer(event, deadline_s)


def is_large(event: Mapping[str, Any], limit_bytes: int) -> bool:
    """Whether Lambda would reject the event, written as JSON."""
    # A character takes at most six bytes in JSON, so nearly every event passes without being serialized.
    if 6 * body_size(event) + 65_536 <= limit_bytes:
        return False
    return len(orjson.dumps(event)) > limit_bytes

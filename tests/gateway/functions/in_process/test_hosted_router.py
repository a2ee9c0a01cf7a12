"""Routers in this process, with routers and functions made for the test."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.builders.waiting import PATIENCE_S
from turnout.gateway.functions.in_process.functions import InProcessFunctions
from turnout.gateway.functions.in_process.hosted_router import LARGEST_ON_LOOP, Answering, RouterCode
from turnout.gateway.functions.invocation import Invocation
from turnout.manifest.settings import Settings
from turnout.plan.values import Function
from turnout.protocol.aws.limits import LARGEST_ASYNC_EVENT_BYTES, LARGEST_EVENT_BYTES
from turnout.protocol.routing.invocation import Answered, Invoke


@dataclass
class Code:
    """A model's code: records its events and returns their body, or raises if the body is `raise`."""

    seen: list[Any] = field(default_factory=list)
    held: threading.Event | None = None  # a call waits for it

    def load(self) -> None:
        """Do nothing."""

    def __call__(self, event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        if self.held is not None:
            assert self.held.wait(PATIENCE_S)
        self.seen.append(event)
        if event["body"] == "raise":
            raise ValueError("as asked")
        return {"statusCode": 200, "body": event["body"]}


Answer = Callable[[Invoke, Mapping[str, Any], float], Coroutine[Any, Any, Any]]


@dataclass
class Router:
    invoke: Invoke
    reply: Answer
    threads: set[str] = field(default_factory=set)

    async def answer(self, event: Mapping[str, Any], deadline_s: float) -> Mapping[str, Any]:
        self.threads.add(threading.current_thread().name)
        result: Mapping[str, Any] = await self.reply(self.invoke, event, deadline_s)
        return result


class NoCancellation:
    cancelled = False

    def cancel(self) -> None:
        """Do nothing."""


@dataclass
class Scene:
    """One model function `m_v1` and one router `m_router` with a timeout of one second."""

    functions: InProcessFunctions
    code: Code
    routers: list[Router]

    async def ask(self, body: str = "x", *, alias: str = "live", timeout_s: float = 10.0) -> Invocation:
        result = self.functions.invoke("m_router", alias, {"body": body}, timeout_s)
        return result if isinstance(result, Invocation) else await asyncio.wait_for(result, PATIENCE_S)

    def play(self, test: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        try:
            return asyncio.run(asyncio.wait_for(test(), PATIENCE_S))
        finally:
            self.functions.close(5)


def planned(name: str, kind: str, timeout_s: int) -> Function:
    return Function(name, kind, "m", "v1" if kind == "model" else "", name, Settings(timeout_s=timeout_s))


def scene(reply: Answer, *, computes: bool = False, timeout_s: int = 1) -> Scene:
    code, routers = Code(), []

    def make(invoke: Invoke) -> Answering:
        routers.append(Router(invoke, reply))
        return routers[-1]

    functions = InProcessFunctions(
        [planned("m_v1", "model", 30)],
        lambda _: code,
        NoCancellation,
        routers=[RouterCode(planned("m_router", "router", timeout_s), make, computes)],
    )
    return Scene(functions, code, routers)


async def through(invoke: Invoke, event: Mapping[str, Any], deadline_s: float) -> Any:
    answered = await invoke("m_v1", "live", event, deadline_s=deadline_s)
    return answered.answer or {"statusCode": 599, "body": answered.error}


@pytest.mark.parametrize("computes", [False, True])
@pytest.mark.parametrize(("body", "expected"), [("hello", (200, "hello")), ("raise", (599, "failed"))])
def test_router_gets_the_outcome_of_its_call(body: str, expected: tuple[int, str], computes: bool) -> None:
    under_test = scene(through, computes=computes)

    invocation = under_test.play(lambda: under_test.ask(body))

    assert invocation.error is None
    assert (invocation.answer["statusCode"], invocation.answer["body"]) == expected


@pytest.mark.parametrize(
    ("body", "computes", "thread"),
    [
        ("x", False, "MainThread"),
        ("x" * LARGEST_ON_LOOP, False, "MainThread"),
        ("x" * (LARGEST_ON_LOOP + 1), False, "routers"),
        ("x", True, "routers"),
    ],
)
def test_computing_routers_run_outside_the_event_loop(body: str, computes: bool, thread: str) -> None:
    under_test = scene(through, computes=computes)

    under_test.play(lambda: under_test.ask(body))

    assert under_test.routers[0].threads == {thread}


def test_loop_continues_while_a_router_computes() -> None:
    busy, seen = threading.Event(), threading.Event()

    async def compute(invoke: Invoke, event: Mapping[str, Any], deadline_s: float) -> Any:
        busy.set()
        return {"statusCode": 200 if seen.wait(PATIENCE_S) else 500}

    under_test = scene(compute, computes=True, timeout_s=30)

    async def test() -> Invocation:
        asking = asyncio.create_task(under_test.ask(timeout_s=30))
        while not busy.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        seen.set()
        return await asking

    assert under_test.play(test).answer == {"statusCode": 200}


@pytest.mark.parametrize("computes", [False, True])
def test_hanging_router_times_out_and_is_canceled(computes: bool) -> None:
    ended = []

    async def hang(invoke: Invoke, event: Mapping[str, Any], deadline_s: float) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(deadline_s - time.monotonic() <= 0.05)

    under_test = scene(hang, computes=computes)

    async def test() -> Invocation:
        invocation = await under_test.ask(timeout_s=0.1)
        while not ended:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        return invocation

    assert under_test.play(test).error == "timed_out"
    assert ended == [True]


def test_router_gets_the_earlier_deadline_of_its_caller_and_its_own_timeout() -> None:
    noted = []

    async def note(invoke: Invoke, event: Mapping[str, Any], deadline_s: float) -> Any:
        noted.append((deadline_s, time.monotonic()))
        return {"statusCode": 200}

    under_test = scene(note)

    async def test() -> None:
        for timeout_s, earlier_s in ((0.5, 0.5), (29, 1.0)):
            asked = time.monotonic()
            await under_test.ask(timeout_s=timeout_s)
            deadline_s, begun = noted[-1]
            assert asked + earlier_s <= deadline_s <= begun + earlier_s

    under_test.play(test)
    assert len(noted) == 2


def test_router_that_raises_has_failed(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(invoke: Invoke, event: Mapping[str, Any], deadline_s: float) -> Any:
        raise LookupError("no such route")

    under_test = scene(fail)

    invocation = under_test.play(under_test.ask)

    assert (invocation.error, invocation.message) == ("failed", "m_router raised LookupError: no such route")
    assert "m_router: the router raised" in caplog.text


def test_answer_of_a_router_may_be_as_large_as_that_of_a_function() -> None:
    async def swell(invoke: Invoke, event: Mapping[str, Any], deadline_s: float) -> Any:
        return {"statusCode": 200, "body": "x" * 7_000_000}

    under_test = scene(swell)

    assert under_test.play(under_test.ask).error == "too_large"


@pytest.mark.parametrize(
    ("characters", "asynchronous", "error"),
    [
        (LARGEST_EVENT_BYTES - 100, False, ""),
        (LARGEST_EVENT_BYTES, False, "request_too_large"),
        (LARGEST_ASYNC_EVENT_BYTES - 100, True, ""),
        (LARGEST_ASYNC_EVENT_BYTES, True, "request_too_large"),
    ],
)
def test_event_over_the_limit_of_lambda_is_not_forwarded(characters: int, asynchronous: bool, error: str) -> None:
    outcomes = []

    async def hand_on(invoke: Invoke, event: Mapping[str, Any], deadline_s: float) -> Any:
        large = {"body": "x" * characters}
        outcomes.append(await invoke("m_v1", "live", large, deadline_s=deadline_s, asynchronous=asynchronous))
        return {"statusCode": 200}

    under_test = scene(hand_on, timeout_s=20)

    under_test.play(under_test.ask)

    assert outcomes[0].error == error
    assert len(under_test.code.seen) <= (not error)


@pytest.mark.parametrize("computes", [False, True])
def test_asynchronous_call_is_made_after_the_answer(computes: bool) -> None:
    order = []
    answered_first = threading.Event()

    async def shadow(invoke: Invoke, event: Mapping[str, Any], deadline_s: float) -> Any:
        answered = await invoke("m_v1", "live", {"body": "copy"}, deadline_s=deadline_s, asynchronous=True)
        order.append(len(under_test.code.seen))
        assert answered == Answered(None)
        return {"statusCode": 200}

    under_test = scene(shadow, computes=computes)
    under_test.code.held = answered_first

    async def test() -> None:
        await under_test.ask()
        answered_first.set()
        while not under_test.code.seen:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    under_test.play(test)
    assert order == [0]
    assert under_test.code.seen == [{"body": "copy"}]


def test_asynchronous_failure_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def shadow(invoke: Invoke, event: Mapping[str, Any], deadline_s: float) -> Any:
        await invoke("m_v1", "live", {"body": "raise"}, deadline_s=deadline_s, asynchronous=True)
        await invoke("m_v9", "live", {"body": ""}, deadline_s=deadline_s, asynchronous=True)
        return {"statusCode": 200}

    under_test = scene(shadow)

    async def test() -> Invocation:
        invocation = await under_test.ask()
        while caplog.text.count("an asynchronous call") < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        return invocation

    assert under_test.play(test).answer == {"statusCode": 200}
    assert "m_v1: an asynchronous call: failed" in caplog.text
    assert "m_v9: an asynchronous call: unknown_function" in caplog.text


def test_other_alias_is_an_unknown_function() -> None:
    under_test = scene(through)

    invocation = under_test.play(lambda: under_test.ask(alias="old"))

    assert invocation.error == "unknown_function"
    assert "unknown alias 'old'" in invocation.message


def test_router_calls_the_functions_of_the_current_edition() -> None:
    """One call starts before the switch and continues after it; the next one uses the later edition."""
    paused, go_on = [], asyncio.Event()

    async def pause(invoke: Invoke, event: Mapping[str, Any], deadline_s: float) -> Any:
        paused.append(event)
        await go_on.wait()
        return await through(invoke, event, deadline_s)

    under_test, later_code = scene(pause, timeout_s=20), Code()
    before = under_test.functions
    later = InProcessFunctions(
        [planned("m_v1", "model", 30)],
        lambda _: later_code,
        NoCancellation,
        routers=[RouterCode(planned("m_router", "router", 1), lambda invoke: Router(invoke, through), computes=True)],
        before=before,
    )

    async def test() -> None:
        begun = asyncio.ensure_future(under_test.ask("begun before"))
        while not paused:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        before.retire(later)
        go_on.set()
        await begun
        under_test.functions = later
        await under_test.ask("begun after")

    under_test.play(test)
    assert under_test.code.seen == []
    assert [event["body"] for event in later_code.seen] == ["begun before", "begun after"]

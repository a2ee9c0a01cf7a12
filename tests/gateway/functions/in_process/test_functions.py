"""Functions in this process, with code made for the test, without sessions."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders.waiting import PATIENCE_S, wait_on_loop, wait_until
from turnout.gateway.functions.in_process.functions import InProcessFunctions
from turnout.gateway.functions.in_process.threads import MOST_GIVEN_UP
from turnout.gateway.functions.in_process.watchdog import Watchdog
from turnout.gateway.functions.invocation import LARGEST_ANSWER_BYTES, Invocation, Loaded, answer_bytes
from turnout.gateway.functions.waiting_time import MOST_GRACED
from turnout.gateway.shared.running import key_of
from turnout.gateway.shared.session_budget import SessionBudget
from turnout.gateway.shared.state import SharedState
from turnout.manifest.settings import Settings
from turnout.plan.values import Function

Code = Callable[[Mapping[str, Any], Any], Any]


class FakeCancellation:
    """A cancellation for which a run can wait, to see that it was stopped."""

    def __init__(self) -> None:
        self.event = threading.Event()

    @property
    def cancelled(self) -> bool:
        return self.event.is_set()

    def cancel(self) -> None:
        self.event.set()


@dataclass
class FakeModel:
    """Code whose `load` can fail or wait."""

    code: Code
    loading: Callable[[], None]

    def load(self) -> None:
        self.loading()

    def __call__(self, event: Mapping[str, Any], context: Any) -> Any:
        return self.code(event, context)


@dataclass
class Fakes:
    """Makes the code of the functions, and counts calls."""

    codes: dict[str, Code]
    loading: Callable[[str], None] = lambda name: None
    loads: list[str] = field(default_factory=list)

    def make(self, function: Function) -> FakeModel:
        def loading() -> None:
            self.loads.append(function.name)
            self.loading(function.name)

        return FakeModel(self.codes[function.name], loading)


def planned(name: str, timeout_s: int = 30) -> Function:
    return Function(name, "model", "m", "v1", "m_v1", Settings(timeout_s=timeout_s))


def hosting(fakes: Fakes, *, timeout_s: int = 30, **settings: Any) -> InProcessFunctions:
    functions = [planned(name, timeout_s=timeout_s) for name in fakes.codes]
    refused = {"m_v9": "its artifact is elsewhere"}
    return InProcessFunctions(functions, fakes.make, FakeCancellation, refused=refused, **settings)


def answer(body: str = "{}") -> dict[str, Any]:
    return {"statusCode": 200, "headers": {}, "body": body, "isBase64Encoded": False}


def event(body: str = "{}") -> dict[str, Any]:
    return {"body": body, "requestContext": {"requestId": "r-1"}}


async def result_of(outcome: Invocation | Awaitable[Invocation]) -> Invocation:
    return outcome if isinstance(outcome, Invocation) else await asyncio.wait_for(outcome, 20)


def run(functions: InProcessFunctions, test: Coroutine[Any, Any, Any]) -> Any:
    """Run a test's coroutine and always close the functions."""
    try:
        return asyncio.run(asyncio.wait_for(test, PATIENCE_S))
    finally:
        functions.close(10)


def errors_of(outcomes: Iterable[Invocation | Awaitable[Invocation]]) -> list[str | None]:
    """Return the errors of rejected calls so far, None for the others."""
    return [
        outcome.error
        if isinstance(outcome, Invocation)
        else outcome.result().error
        if isinstance(outcome, asyncio.Future) and outcome.done()
        else None
        for outcome in outcomes
    ]


def echo(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    return answer(event["body"])


# --- which function is called


def test_a_function_answers() -> None:
    functions = hosting(Fakes({"f": echo}))

    async def test() -> None:
        invocation = await result_of(functions.invoke("f", "live", event('{"a": 1}'), 10))
        assert invocation.error is None
        assert invocation.answer == answer('{"a": 1}')

    run(functions, test())


@pytest.mark.parametrize(
    ("name", "alias", "says"),
    [
        ("nothing", "live", "unknown function 'nothing'"),
        ("f", "", "unknown alias ''"),
        ("f", "old", "unknown alias 'old'"),
        ("m_v9", "live", "its artifact is elsewhere"),
    ],
)
def test_a_missing_function_is_unknown(name: str, alias: str, says: str) -> None:
    functions = hosting(Fakes({"f": echo}))

    async def test() -> None:
        invocation = await result_of(functions.invoke(name, alias, event(), 10))
        assert (invocation.answer, invocation.error) == (None, "unknown_function")
        assert says in invocation.message

    run(functions, test())


@pytest.mark.parametrize("alias", ["live", "next"])
def test_the_context_has_the_names_of_lambda(alias: str) -> None:
    seen = []

    def look(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        seen.append(
            (
                context.function_name,
                context.function_version,
                context.memory_limit_in_mb,
                context.aws_request_id,
                context.invoked_function_arn,
                context.log_group_name,
                context.log_stream_name,
                context.get_remaining_time_in_millis(),
            )
        )
        return answer()

    functions = hosting(Fakes({"f": look}))

    async def test() -> None:
        await result_of(functions.invoke("f", alias, event(), 10))
        await result_of(functions.invoke("f", alias, {"body": None}, 10))

    run(functions, test())
    (name, version, memory, request_id, arn, group, stream, remaining), (_, _, _, other_id, *_) = seen
    assert (name, version, memory, request_id) == ("f", "1", "1024", "r-1")
    assert arn == f"arn:aws:lambda:local:000000000000:function:f:{alias}"
    assert (group, stream) == ("/aws/lambda/f", "local")
    assert 0 < remaining <= 10_000
    assert len(other_id) == 36


# --- sessions


def test_a_session_is_loaded_once_for_all_waiting_calls() -> None:
    gate = threading.Event()
    fakes = Fakes({"f": echo}, loading=lambda name: gate.wait(20) and None)
    functions = hosting(fakes)

    async def test() -> None:
        waiting = [functions.invoke("f", "live", event(f"{number}"), 20) for number in range(50)]
        gate.set()
        bodies = [(await result_of(outcome)).answer for outcome in waiting]
        assert bodies == [answer(f"{number}") for number in range(50)]

    run(functions, test())
    assert fakes.loads == ["f"]


def test_a_failed_load_is_reported_to_all_waiting_calls_and_retried(caplog: pytest.LogCaptureFixture) -> None:
    reasons = [ValueError("no such kernel"), SystemExit("from a transform")]

    def loading(name: str) -> None:
        if name == "bad" and reasons:
            raise reasons.pop(0)

    fakes = Fakes({"bad": echo, "good": echo}, loading)
    functions = hosting(fakes)

    async def test() -> None:
        outcomes = [functions.invoke("bad", "live", event(), 20) for _ in range(3)]
        for outcome in outcomes:
            invocation = await result_of(outcome)
            assert (invocation.answer, invocation.error) == (None, "failed")
            assert "no such kernel" in invocation.message
        assert (await result_of(functions.invoke("good", "live", event(), 20))).error is None
        assert (await result_of(functions.invoke("bad", "live", event(), 20))).error == "failed"
        assert (await result_of(functions.invoke("bad", "live", event(), 20))).error is None

    run(functions, test())
    assert "no such kernel" in caplog.text
    assert "Traceback" in caplog.text
    assert fakes.loads == ["bad", "good", "bad", "bad"]


def test_a_call_that_waits_too_long_for_the_session_times_out_and_the_session_still_opens() -> None:
    gate = threading.Event()
    fakes = Fakes({"f": echo}, loading=lambda name: gate.wait(20) and None)
    functions = hosting(fakes)

    async def test() -> None:
        assert (await result_of(functions.invoke("f", "live", event(), 0.02))).error == "timed_out"
        gate.set()
        assert (await result_of(functions.invoke("f", "live", event(), 20))).error is None

    run(functions, test())
    assert fakes.loads == ["f"]


def test_preload_opens_some_concurrently_and_reports_each() -> None:
    together = threading.Barrier(2)

    def loading(name: str) -> None:
        together.wait(20)  # breaks unless two are being loaded at once
        if name == "c":
            raise OSError("gone")

    fakes = Fakes(dict.fromkeys("abcd", echo), loading)
    functions = hosting(fakes)
    seen: list[Loaded] = []

    async def test() -> None:
        await functions.preload(seen.append, at_once=2)
        assert (await result_of(functions.invoke("a", "live", event(), 20))).error is None

    run(functions, test())
    assert sorted(fakes.loads) == ["a", "b", "c", "d"]
    assert [(loaded.done, loaded.total) for loaded in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert {loaded.function.name: loaded.reason for loaded in seen} == {"a": "", "b": "", "c": "OSError: gone", "d": ""}
    assert all(loaded.seconds >= 0 for loaded in seen)


def test_sessions_preloaded_in_one_loop_serve_in_another() -> None:
    fakes = Fakes({"f": echo})
    functions = hosting(fakes)
    asyncio.run(functions.preload())
    asyncio.run(functions.preload())
    assert run(functions, loads(functions)).error is None
    assert fakes.loads == ["f"]


async def loads(functions: InProcessFunctions) -> Invocation:
    return await result_of(functions.invoke("f", "live", event(), 20))


# --- memory


def budget_of(limit: int) -> SessionBudget:
    state = SharedState(1)
    state.become(0)
    return SessionBudget(limit, state.sessions, lambda: None)


def test_idle_functions_are_unloaded_for_others_and_reloaded_once_for_all_waiting_calls() -> None:
    fakes = Fakes(dict.fromkeys("abc", echo))
    budget = budget_of(20)
    functions = hosting(fakes, budget=budget, session_bytes=dict.fromkeys("abc", 10))

    async def test() -> None:
        for name in "abac":  # b is the least recently used one when c arrives
            assert (await result_of(functions.invoke(name, "live", event(), 20))).error is None
        assert functions.occupancy().open == 2
        waiting = [functions.invoke("b", "live", event(f"{number}"), 20) for number in range(20)]
        assert [(await result_of(outcome)).answer for outcome in waiting] == [
            answer(f"{number}") for number in range(20)
        ]
        assert (await result_of(functions.invoke("c", "live", event(), 20))).error is None

    run(functions, test())
    assert fakes.loads == ["a", "b", "c", "b"]
    assert budget.used_bytes == 20


def test_running_or_waiting_function_is_not_unloaded() -> None:
    going, gate = threading.Event(), threading.Event()

    def slow(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        going.set()
        gate.wait(20)
        return answer("slow")

    fakes = Fakes({"slow": slow, "other": echo})
    budget = budget_of(10)
    functions = hosting(fakes, budget=budget, session_bytes={"slow": 10, "other": 10}, running_limit=1)

    async def test() -> None:
        calls = [functions.invoke("slow", "live", event(), 20) for _ in range(2)]
        await wait_on_loop(going.is_set)
        assert (await result_of(functions.invoke("other", "live", event(), 20))).error is None
        assert functions.occupancy().open == 2
        budget.drop(budget.shed())  # other is idle; slow is not
        assert functions.occupancy().open == 1
        gate.set()
        assert [(await result_of(call)).answer for call in calls] == [answer("slow")] * 2

    run(functions, test())
    assert fakes.loads == ["slow", "other"]


def test_failed_load_and_retired_function_use_no_memory(caplog: pytest.LogCaptureFixture) -> None:
    def loading(name: str) -> None:
        if name == "bad":
            raise ValueError("no such kernel")

    budget = budget_of(100)
    functions = hosting(
        Fakes({"bad": echo, "good": echo}, loading), budget=budget, session_bytes={"bad": 10, "good": 7}
    )

    async def test() -> None:
        for name in ("bad", "good"):
            await result_of(functions.invoke(name, "live", event(), 20))
        assert budget.used_bytes == 7
        functions.retire(hosting(Fakes({})))
        assert budget.used_bytes == 0

    run(functions, test())


def test_preload_ends_when_memory_is_full(caplog: pytest.LogCaptureFixture) -> None:
    fakes = Fakes(dict.fromkeys("abcde", echo))
    functions = hosting(fakes, budget=budget_of(30), session_bytes=dict.fromkeys("abcde", 10))
    seen: list[Loaded] = []
    run(functions, functions.preload(seen.append, at_once=1))
    assert fakes.loads == ["a", "b", "c"]
    assert len(seen) == 3
    assert "Preloaded 3 of 5 versions: the memory limit is reached" in caplog.text


# --- on the loop or in a thread


def recorder(names: list[str]) -> Code:
    def code(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        names.append(threading.current_thread().name)
        return answer()

    return code


def test_a_short_function_moves_to_the_loop() -> None:
    names: list[str] = []
    functions = hosting(Fakes({"f": recorder(names)}), loop_limit_s=0.05)

    async def test() -> None:
        for _ in range(10):
            await result_of(functions.invoke("f", "live", event(), 20))
        assert isinstance(functions.invoke("f", "live", event(), 20), Invocation)
        await result_of(functions.invoke("f", "live", event("x" * 100_000), 20))

    run(functions, test())
    main = threading.main_thread().name
    assert names[0] != main
    assert names[1] != main
    assert names[5:11] == [main] * 6
    assert names[11] != main  # a body much larger than any before


def test_shapes_that_were_never_short_run_in_a_thread_regardless_of_the_body_size() -> None:
    shape = (1, 100)
    in_threads: list[tuple[int, ...]] = []

    def code(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        if not context.may_run({"x": np.ones(shape)}):
            raise RuntimeError("postponed")
        if threading.current_thread() is not threading.main_thread():
            in_threads.append(shape)
        return answer()

    functions = hosting(Fakes({"f": code}), loop_limit_s=10)

    async def test() -> None:
        nonlocal shape
        for _ in range(10):
            assert (await result_of(functions.invoke("f", "live", event(), 10))).error is None
        hosted = functions._hosted["f"]
        before = hosted.runs_on_loop
        assert before > 0
        shape = (10, 10)
        assert (await result_of(functions.invoke("f", "live", event(), 10))).error is None
        assert (hosted.runs_on_loop, in_threads[-1]) == (before, (10, 10))
        assert (await result_of(functions.invoke("f", "live", event(), 10))).error is None
        assert hosted.runs_on_loop == before + 1

    run(functions, test())


def test_a_function_with_a_transform_never_runs_on_the_loop() -> None:
    names: list[str] = []
    functions = hosting(Fakes({"f": recorder(names)}), with_transform=frozenset({"f"}), loop_limit_s=0.05)

    async def test() -> None:
        for _ in range(20):
            await result_of(functions.invoke("f", "live", event(), 20))

    run(functions, test())
    assert len(names) == 20
    assert threading.main_thread().name not in names


def test_a_long_function_never_runs_on_the_loop() -> None:
    names: list[str] = []

    def burn(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        names.append(threading.current_thread().name)
        sum(range(50_000))
        return answer()

    functions = hosting(Fakes({"f": burn}), loop_limit_s=0.000_01)

    async def test() -> None:
        for _ in range(20):
            await result_of(functions.invoke("f", "live", event(), 20))

    run(functions, test())
    assert threading.main_thread().name not in names


def test_a_fast_function_answers_while_a_slow_one_runs() -> None:
    release = threading.Event()
    functions = hosting(Fakes({"slow": lambda event, context: answer(str(release.wait(20))), "fast": echo}))

    async def test() -> None:
        slow = [functions.invoke("slow", "live", event(), 20) for _ in range(100)]
        for _ in range(100):
            assert (await result_of(functions.invoke("fast", "live", event(), 20))).error is None
        assert not any(outcome.done() for outcome in slow if isinstance(outcome, asyncio.Future))
        release.set()
        assert {(await result_of(outcome)).error for outcome in slow} == {None}

    run(functions, test())


# --- limits


def test_calls_beyond_the_concurrency_limit_wait_their_turn() -> None:
    lock = threading.Lock()
    now = 0
    most = 0
    order: list[str] = []
    go = threading.Event()

    def code(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
            order.append(event["body"])
        go.wait(20)
        with lock:
            now -= 1
        return answer()

    functions = hosting(Fakes({"f": code}), running_limit=3, loop_limit_s=0)

    async def test() -> None:
        outcomes = [functions.invoke("f", "live", event(f"{number:03}"), 20) for number in range(30)]
        await wait_on_loop(lambda: len(order) == 3)
        go.set()
        assert {(await result_of(outcome)).error for outcome in outcomes} == {None}

    run(functions, test())
    assert most == 3
    assert sorted(order[:3]) == ["000", "001", "002"]
    assert len(order) == 30


def test_a_call_that_runs_too_long_times_out_and_is_canceled() -> None:
    begun: list[bool] = []
    stopped: list[bool] = []

    def code(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        begun.append(True)
        stopped.append(context.cancellation.event.wait(20))
        return answer()

    functions = hosting(Fakes({"f": code}))

    async def test() -> None:
        while not begun:  # on a busy machine a call may expire before it has begun
            invocation = await result_of(functions.invoke("f", "live", event(), 0.02))
            assert (invocation.answer, invocation.error) == (None, "timed_out")
        await wait_on_loop(lambda: bool(stopped))

    run(functions, test())
    assert stopped == [True]


def test_the_timeout_of_the_function_applies_too() -> None:
    functions = hosting(
        Fakes({"f": lambda event, context: answer(str(context.cancellation.event.wait(20)))}), timeout_s=1
    )

    async def test() -> None:
        assert (await result_of(functions.invoke("f", "live", event(), 29))).error == "timed_out"

    run(functions, test())


def test_opening_does_not_count_against_the_timeout_of_the_function() -> None:
    limits: list[float] = []

    def code(_: Mapping[str, Any], context: Any) -> dict[str, Any]:
        limits.append(context.get_remaining_time_in_millis() / 1000)
        return answer()

    functions = hosting(Fakes({"f": code}, loading=lambda name: time.sleep(1.2)), timeout_s=1)

    async def test() -> None:
        assert (await result_of(functions.invoke("f", "live", event(), 29))).error is None

    run(functions, test())
    assert limits[0] <= 1


def test_a_call_whose_time_ends_while_the_session_opens_times_out() -> None:
    opened = threading.Event()
    functions = hosting(Fakes({"f": echo}, loading=lambda name: opened.wait(20) and None))

    async def test() -> None:
        assert (await result_of(functions.invoke("f", "live", event(), 0.05))).error == "timed_out"
        opened.set()
        assert (await result_of(functions.invoke("f", "live", event(), 20))).error is None

    run(functions, test())


def test_calls_waiting_behind_a_hanging_run_time_out_and_other_functions_continue() -> None:
    hang = threading.Event()  # a run that no cancellation reaches
    ran: list[str] = []

    def code(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        ran.append(event["body"])
        if event["body"] == "hang":
            hang.wait(20)
        return answer()

    functions = hosting(Fakes({"f": code, "g": echo}), running_limit=2, ending_s=PATIENCE_S)

    async def test() -> None:
        while len(ran) < 2:  # on a busy machine a call may expire before it has begun
            assert (await result_of(functions.invoke("f", "live", event("hang"), 0.05))).error == "timed_out"
        behind = [functions.invoke("f", "live", event("behind"), 0.05) for _ in range(5)]
        assert {(await result_of(outcome)).error for outcome in behind} == {"timed_out"}
        assert ran == ["hang", "hang"]  # the threads stay taken
        assert (await result_of(functions.invoke("g", "live", event(), 20))).error is None
        hang.set()
        assert (await result_of(functions.invoke("f", "live", event("after"), 20))).error is None

    run(functions, test())
    assert ran == ["hang", "hang", "after"]  # a call whose caller is gone does not run


def test_calls_beyond_the_waiting_limit_are_throttled() -> None:
    go = threading.Event()
    functions = hosting(Fakes({"f": lambda event, context: answer(str(go.wait(20)))}), running_limit=1, waiting_limit=2)

    async def test() -> None:
        first = functions.invoke("f", "live", event(), 20)
        await wait_on_loop(lambda: functions._hosted["f"].running == 1)
        outcomes = [functions.invoke("f", "live", event(), 20) for _ in range(4)]
        assert [isinstance(outcome, Invocation) for outcome in outcomes] == [False, False, True, True]
        go.set()
        errors = [(await result_of(outcome)).error for outcome in [first, *outcomes]]
        assert errors == [None, None, None, "throttled", "throttled"]

    run(functions, test())


def test_a_short_call_does_not_overtake_waiting_ones() -> None:
    order: list[str] = []
    go = threading.Event()

    def code(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        if len(event["body"]) > 1000:
            go.wait(20)
        order.append(event["body"][:2])
        return answer()

    functions = hosting(Fakes({"f": code}), running_limit=1, loop_limit_s=0.05)

    async def test() -> None:
        for _ in range(10):
            await result_of(functions.invoke("f", "live", event("00"), 20))
        assert isinstance(functions.invoke("f", "live", event("00"), 20), Invocation)
        order.clear()
        outcomes = [functions.invoke("f", "live", event(number + "x" * 100_000), 20) for number in ("01", "02")]
        outcomes.append(functions.invoke("f", "live", event("03"), 20))
        assert not isinstance(outcomes[-1], Invocation)
        go.set()
        assert {(await result_of(outcome)).error for outcome in outcomes} == {None}
        assert isinstance(functions.invoke("f", "live", event("04"), 20), Invocation)

    run(functions, test())
    assert order == ["01", "02", "03", "04"]


def test_a_body_with_a_content_encoding_never_runs_on_the_loop() -> None:
    """Even a short body may become a long one."""
    names: list[str] = []
    functions = hosting(Fakes({"f": recorder(names)}), loop_limit_s=0.05)

    async def test() -> None:
        for _ in range(10):
            await result_of(functions.invoke("f", "live", event(), 20))
        for name in ("Content-Encoding", "content-encoding", "CONTENT-ENCODING"):
            await result_of(functions.invoke("f", "live", {**event(), "headers": {name: "gzip"}}, 20))

    run(functions, test())
    assert names[9] == threading.main_thread().name
    assert threading.main_thread().name not in names[10:]


def test_a_call_that_would_wait_past_its_deadline_is_throttled_immediately_and_other_functions_continue() -> None:
    go = threading.Event()

    def code(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        go.wait(20)
        return answer()

    functions = hosting(Fakes({"f": code, "g": echo}), running_limit=2, loop_limit_s=0)

    async def test() -> None:
        hosted = functions._hosted["f"]
        outcomes = [functions.invoke("f", "live", event(), 20) for _ in range(2)]
        await wait_on_loop(lambda: hosted.running == 2)
        hosted._waiting_time.learn(1.0)
        hosted._waiting_time.learn(1.0)
        # A run takes a second, and two run at once: 8 of the 10 s may be used, so 13 calls may wait.
        waiting = [functions.invoke("f", "live", event(), 10) for _ in range(20)]
        await wait_on_loop(lambda: hosted._graced == 0)
        assert errors_of(waiting) == [None] * 13 + ["throttled"] * 7
        # A call with more time waits, one with less does not.
        patient = functions.invoke("f", "live", event(), 20)
        hasty = functions.invoke("f", "live", event(), 1)
        await wait_on_loop(lambda: hosted._graced == 0)
        assert errors_of([patient, hasty]) == [None, "throttled"]
        assert (await result_of(functions.invoke("g", "live", event(), 1))).error is None
        # When runs turn out to take longer, the last calls are rejected immediately, because they would not be answered
        # in time.
        for _ in range(20):
            hosted._waiting_time.learn(3.0)
        hosted._refuse_hopeless()
        assert errors_of([*waiting, patient]) == [None] * 3 + ["throttled"] * 18
        waiting = waiting[:3]
        go.set()
        left = [*outcomes, *waiting]
        assert {(await result_of(outcome)).error for outcome in left} == {None}
        assert (await result_of(functions.invoke("f", "live", event(), 10))).error is None  # no call waits

    run(functions, test())


def test_a_hopeless_call_is_kept_briefly_in_case_earlier_ones_leave() -> None:
    go = threading.Event()
    functions = hosting(Fakes({"f": lambda event, context: answer(str(go.wait(20)))}), running_limit=1, loop_limit_s=0)

    async def test() -> None:
        hosted = functions._hosted["f"]
        first = functions.invoke("f", "live", event(), 20)
        await wait_on_loop(lambda: hosted.running == 1)
        hosted._waiting_time.learn(1.0)
        hosted._waiting_time.learn(1.0)
        ahead = [functions.invoke("f", "live", event(), 10) for _ in range(7)]
        late = functions.invoke("f", "live", event(), 10)
        for outcome in ahead:
            assert isinstance(outcome, asyncio.Future)
            outcome.cancel()
        await wait_on_loop(lambda: hosted._graced == 0)
        go.set()
        assert [(await result_of(outcome)).error for outcome in (first, late)] == [None, None]

    run(functions, test())


def test_only_some_hopeless_calls_are_kept() -> None:
    go = threading.Event()
    functions = hosting(Fakes({"f": lambda event, context: answer(str(go.wait(20)))}), running_limit=1, loop_limit_s=0)

    async def test() -> None:
        hosted = functions._hosted["f"]
        first = functions.invoke("f", "live", event(), 20)
        await wait_on_loop(lambda: hosted.running == 1)
        hosted._waiting_time.learn(9.0)
        outcomes = [functions.invoke("f", "live", event(), 10) for _ in range(2 + MOST_GRACED)]
        assert [isinstance(outcome, Invocation) for outcome in outcomes] == [False] * (1 + MOST_GRACED) + [True]
        go.set()
        assert (await result_of(first)).error is None

    run(functions, test())


def test_a_disconnected_caller_cancels_its_run_or_leaves_the_queue() -> None:
    stopped: list[str] = []

    def code(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        context.cancellation.event.wait(20)
        stopped.append(event["body"])
        return answer()

    functions = hosting(Fakes({"f": code}), running_limit=1)

    async def test() -> None:
        running = functions.invoke("f", "live", event("running"), 20)
        waiting = functions.invoke("f", "live", event("waiting"), 20)
        await wait_on_loop(lambda: functions._hosted["f"].running == 1)
        for outcome in (waiting, running):
            assert isinstance(outcome, asyncio.Future)
            outcome.cancel()
        await wait_on_loop(lambda: functions._hosted["f"].running == 0)

    run(functions, test())
    assert stopped == ["running"]


# --- failures and answers


def raising(error: BaseException) -> Code:
    def code(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        raise error

    return code


@pytest.mark.parametrize("error", [ValueError("odd"), SystemExit(3), MemoryError(), KeyboardInterrupt()])
def test_a_function_that_raises_fails_and_stays_usable(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    functions = hosting(Fakes({"f": raising(error), "g": echo}))

    async def test() -> None:
        for _ in range(5):
            invocation = await result_of(functions.invoke("f", "live", event(), 20))
            assert (invocation.answer, invocation.error) == (None, "failed")
            assert type(error).__name__ in invocation.message
        assert (await result_of(functions.invoke("g", "live", event(), 20))).error is None

    run(functions, test())
    assert "Traceback" in caplog.text


EMPTY_ANSWER_BYTES = len(json.dumps(answer("")).encode())


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("x" * (LARGEST_ANSWER_BYTES - EMPTY_ANSWER_BYTES), None),
        ("x" * (LARGEST_ANSWER_BYTES - EMPTY_ANSWER_BYTES + 1), "too_large"),
        ('"' * ((LARGEST_ANSWER_BYTES - EMPTY_ANSWER_BYTES) // 2), None),
        ('"' * ((LARGEST_ANSWER_BYTES - EMPTY_ANSWER_BYTES) // 2 + 1), "too_large"),
        ("é" * (LARGEST_ANSWER_BYTES // 2), "too_large"),
        ("\ud800" * 2_000_000, "failed"),  # cannot be written as JSON
    ],
)
def test_an_answer_may_be_as_large_as_lambda_allows(body: str, error: str | None) -> None:
    functions = hosting(Fakes({"f": lambda event, context: answer(body)}))

    async def test() -> None:
        invocation = await result_of(functions.invoke("f", "live", event(), 20))
        assert invocation.error == error
        assert (invocation.answer is None) is (error is not None)

    run(functions, test())


@pytest.mark.parametrize("odd", [[], "text", {"statusCode": 200}, {"body": 3}])
def test_an_unusual_answer_is_passed_to_the_gateway_for_validation(odd: Any) -> None:
    functions = hosting(Fakes({"f": lambda event, context: odd}))

    async def test() -> None:
        assert (await result_of(functions.invoke("f", "live", event(), 20))).answer == odd

    run(functions, test())


def test_an_answer_that_is_not_json_is_a_failure() -> None:
    functions = hosting(Fakes({"f": lambda event, context: {"body": b"bytes"}}))

    async def test() -> None:
        assert (await result_of(functions.invoke("f", "live", event(), 20))).error == "failed"

    run(functions, test())


@given(st.text(), st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.booleans() | st.integers()))
def test_the_size_of_an_answer_is_that_of_its_json(body: str, headers: dict[str, Any]) -> None:
    whole = {**answer(body), "headers": headers}
    assert answer_bytes(whole) == len(json.dumps(whole, ensure_ascii=False).encode())


def test_a_run_that_ends_after_its_loop_has_no_effect(caplog: pytest.LogCaptureFixture) -> None:
    go = threading.Event()
    functions = hosting(Fakes({"f": lambda event, context: answer(str(go.wait(20)))}))

    async def test() -> None:
        functions.invoke("f", "live", event(), 20)
        await wait_on_loop(lambda: functions._hosted["f"].running == 1)

    asyncio.run(test())
    go.set()
    functions.close(10)
    assert functions.busy_after_close == 0
    assert caplog.text == ""


def test_close_cancels_runs_and_counts_those_that_cannot_be_stopped() -> None:
    hang = threading.Event()
    functions = hosting(
        Fakes(
            {
                "stops": lambda event, context: answer(str(context.cancellation.event.wait(20))),
                "hangs": lambda event, context: answer(str(hang.wait(20))),
            }
        )
    )

    async def test() -> None:
        for name in ("stops", "hangs"):
            functions.invoke(name, "live", event(), 20)
        await wait_on_loop(lambda: all(hosted.running == 1 for hosted in functions._hosted.values()))

    try:
        asyncio.run(asyncio.wait_for(test(), 30))
        functions.close(0.2)
        assert functions.busy_after_close == 1
    finally:
        hang.set()
        functions.close(10)
    assert functions.busy_after_close == 0


# --- runs that do not end


def until_cancelled(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Compute until canceled, as onnxruntime does."""
    if event["body"] == "long":
        while not context.cancellation.cancelled:
            time.sleep(0.001)
        raise ValueError("terminated")
    return answer()


def test_a_run_on_the_loop_ends_at_its_deadline_and_the_next_one_runs_elsewhere() -> None:
    functions = hosting(Fakes({"f": until_cancelled}), loop_limit_s=0.05)

    async def test() -> None:
        hosted = functions._hosted["f"]
        for _ in range(10):
            await result_of(functions.invoke("f", "live", event("...."), 20))
        assert isinstance(functions.invoke("f", "live", event("...."), 20), Invocation)
        overdue = functions.invoke("f", "live", event("long"), 0.2)
        assert isinstance(overdue, Invocation)  # it blocked the loop
        assert (overdue.error, overdue.answer) == ("timed_out", None)
        assert "past its time limit" in overdue.message
        runs = hosted.runs_on_loop
        following = functions.invoke("f", "live", event("...."), 20)
        assert not isinstance(following, Invocation)
        assert (await following).error is None
        assert hosted.runs_on_loop == runs

    run(functions, test())


def test_every_run_on_the_loop_is_watched_even_after_a_pause() -> None:
    watchdog = Watchdog(period_s=0.001)
    for _ in range(3):
        cancellation = FakeCancellation()
        watchdog.begin(time.monotonic() + 0.01, cancellation)
        wait_until(lambda c=cancellation: c.cancelled, "the end of the run")
        watchdog.end()
        kept = FakeCancellation()
        watchdog.begin(time.monotonic() + 60, kept)
        time.sleep(0.05)  # the thread falls asleep after 20 checks of an idle loop
        watchdog.end()
        time.sleep(0.05)
        assert not kept.cancelled
    watchdog.close()


def test_runs_that_cannot_be_ended_free_their_slots() -> None:
    go = threading.Event()
    begun: list[str] = []

    def code(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        if event["body"] == "stuck":
            begun.append("stuck")
            go.wait(PATIENCE_S)
        return answer()

    functions = hosting(Fakes({"f": code}), running_limit=2, loop_limit_s=0, ending_s=0.05)
    worn: list[int] = []
    functions.notify_worn(lambda: worn.append(functions._threads._given_up))

    async def test() -> None:
        hosted = functions._hosted["f"]
        while len(begun) < MOST_GIVEN_UP:  # on a busy machine a call may expire before it has begun
            missing = min(2, MOST_GIVEN_UP - len(begun))
            outcomes = [functions.invoke("f", "live", event("stuck"), 0.05) for _ in range(missing)]
            assert {(await result_of(outcome)).error for outcome in outcomes} == {"timed_out"}
            assert (await result_of(functions.invoke("f", "live", event("fine"), 20))).error is None
        await wait_on_loop(lambda: bool(worn))
        assert worn == [MOST_GIVEN_UP]
        go.set()
        await wait_on_loop(lambda: functions._threads._given_up == 0 and hosted.running == 0)
        assert (await result_of(functions.invoke("f", "live", event("fine"), 20))).error is None

    run(functions, test())


def test_a_run_that_ends_soon_after_its_deadline_is_not_given_up() -> None:
    def code(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        return until_cancelled(event, context)

    functions = hosting(Fakes({"f": code}), running_limit=1, loop_limit_s=0, ending_s=0.2)

    async def test() -> None:
        assert (await result_of(functions.invoke("f", "live", event("long"), 0.05))).error == "timed_out"
        await wait_on_loop(lambda: functions._hosted["f"].running == 0)
        await asyncio.sleep(0.3)
        assert functions._threads._given_up == 0

    run(functions, test())


def test_functions_whose_cost_depends_on_values_never_run_on_the_loop() -> None:
    names: list[str] = []
    functions = hosting(Fakes({"f": recorder(names)}), off_loop=frozenset({"f"}), loop_limit_s=0.05)

    async def test() -> None:
        for _ in range(20):
            await result_of(functions.invoke("f", "live", event(), 20))

    run(functions, test())
    assert threading.main_thread().name not in names


# --- functions that end workers


def test_a_function_that_ended_two_workers_gets_a_503() -> None:
    functions = hosting(Fakes({"f": echo, "g": echo}), digests={"f": "1", "g": "2"})

    async def test() -> None:
        functions.note_deaths({"f": ("1", 2), "g": ("another", 2)})
        refused = await result_of(functions.invoke("f", "live", event(), 20))
        assert refused.answer is not None
        assert refused.answer["statusCode"] == 503
        body = json.loads(refused.answer["body"])
        assert body == {"error": "m v1 is not served: it has ended 2 processes", "code": "NOT_READY", "details": {}}
        assert (await result_of(functions.invoke("g", "live", event("{}"), 20))).answer == answer()
        functions.note_deaths({})
        assert (await result_of(functions.invoke("f", "live", event("{}"), 20))).answer == answer()

    run(functions, test())


def test_suspected_functions_run_one_at_a_time_and_never_on_the_loop() -> None:
    names: list[str] = []
    running: list[str] = []
    together: list[int] = []

    def code(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        names.append(threading.current_thread().name)
        running.append("")
        together.append(len(running))
        time.sleep(0.005)
        running.pop()
        return answer()

    functions = hosting(Fakes({"f": code, "g": code}), running_limit=4, digests={"f": "1", "g": "2"}, loop_limit_s=0.05)

    async def test() -> None:
        functions.note_deaths({"f": ("1", 1), "g": ("2", 1)})
        outcomes = [functions.invoke(name, "live", event(), 20) for _ in range(10) for name in "fg"]
        assert {(await result_of(outcome)).error for outcome in outcomes} == {None}

    run(functions, test())
    assert len(together) == 20
    assert set(together) == {1}
    assert threading.main_thread().name not in names


def test_running_functions_are_recorded_and_removed_afterwards() -> None:
    state = SharedState(1)
    seen: list[frozenset[int]] = []

    def code(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        seen.append(state.running.of(0))
        return answer()

    functions = hosting(Fakes({"f": code}), running=state.running, loop_limit_s=0.05)

    async def test() -> None:
        for _ in range(10):
            await result_of(functions.invoke("f", "live", event(), 20))
        await wait_on_loop(lambda: not state.running.of(0))

    run(functions, test())
    assert set(seen) == {frozenset({key_of("f")})}

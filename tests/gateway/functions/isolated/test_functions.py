"""Isolated functions with real processes: each misbehaves without affecting the others."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import orjson
import pytest

from tests.builders.isolated_project import (
    ANSWER,
    ASK_TWICE,
    CLOSE_ALL,
    EXIT,
    EXIT_LATER,
    FILL,
    FILL_AND_FREE,
    FILL_IN_CHILD,
    FLOOD,
    FORGE,
    FORK,
    GARBLE,
    HANG,
    KILL,
    REPORT,
    RUBBISH,
    SLEEP,
    SWELL,
    SYS_EXIT,
    TOO_MUCH_AT_ONCE,
    call,
    event_of,
    pid_of,
    play,
    processes_of,
)
from tests.builders.waiting import PATIENCE_S, wait_on_loop
from turnout.gateway.functions.invocation import Invocation
from turnout.gateway.functions.isolated.functions import IsolatedFunctions
from turnout.gateway.functions.isolated.isolated_function import ENVIRONMENT_BYTES
from turnout.gateway.functions.isolated.process import FunctionCode
from turnout.gateway.shared.session_budget import SessionBudget
from turnout.gateway.shared.state import SharedState
from turnout.protocol.requests.runs import AsyncRun, spell_run

CodeOf = Mapping[str, FunctionCode]


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "turnout.environments")
    caplog.set_level(logging.INFO, "turnout.printed")
    return caplog


def test_an_answer_is_that_of_the_function(code_of: CodeOf, logged: pytest.LogCaptureFixture) -> None:
    async def scenario(functions: IsolatedFunctions) -> None:
        invocation = await call(functions, 5, 7, "plain")
        assert invocation.error is None
        assert invocation.answer is not None
        assert invocation.answer["headers"]["x-turnout-version"] == "v1"
        assert orjson.loads(invocation.answer["body"])["outputs"][0]["data"] == [5.0, 7.0, 0.0, 0.0]
        assert functions.environments() == {"turnout-local_plain_v1": 1}

    play([code_of["plain"]], scenario)
    (line,) = [record.getMessage() for record in logged.records if "init" in record.getMessage()]
    assert line.startswith("plain v1: init ")
    assert line.endswith(" ms")


# action of the process -> the caller's error, and the log message
BAD = [
    pytest.param(EXIT, 0, "failed", "Runtime.ExitError: exit status 3", id="exits"),
    pytest.param(KILL, 0, "failed", "Runtime.ExitError: signal: killed", id="is-killed"),
    pytest.param(HANG, 0, "timed_out", "Sandbox.Timedout", id="hangs-and-ignores-sigterm"),
    pytest.param(FILL, 600, "failed", "Runtime.OutOfMemory", id="takes-too-much-memory"),
    pytest.param(TOO_MUCH_AT_ONCE, 64, "failed", "Runtime.OutOfMemory", id="asks-for-memory-that-it-cannot-have"),
    pytest.param(FILL_AND_FREE, 500, "failed", "Runtime.OutOfMemory", id="takes-too-much-memory-for-a-moment"),
    pytest.param(FILL_IN_CHILD, 500, "failed", "Runtime.OutOfMemory", id="takes-too-much-memory-in-a-child"),
    pytest.param(SWELL, 7, "too_large", "more than 6,291,556 bytes", id="answers-more-than-6-mb"),
]


@pytest.mark.parametrize(("action", "argument", "error", "reason"), BAD)
def test_a_process_that_ends_loses_only_its_own_call(
    code_of: CodeOf, logged: pytest.LogCaptureFixture, action: int, argument: float, error: str, reason: str
) -> None:
    async def scenario(functions: IsolatedFunctions) -> None:
        first = pid_of(await call(functions, ANSWER))
        neighbour = pid_of(await call(functions, ANSWER, model="alone"))
        slow = asyncio.ensure_future(call(functions, SLEEP, 0.5, "alone"))
        invocation = await call(functions, action, argument, timeout_s=2 if action == HANG else 60)
        assert (invocation.answer, invocation.error) == (None, error)
        assert pid_of(await slow) == neighbour
        again = pid_of(await call(functions, ANSWER))
        assert again != first
        assert first not in processes_of([code_of["wild"]])

    play([code_of["wild"], code_of["alone"]], scenario)
    assert any(reason in record.getMessage() for record in logged.records), logged.text


ODD = [
    pytest.param(FLOOD, 20, 200, id="prints-megabytes"),
    pytest.param(RUBBISH, 0, 200, id="writes-rubbish-to-the-runtime-api"),
    pytest.param(FORGE, 0, 200, id="posts-for-requests-that-are-not-its-own"),
    pytest.param(ASK_TWICE, 0, 200, id="asks-for-an-event-amid-a-call"),
    pytest.param(CLOSE_ALL, 0, 200, id="closes-its-connection"),
    pytest.param(SYS_EXIT, 0, 500, id="raises-system-exit"),
]


@pytest.mark.parametrize(("action", "argument", "status"), ODD)
def test_a_process_with_harmless_oddities_stays_alive(
    code_of: CodeOf, action: int, argument: float, status: int
) -> None:
    async def scenario(functions: IsolatedFunctions) -> None:
        first = pid_of(await call(functions, ANSWER))
        invocation = await call(functions, action, argument)
        assert invocation.answer is not None, invocation
        assert invocation.answer["statusCode"] == status
        assert pid_of(await call(functions, ANSWER)) == first

    play([code_of["wild"]], scenario)


def test_an_answer_that_is_not_json_is_a_failure(code_of: CodeOf) -> None:
    async def scenario(functions: IsolatedFunctions) -> None:
        invocation = await call(functions, GARBLE)
        assert (invocation.answer, invocation.error) == (None, "failed")
        assert "not JSON" in invocation.message

    play([code_of["wild"]], scenario)


def test_printed_text_is_logged_limited_and_escaped(code_of: CodeOf, logged: pytest.LogCaptureFixture) -> None:
    async def scenario(functions: IsolatedFunctions) -> None:
        await call(functions, FLOOD, 20)
        await call(functions, FLOOD, 0)

    play([code_of["wild"]], scenario)
    lines = [record.getMessage() for record in logged.records if record.name == "turnout.printed"]
    assert sum(map(len, lines)) < 4 * 1024 * 1024
    assert all(line.startswith("wild v1: ") and line.isascii() and line.isprintable() for line in lines)
    assert any(line.endswith("more bytes") for line in lines)
    assert any("bytes were dropped" in line for line in lines)


def test_concurrent_calls_run_in_their_own_environments_up_to_the_limit(code_of: CodeOf) -> None:
    async def scenario(functions: IsolatedFunctions) -> None:
        seen: set[int] = set()
        sampling = True

        async def call_on() -> None:
            while sampling:
                seen.add(pid_of(await call(functions, SLEEP, 0.05)))

        # On a busy machine the first environment can answer many calls before the second has started.
        callers = [asyncio.ensure_future(call_on()) for _ in range(5)]
        await wait_on_loop(lambda: len(seen) >= 2 or any(one.done() for one in callers), "two environments")
        sampling = False
        await asyncio.gather(*callers)
        assert functions.environments() == {"turnout-local_wild_v1": 2}
        assert len(seen | {pid_of(await call(functions, ANSWER)) for _ in range(6)}) == 2

    play([code_of["wild"]], scenario, environments=2)


def test_asynchronous_run_takes_no_environment_from_synchronous_calls(code_of: CodeOf) -> None:
    async def scenario(functions: IsolatedFunctions) -> None:
        def run(seconds: float) -> asyncio.Future[Invocation]:
            event = event_of(SLEEP, seconds) | {"turnout": spell_run(AsyncRun(max_answer_bytes=1000), 0.5)}
            called = functions.invoke("turnout-local_wild_v1", "live", event, PATIENCE_S)
            assert not isinstance(called, Invocation)
            return asyncio.ensure_future(called)

        first = pid_of(await call(functions, ANSWER))
        long = run(600)
        beside = [pid_of(await call(functions, ANSWER)) for _ in range(3)]
        assert first not in beside
        assert len(set(beside)) == 1
        assert not long.done()
        assert functions.environments() == {"turnout-local_wild_v1": 2}
        waiting = [asyncio.ensure_future(call(functions, SLEEP, 0.1)) for _ in range(3)]
        assert {pid_of(invocation) for invocation in await asyncio.gather(*waiting)} == set(beside), "the limit holds"
        os.kill(first, signal.SIGKILL)
        assert (await long).error == "failed"
        short = [pid_of(await run(0)) for _ in range(3)]
        assert set(short) == set(beside), "a free one is used"
        assert functions.environments() == {"turnout-local_wild_v1": 1}

    play([code_of["wild"]], scenario, environments=1)


def test_one_environment_is_reused(code_of: CodeOf) -> None:
    async def scenario(functions: IsolatedFunctions) -> None:
        assert len({pid_of(await call(functions, ANSWER)) for _ in range(50)}) == 1

    play([code_of["wild"]], scenario, environments=4)


def test_reserved_concurrency_is_kept(code_of: CodeOf) -> None:
    async def scenario(functions: IsolatedFunctions) -> None:
        running = asyncio.ensure_future(call(functions, SLEEP, 0.3, "alone"))
        await asyncio.sleep(0)
        refused = await call(functions, ANSWER, model="alone")
        assert refused.error == "throttled"
        await running
        pid_of(await call(functions, ANSWER, model="alone"))
        assert (await call(functions, ANSWER, model="none")).error == "throttled"

    play([code_of["alone"], code_of["none"]], scenario, environments=4)


def test_waiting_calls_beyond_the_limit_are_throttled(code_of: CodeOf) -> None:
    async def scenario(functions: IsolatedFunctions) -> None:
        calls = [asyncio.ensure_future(call(functions, SLEEP, 0.2)) for _ in range(4)]
        result = await asyncio.gather(*calls)
        assert [one.error for one in result] == [None, None, "throttled", "throttled"]

    play([code_of["wild"]], scenario, environments=1, waiting=2)


def test_a_call_that_waits_too_long_times_out_and_the_running_one_does_not(code_of: CodeOf) -> None:
    async def scenario(functions: IsolatedFunctions) -> None:
        pid_of(await call(functions, ANSWER))
        running = asyncio.ensure_future(call(functions, SLEEP, 1))
        await asyncio.sleep(0)
        waiting = await call(functions, ANSWER, timeout_s=0.2)
        assert waiting.error == "timed_out"
        assert "waited" in waiting.message
        pid_of(await running)

    play([code_of["wild"]], scenario, environments=1)


def test_a_disconnected_caller_affects_no_other_call(code_of: CodeOf) -> None:
    async def scenario(functions: IsolatedFunctions) -> None:
        first = pid_of(await call(functions, ANSWER))
        left = asyncio.ensure_future(call(functions, SLEEP, 0.2))
        gone = asyncio.ensure_future(call(functions, ANSWER))
        await asyncio.sleep(0.05)
        left.cancel()
        gone.cancel()
        assert pid_of(await call(functions, ANSWER)) == first

    play([code_of["wild"]], scenario, environments=1)


def test_idle_environments_are_ended_and_busy_ones_are_not(code_of: CodeOf) -> None:
    async def scenario(functions: IsolatedFunctions) -> None:
        pid_of(await call(functions, FORK))
        assert pid_of(await call(functions, SLEEP, 1)) > 0
        await wait_on_loop(lambda: not functions.environments(), "scale to zero")
        assert processes_of([code_of["wild"]]) == set(), "its children are ended with it"
        pid_of(await call(functions, ANSWER))

    play([code_of["wild"]], scenario, idle_s=0.3)


def test_an_idle_process_is_ended_if_another_needs_its_memory_and_a_busy_one_is_not(code_of: CodeOf) -> None:
    state = SharedState(1)
    state.become(0)
    budget = SessionBudget(ENVIRONMENT_BYTES, state.sessions, lambda: None, in_process=False)

    async def scenario(functions: IsolatedFunctions) -> None:
        first = pid_of(await call(functions, ANSWER))
        await wait_on_loop(lambda: len(functions._functions[code_of["wild"].function.name]._free) == 1)
        plain = functions._functions[code_of["plain"].function.name]
        assert await plain.load() == ""
        await wait_on_loop(lambda: functions.environments() == {plain.function.name: 1}, "the idle process to end")
        busy = asyncio.ensure_future(call(functions, SLEEP, 1))
        await wait_on_loop(lambda: functions.occupancy().running == 1, "a call to run")
        assert await plain.load() == ""
        assert pid_of(await busy) != first

    play([code_of["wild"], code_of["plain"]], scenario, budget=budget)
    assert state.sessions.read()[0].loads == 4
    assert state.sessions.read()[0].evictions >= 2


def test_a_process_that_ends_while_idle_is_replaced_only_at_the_next_call(code_of: CodeOf) -> None:
    async def scenario(functions: IsolatedFunctions) -> None:
        first = pid_of(await call(functions, EXIT_LATER, 0.05))
        await wait_on_loop(lambda: not functions.environments(), "the end of the process")
        await asyncio.sleep(0.2)
        assert functions.environments() == {}
        assert pid_of(await call(functions, ANSWER)) != first

    play([code_of["wild"]], scenario)


@pytest.mark.parametrize("pause_s", [0.0, 0.0005, 0.002, 0.01, 0.1])
def test_a_process_killed_while_idle_loses_no_call(code_of: CodeOf, pause_s: float) -> None:
    """Even if the next call follows immediately: a call that a dead process has not read is given to another
    process.
    """

    async def scenario(functions: IsolatedFunctions) -> None:
        pid = pid_of(await call(functions, ANSWER))
        hosted = functions._functions[code_of["wild"].function.name]
        for _ in range(6):
            await wait_on_loop(lambda: len(hosted._free) == 1, "the process to ask for an event")
            os.kill(pid, signal.SIGKILL)
            time.sleep(pause_s)  # noqa: ASYNC251 - the loop must not notice
            following = pid_of(await call(functions, ANSWER))
            assert following != pid
            pid = following

    play([code_of["wild"]], scenario, environments=1)


def test_a_call_that_would_wait_past_its_deadline_is_throttled(code_of: CodeOf) -> None:
    async def scenario(functions: IsolatedFunctions) -> None:
        pid_of(await call(functions, SLEEP, 0.0))
        pid_of(await call(functions, SLEEP, 1.0))
        calls = [asyncio.ensure_future(call(functions, SLEEP, 1.0, timeout_s=8)) for _ in range(20)]
        results = [one.error for one in await asyncio.gather(*calls)]
        refused = results.index("throttled")
        assert 2 <= refused <= 8
        assert results[:refused] == [None] * refused
        assert set(results[refused:]) == {"throttled"}

    play([code_of["wild"]], scenario, environments=1)


def test_a_disconnected_caller_leaves_the_queue_and_releases_its_slot(code_of: CodeOf) -> None:
    async def scenario(functions: IsolatedFunctions) -> None:
        running = asyncio.ensure_future(call(functions, SLEEP, 0.5, "alone"))
        await asyncio.sleep(0)
        hosted = functions._functions[code_of["alone"].function.name]
        assert len(hosted._waiting) == 1
        running.cancel()
        await asyncio.sleep(0)
        await wait_on_loop(lambda: not hosted._waiting, "the call to leave the queue")
        pid_of(await call(functions, ANSWER, model="alone"))

    play([code_of["alone"]], scenario, environments=1)


def test_a_kill_under_load_loses_only_the_calls_of_the_killed_process(code_of: CodeOf) -> None:
    async def scenario(functions: IsolatedFunctions) -> None:
        killed: set[int] = set()
        failed = 0

        async def load() -> None:
            nonlocal failed
            for number in range(60):
                invocation = await call(functions, SLEEP, 0.005)
                if invocation.error is not None:
                    assert invocation.error == "failed", invocation
                    failed += 1
                elif number % 20 == 10 and (pid := pid_of(invocation)) not in killed:
                    os.kill(pid, signal.SIGKILL)
                    killed.add(pid)

        await asyncio.gather(*(load() for _ in range(4)))
        assert len(killed) >= 3
        assert failed <= len(killed)

    play([code_of["wild"]], scenario)


def test_a_process_killed_during_its_init_is_restarted(code_of: CodeOf) -> None:
    async def scenario(functions: IsolatedFunctions) -> None:
        calls = asyncio.gather(*(call(functions, ANSWER) for _ in range(3)))
        seen: list[int] = []  # a check may miss a process that is just executing another program
        await wait_on_loop(
            lambda: bool(seen or seen.extend(processes_of([code_of["wild"]])) or seen), "the first process"
        )
        pid = seen[0]
        os.kill(pid, signal.SIGKILL)
        assert pid not in {pid_of(one) for one in await calls}

    play([code_of["wild"]], scenario, environments=1)


INITS = [
    pytest.param("raises", "ValueError: no such weights", id="raises"),
    pytest.param("exits", "Runtime.ExitError: exit status 7", id="exits"),
]


@pytest.mark.parametrize(("model", "reason"), INITS)
def test_a_failed_init_is_reported_to_all_waiting_calls(
    code_of: CodeOf, logged: pytest.LogCaptureFixture, model: str, reason: str
) -> None:
    async def scenario(functions: IsolatedFunctions) -> None:
        for _ in range(2):
            result = await asyncio.gather(*(call(functions, ANSWER, model=model) for _ in range(5)))
            assert {one.error for one in result} == {"failed"}
            assert all(reason in one.message for one in result), result
        assert functions.environments() == {}, "nobody starts it again until it is called"

    play([code_of[model]], scenario)
    assert any(reason in record.getMessage() for record in logged.records if record.name == "turnout.environments")


def test_repeatedly_failing_inits_are_not_retried_at_each_call(
    code_of: CodeOf, logged: pytest.LogCaptureFixture
) -> None:
    async def scenario(functions: IsolatedFunctions) -> None:
        for _ in range(50):
            assert (await call(functions, ANSWER, model="exits")).error == "failed"

    play([code_of["exits"]], scenario, environments=1)
    assert 1 < sum("init failed after" in record.getMessage() for record in logged.records) < 10


def test_an_init_does_not_count_against_the_timeout_of_the_function(code_of: CodeOf) -> None:
    async def scenario(functions: IsolatedFunctions) -> None:
        assert (await call(functions, ANSWER, model="slow")).error is None

    play([code_of["slow"]], scenario)


def test_a_hanging_init_times_out(code_of: CodeOf) -> None:
    async def scenario(functions: IsolatedFunctions) -> None:
        invocation = await call(functions, ANSWER, model="stuck", timeout_s=2)
        assert invocation.error == "timed_out"
        assert functions.environments() == {"turnout-local_stuck_v1": 1}

    play([code_of["stuck"]], scenario)


def test_a_process_has_the_environment_of_lambda_and_nothing_of_the_gateway(
    code_of: CodeOf, monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the gateway's own")
    code = code_of["wild"]

    async def scenario(functions: IsolatedFunctions) -> None:
        await call(functions, REPORT)

    play([code], scenario)
    line = next(line for line in logged.messages if line.startswith("wild v1: seen "))
    seen = json.loads(line.removeprefix("wild v1: seen "))
    environ = seen["environ"]
    assert "the gateway's own" not in environ.values()
    assert set(environ) - {"LC_CTYPE"} == {
        *("AWS_DEFAULT_REGION", "AWS_REGION", "LANG", "TZ", "PATH", "_HANDLER", "_X_AMZN_TRACE_ID"),
        *("AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE"),
        *("AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_INITIALIZATION_TYPE"),
        *("AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR", "HOME", "TMPDIR"),
        "ORT_DISABLE_TELEMETRY",
        *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
    }
    assert environ["_X_AMZN_TRACE_ID"] == "Root=1-0-0"
    assert environ["AWS_LAMBDA_FUNCTION_NAME"] == "turnout-local_wild_v1"
    assert environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "256"
    assert environ["AWS_LAMBDA_LOG_GROUP_NAME"] == "/aws/lambda/turnout-local_wild_v1"
    assert environ["LAMBDA_TASK_ROOT"] == str(code.task)
    assert seen["cwd"] == str(code.task.resolve())
    assert seen["path"][:3] == [str(code.task), str(code.layer / "python"), str(code.runtime)]
    assert not [path for path in seen["path"] if "site-packages" in path]
    assert seen["files"] == [1024, 1024]
    assert seen["group"] == seen["session"]
    assert seen["descriptors"] < 20


def test_unknown_functions_and_aliases_are_rejected(code_of: CodeOf) -> None:
    async def scenario(functions: IsolatedFunctions) -> None:
        for name, alias in [("turnout-local_plain_v1", "old"), ("turnout-local_plain_v9", "live")]:
            result = functions.invoke(name, alias, event_of(ANSWER), 1)
            assert isinstance(result, Invocation)
            assert result.error == "unknown_function"

    play([code_of["plain"]], scenario)


def test_preloading_starts_one_environment_for_each_function(code_of: CodeOf) -> None:
    async def scenario(functions: IsolatedFunctions) -> None:
        seen = []
        await functions.preload(seen.append)
        assert {(entry.function.model, bool(entry.reason)) for entry in seen} == {("plain", False), ("exits", True)}
        assert [entry.done for entry in seen] == [1, 2]
        assert functions.environments() == {"turnout-local_plain_v1": 1}
        await functions.preload()
        assert functions.environments() == {"turnout-local_plain_v1": 1}

    play([code_of["plain"], code_of["exits"]], scenario)


def test_no_process_is_left_even_if_the_warden_is_killed(code_of: CodeOf) -> None:
    async def scenario(functions: IsolatedFunctions) -> None:
        pid_of(await call(functions, ANSWER))
        (warden,) = [pid for pid in children() if b"warden.py" in command_of(pid)]
        os.kill(warden, signal.SIGKILL)
        invocation = await call(functions, EXIT)
        assert invocation.error == "failed"
        invocation = await call(functions, FILL, 600)  # the new warden watches
        assert "OutOfMemory" in invocation.message

    play([code_of["wild"]], scenario)


def children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def command_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()

from __future__ import annotations

import asyncio
import threading

import pytest

from router_lambda.tasks import MOST_BESIDE, AsyncioTasks, Tasks, ThreadTasks, run_to_end
from tests.builders.waiting import PATIENCE_S


async def give(value: int) -> int:
    return value


async def throw() -> int:
    raise ZeroDivisionError("as told")


async def gathered(tasks: Tasks) -> list[int]:
    return await tasks.gather(give(number) for number in range(5))


def test_results_are_in_order() -> None:
    assert run_to_end(gathered(ThreadTasks())) == asyncio.run(gathered(AsyncioTasks())) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("position", [0, 1, 2])
def test_an_exception_of_one_coroutine_is_raised(position: int) -> None:
    async def work(tasks: Tasks) -> list[int]:
        return await tasks.gather(throw() if number == position else give(number) for number in range(3))

    with pytest.raises(ZeroDivisionError):
        run_to_end(work(ThreadTasks()))
    with pytest.raises(ZeroDivisionError):
        asyncio.run(work(AsyncioTasks()))


def test_threads_run_concurrently_and_the_last_coroutine_runs_in_this_thread() -> None:
    together = threading.Barrier(3, timeout=PATIENCE_S)

    async def meet() -> str:
        together.wait()
        return threading.current_thread().name

    async def work() -> list[str]:
        return await ThreadTasks().gather(meet() for _ in range(3))

    names = run_to_end(work())
    assert len(set(names)) == 3
    assert names[-1] == threading.current_thread().name


def test_a_background_thread_does_not_delay_the_caller() -> None:
    begun, gate, ended = threading.Event(), threading.Event(), threading.Event()

    async def wait() -> None:
        begun.set()
        gate.wait(PATIENCE_S)
        ended.set()

    ThreadTasks().start(wait())
    assert begun.wait(PATIENCE_S)
    assert not ended.is_set()
    gate.set()
    assert ended.wait(PATIENCE_S)


def test_background_tasks_beyond_the_limit_are_dropped(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> tuple[int, int]:
        tasks, gate, done = AsyncioTasks(), asyncio.Event(), []

        async def wait() -> None:
            await gate.wait()
            done.append(1)

        for _ in range(MOST_BESIDE + 1):
            tasks.start(wait())
        gate.set()
        await asyncio.gather(*tasks._beside)
        first = len(done)
        tasks.start(wait())
        await asyncio.gather(*tasks._beside)
        return first, len(done)

    assert asyncio.run(work()) == (MOST_BESIDE, MOST_BESIDE + 1)
    assert "another one was dropped" in caplog.text


def test_a_coroutine_that_suspends_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="waits for an event loop"):
        run_to_end(asyncio.sleep(0))

"""Threads that run what would block the event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from turnout.gateway.functions.in_process.threads import LoopThread, Threads


def test_an_idle_thread_is_used_before_a_new_one_starts() -> None:
    threads = Threads()
    names = set()
    for _ in range(20):
        done = threading.Event()

        def job(done: threading.Event = done) -> None:
            names.add(threading.current_thread().name)
            done.set()

        threads.submit(job)
        assert done.wait(10)
    assert len(names) <= 2  # a thread is idle shortly after its job has reported
    assert threads.close(10) == 0


def test_all_submitted_jobs_run_concurrently() -> None:
    threads = Threads()
    barrier = threading.Barrier(21)
    for _ in range(20):
        threads.submit(barrier.wait)
    barrier.wait(10)  # breaks unless all twenty run
    assert threads.close(10) == 0


def test_a_job_that_raises_does_not_end_its_thread(caplog: pytest.LogCaptureFixture) -> None:
    threads = Threads()
    done = threading.Event()

    def fail() -> None:
        raise ValueError("from the job")

    threads.submit(fail)
    threads.submit(done.set)
    assert done.wait(10)
    assert threads.close(10) == 0
    assert "from the job" in caplog.text


def test_close_reports_jobs_that_do_not_end() -> None:
    threads = Threads()
    hanging = threading.Event()
    threads.submit(lambda: hanging.wait(60) and None)
    assert threads.close(0.05) == 1
    hanging.set()
    assert threads.close(10) == 0


def test_nothing_can_be_submitted_after_close() -> None:
    threads = Threads()
    threads.close()
    with pytest.raises(RuntimeError):
        threads.submit(lambda: None)


def test_a_thread_that_never_started_ends_immediately() -> None:
    assert LoopThread().close(0)


def test_end_cancels_waiting_work() -> None:
    beside, ended = LoopThread(), threading.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def test() -> None:
        waiting = [beside.run(wait()) for _ in range(3)]
        await beside.run(asyncio.sleep(0))
        assert beside.close(20)
        for future in waiting:
            with pytest.raises(asyncio.CancelledError):
                await future

    asyncio.run(asyncio.wait_for(test(), 30))
    assert ended.is_set()


def test_a_thread_that_keeps_computing_is_left_running() -> None:
    beside, started, release = LoopThread(), threading.Event(), threading.Event()

    async def compute() -> None:
        started.set()
        release.wait(20)

    async def test() -> None:
        computing = beside.run(compute())
        await asyncio.to_thread(started.wait, 20)
        assert not beside.close(0)
        release.set()
        assert beside.close(20)
        await asyncio.wait([computing])

    asyncio.run(asyncio.wait_for(test(), 30))

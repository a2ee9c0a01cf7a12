"""Threads that take what would hold up the event loop."""

from __future__ import annotations

import threading

import pytest

from turnout.gateway.functions.in_process.threads import Threads


def test_an_idle_thread_is_taken_before_a_new_one_starts() -> None:
    threads = Threads()
    names = set()
    for _ in range(20):
        done = threading.Event()

        def job(done: threading.Event = done) -> None:
            names.add(threading.current_thread().name)
            done.set()

        threads.submit(job)
        assert done.wait(10)
    assert len(names) <= 2  # a thread is spare a moment after its job has told
    assert threads.close(10) == 0


def test_as_many_jobs_run_at_once_as_there_are() -> None:
    threads = Threads()
    barrier = threading.Barrier(21)
    for _ in range(20):
        threads.submit(barrier.wait)
    barrier.wait(10)  # breaks unless all twenty are there
    assert threads.close(10) == 0


def test_a_job_that_raises_does_not_take_its_thread_along(caplog: pytest.LogCaptureFixture) -> None:
    threads = Threads()
    done = threading.Event()

    def fail() -> None:
        raise ValueError("from the job")

    threads.submit(fail)
    threads.submit(done.set)
    assert done.wait(10)
    assert threads.close(10) == 0
    assert "from the job" in caplog.text


def test_close_tells_of_jobs_that_do_not_end() -> None:
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

"""Background work outside the event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from turnout.gateway.functions.deferred import Deferred, is_encoded


def test_jobs_run_in_a_thread_and_results_reach_the_loop_in_order() -> None:
    async def run() -> None:
        deferred = Deferred("test")
        here = threading.get_ident()
        results: list[tuple[int, bool, bool]] = []
        done = asyncio.Event()

        def then(result: tuple[int, int]) -> None:
            results.append((result[0], result[1] == here, threading.get_ident() == here))
            if len(results) == 10:
                done.set()

        for number in range(10):
            assert deferred.submit(1, lambda number=number: (number, threading.get_ident()), then)  # type: ignore[misc]
        await asyncio.wait_for(done.wait(), 30)
        assert results == [(number, False, True) for number in range(10)]
        deferred.finish(30)

    asyncio.run(run())


def test_jobs_beyond_the_limit_are_dropped_and_counted_until_there_is_space(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        deferred = Deferred("test", most_bytes=10)
        go, done = threading.Event(), asyncio.Event()
        assert deferred.submit(10, lambda: go.wait(30), lambda _: done.set())
        assert not deferred.submit(1, bool, bool)
        assert not deferred.submit(1, bool, bool)
        assert deferred.dropped == 2
        go.set()
        await asyncio.wait_for(done.wait(), 30)
        assert deferred.submit(10, bool, bool)
        deferred.finish(30)

    asyncio.run(run())
    assert len(caplog.records) == 1


def test_finish_delivers_the_remaining_results_and_a_job_that_raises_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def run() -> None:
        deferred = Deferred("test")
        results: list[int] = []
        assert deferred.submit(1, lambda: 1 // 0, results.append)
        assert deferred.submit(1, lambda: 7, results.append)
        deferred.finish(30)  # the loop cannot run in the meantime
        assert results == [7]

    asyncio.run(run())
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("name", ["Content-Encoding", "content-encoding", "CONTENT-encoding"])
def test_a_content_encoding_is_found_in_any_spelling(name: str) -> None:
    assert is_encoded({"Host": "x", name: "gzip"})
    assert not is_encoded({"Accept-Encoding": "gzip", "Content-Language": "en"})

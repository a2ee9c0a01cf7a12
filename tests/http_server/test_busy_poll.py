from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from turnout.http_server.busy_poll import BusyPoll


class Loop:
    """Runs callbacks of `call_soon` one at a time, on request."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], Any]] = []

    def call_soon(self, callback: Callable[[], Any]) -> None:
        self.soon.append(callback)

    def turn(self) -> int:
        """Run one iteration; return the number of callbacks in it."""
        due, self.soon = self.soon, []
        for callback in due:
            callback()
        return len(due)


def polled() -> tuple[BusyPoll, Loop, list[float]]:
    loop, now = Loop(), [0.0]
    poll = BusyPoll(loop, awake_s=1.0, clock=lambda: now[0])  # type: ignore[arg-type]
    return poll, loop, now


def test_loop_sleeps_until_something_was_read() -> None:
    _, loop, _ = polled()

    assert loop.turn() == 0


def test_loop_stays_awake_for_a_while_after_a_request_and_then_sleeps() -> None:
    poll, loop, now = polled()
    poll.prolong()

    assert [loop.turn(), loop.turn()] == [1, 1]
    now[0] = 1.0
    assert [loop.turn(), loop.turn()] == [1, 0]


def test_each_request_extends_the_poll_and_none_adds_a_second_one() -> None:
    poll, loop, now = polled()
    poll.prolong()
    loop.turn()
    for moment in (0.9, 1.8, 2.7):
        now[0] = moment
        poll.prolong()
        poll.prolong()
        assert loop.turn() == 1
    now[0] = 3.8
    assert [loop.turn(), loop.turn()] == [1, 0]

    poll.prolong()
    assert loop.turn() == 1


def test_real_loop_ends_its_poll() -> None:
    async def stay_awake() -> None:
        BusyPoll(asyncio.get_running_loop(), awake_s=0.001).prolong()
        await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(stay_awake(), 10))

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from typing import Any

import orjson
import pytest

from tests.builders.waiting import PATIENCE_S
from turnout.console.streams import Pulse, send_rows
from turnout.problems import TurnoutError


class Maker:
    """Makes pulses, and counts them."""

    made = 0
    error: Exception | None = None

    def __call__(self) -> dict[str, Any]:
        self.made += 1
        if self.error is not None:
            raise self.error
        return {"number": self.made}


def parse(event: bytes) -> dict[str, Any]:
    assert event.startswith(b"event: pulse\ndata: ")
    assert event.endswith(b"\n\n")
    result: dict[str, Any] = orjson.loads(event[len(b"event: pulse\ndata: ") :])
    return result


def test_streams_at_the_same_time_share_one_pulse() -> None:
    now = [0.0]
    make = Maker()
    pulse = Pulse(make, 1.0, lambda: now[0])

    async def first_two() -> list[dict[str, Any]]:
        streams = [pulse.follow() for _ in range(5)]
        assert {await anext(stream) for stream in streams} == {b"retry: 1000\n\n"}
        events = [parse(await anext(stream)) for stream in streams]
        now[0] = 1.0
        events.append(parse(await anext(streams[0])))
        for stream in streams:
            await stream.aclose()
        return events

    events = asyncio.run(first_two())
    assert [event["number"] for event in events] == [1, 1, 1, 1, 1, 2]
    assert events[0]["every_s"] == 1.0


def test_streams_wait_for_the_same_pulse_and_one_may_end_without_affecting_others() -> None:
    go, make = threading.Event(), Maker()

    def make_slowly() -> dict[str, Any]:
        assert go.wait(PATIENCE_S)
        return make()

    pulse = Pulse(make_slowly, 1.0, lambda: 0.0)

    async def read() -> list[dict[str, Any]]:
        waiting = [asyncio.create_task(pulse.read()) for _ in range(5)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await waiting[0]
        return [orjson.loads(data) for data in await asyncio.gather(*waiting[1:], pulse.read())]

    assert [data["number"] for data in asyncio.run(read())] == [1] * 5


def test_an_error_while_reading_becomes_a_warning_and_the_stream_continues() -> None:
    make = Maker()
    now = [0.0]
    pulse = Pulse(make, 1.0, lambda: now[0])
    for error, words in ((TurnoutError("the record is odd"), "the record is odd"), (FileNotFoundError("gone"), "gone")):
        make.error = error
        now[0] += 1
        result = orjson.loads(asyncio.run(pulse.read()))
        assert (result["warning"], result["canaries"]) == (words, {})
    make.error = None
    now[0] += 1
    assert orjson.loads(asyncio.run(pulse.read()))["number"] == 3


def rows_of(ended: list[str], error: Exception | None = None) -> Generator[dict[str, Any]]:
    try:
        yield {"done": 1}
        yield {"done": 2}
        if error is not None:
            raise error
    finally:
        ended.append("closed")


async def collect(rows: Generator[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    stream = send_rows(rows)
    results = []
    async for line in stream:
        assert line.endswith(b"\n")
        results.append(orjson.loads(line))
        if len(results) == count:
            break
    await stream.aclose()
    return results


def test_rows_are_sent_one_per_line_and_an_error_last() -> None:
    ended: list[str] = []
    assert asyncio.run(collect(rows_of(ended), 9)) == [{"done": 1}, {"done": 2}]
    failing = rows_of(ended, TurnoutError("no server", "Start one."))
    assert asyncio.run(collect(failing, 9))[2:] == [{"error": "no server", "hint": "Start one."}]
    assert ended == ["closed", "closed"]


def test_a_closed_stream_of_rows_ends_the_work() -> None:
    ended: list[str] = []
    assert asyncio.run(collect(rows_of(ended), 1)) == [{"done": 1}]
    assert ended == ["closed"]

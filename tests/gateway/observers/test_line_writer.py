"""Buffered lines of the access log."""

from __future__ import annotations

import asyncio
import errno
import io

import pytest

from turnout.gateway.observers.line_writer import LineWriter


class Broken(io.StringIO):
    """A pipe whose reader is gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError("gone")


class Counting(io.StringIO):
    writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)


def test_lines_of_the_same_moment_are_written_together() -> None:
    stream = Counting()

    async def test() -> None:
        writer = LineWriter(stream, delay_s=0.001)
        for number in range(100):
            writer.write(f"line {number}")
        assert stream.getvalue() == ""
        while not stream.getvalue():  # noqa: ASYNC110 - it waits for a timer
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(test(), 10))
    assert stream.getvalue().splitlines() == [f"line {number}" for number in range(100)]
    assert stream.writes == 1


def test_buffered_lines_are_written_at_the_end() -> None:
    stream = io.StringIO()
    writer = LineWriter(stream, delay_s=60)

    async def test() -> None:
        writer.write("last words")

    asyncio.run(test())
    writer.flush()
    writer.flush()
    assert stream.getvalue() == "last words\n"


class FullDisk(io.StringIO):
    """A disk that accepts nothing for a while."""

    is_full = False

    def write(self, text: str) -> int:
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)


def write_each(writer: LineWriter, *lines: str) -> None:
    async def test() -> None:
        for line in lines:
            writer.write(line)
            writer.flush()

    asyncio.run(test())


def test_a_broken_stream_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    write_each(LineWriter(Broken(), delay_s=60), "one", "two", "three")
    assert caplog.text.count("the access log cannot be written") == 1


def test_a_disk_with_space_again_gets_the_later_lines(caplog: pytest.LogCaptureFixture) -> None:
    stream = FullDisk()
    writer = LineWriter(stream, delay_s=60)
    for is_full, line in ((False, "one"), (True, "two"), (True, "three"), (False, "four"), (False, "five")):
        stream.is_full = is_full
        write_each(writer, line)
    assert stream.getvalue().splitlines() == ["one", "four", "five"]
    assert caplog.text.count("No space left") == 1
    assert caplog.text.count("can be written again") == 1

"""Printed text as limited lines."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from turnout.gateway.functions.isolated.output import (
    BYTES_PER_S,
    LINE_BYTES,
    LINES_PER_S,
    READ_BYTES,
    Drain,
    Lines,
    escape_line,
)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"plain text", "plain text"),
        (b"a\\b", "a\\\\b"),
        (b"\x1b[31mred", "\\x1b[31mred"),
        ("é → \U0001d6fc".encode(), "\\xe9 \\u2192 \\U0001d6fc"),
        (b"\xff", "\\xff"),
        ("\u00a0\u00a0indented".encode(), "  indented"),
        (b"", ""),
    ],
)
def test_a_line_is_printable_ascii(line: bytes, expected: str) -> None:
    assert escape_line(line) == expected


def lines_of(feed: Callable[[Lines, Clock], None]) -> list[str]:
    reported: list[str] = []
    clock = Clock()
    lines = Lines(reported.append, clock)
    feed(lines, clock)
    lines.close()
    return reported


def test_lines_end_at_line_breaks_in_any_chunks() -> None:
    def feed(lines: Lines, _: Clock) -> None:
        for piece in (b"one\ntw", b"o\r\n", b"\n\nthree\rfo", b"ur"):
            lines.feed(piece)

    assert lines_of(feed) == ["one", "two", "three", "four"]


def test_a_long_line_is_truncated_and_the_rest_counted() -> None:
    def feed(lines: Lines, _: Clock) -> None:
        for _ in range(3):
            lines.feed(b"x" * LINE_BYTES)
        lines.feed(b"\nnext\n")

    assert lines_of(feed) == ["x" * LINE_BYTES + f" ... {2 * LINE_BYTES:,} more bytes", "next"]


def test_too_many_lines_in_a_second_are_dropped_and_counted() -> None:
    def feed(lines: Lines, clock: Clock) -> None:
        lines.feed(b"a\n" * (LINES_PER_S + 7))
        assert lines.is_flooded
        clock.now += 1
        assert not lines.is_flooded
        lines.feed(b"b\n")

    assert lines_of(feed) == ["a"] * LINES_PER_S + ["printed too much: 14 bytes were dropped", "b"]


def test_too_many_bytes_in_a_second_are_dropped() -> None:
    def feed(lines: Lines, _: Clock) -> None:
        for _ in range(BYTES_PER_S // LINE_BYTES + 1):
            lines.feed(b"x" * LINE_BYTES + b"\n")
        lines.drop(1000)

    reported = lines_of(feed)
    assert len(reported) == BYTES_PER_S // LINE_BYTES + 1
    assert reported[-1] == f"printed too much: {LINE_BYTES + 1001:,} bytes were dropped"


def test_a_flood_is_removed_from_the_pipe_without_reading_it() -> None:
    reported: list[str] = []
    clock = Clock()
    lines = Lines(reported.append, clock)
    source, sink = os.pipe()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.set_blocking(source, False)
        drain = Drain(source, lines, nowhere)
        assert drain.read(), "nothing is there yet"
        os.write(sink, b"first\n" * LINES_PER_S)
        assert drain.read()
        for _ in range(3):
            os.write(sink, b"y" * READ_BYTES)
            assert drain.read()
        os.write(sink, b"last")
        clock.now += 1
        drain.finish()
        os.close(sink)
        sink = -1
        assert not drain.read()
        assert reported[:LINES_PER_S] == ["first"] * LINES_PER_S
        assert reported[LINES_PER_S:] == [f"printed too much: {3 * READ_BYTES:,} bytes were dropped", "last"]
    finally:
        for handle in (source, sink, nowhere):
            if handle >= 0:
                os.close(handle)

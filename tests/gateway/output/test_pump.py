"""A stream's way through the output process, with a reader that stalls on request."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from tests.builders.waiting import wait_until
from turnout.gateway.output.pump import Outlet, Stream, run_pump


class Reader:
    """The real stream: it accepts lines unless it is held."""

    def __init__(self) -> None:
        self.taken = b""
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.error: OSError | None = None

    def write(self, lines: bytes) -> None:
        self.goes_on.wait()
        if self.error is not None:
            raise self.error
        self.taken += lines


class Passing:
    """A stream with a buffer of at most 100 bytes, and its reports."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        self.reader = Reader()
        self.dropped = memoryview(bytearray(8)).cast("Q")
        self.reports: list[str] = []
        stream = Stream("standard output", self.read, self.reader.write, 100)
        self.outlet = Outlet(stream, self.dropped, self.reports.append)

    def print(self, data: bytes) -> None:
        os.write(self.write, data)
        self.outlet.read()


def settled(passing: Passing) -> Callable[[], bool]:
    return lambda: passing.outlet.is_empty


def test_lines_pass_complete_and_in_order() -> None:
    passing = Passing()
    passing.outlet.start()
    for data in (b"one\ntw", b"o\n", b"three", b"\n", b"rest"):
        passing.print(data)
    passing.outlet.finish()
    wait_until(settled(passing), "everything is written")
    assert passing.reader.taken == b"one\ntwo\nthree\nrest"
    assert (passing.dropped[0], passing.reports) == (0, [])


def test_lines_lost_by_a_stalled_reader_are_dropped_counted_and_reported_once() -> None:
    passing = Passing()
    passing.reader.goes_on.clear()
    passing.outlet.start()
    for number in range(30):
        passing.print(b"line %03d\n" % number)
    assert passing.dropped[0] == 19  # 11 lines of 9 bytes fit
    assert passing.reports == []
    passing.reader.goes_on.set()
    wait_until(settled(passing), "everything is written")
    wait_until(lambda: bool(passing.reports), "it is reported")
    passing.print(b"another\n")
    wait_until(settled(passing), "everything is written")
    assert passing.reader.taken == b"".join(b"line %03d\n" % number for number in range(11)) + b"another\n"
    assert passing.reports == ["standard output: 19 lines were dropped while nothing read it; it can be written again"]


def test_a_line_that_is_too_long_is_dropped_completely() -> None:
    passing = Passing()
    passing.outlet.start()
    for data in (b"x" * 150, b"x" * 150, b"xx\nnext\n"):
        passing.print(data)
    wait_until(settled(passing), "everything is written")
    assert (passing.reader.taken, passing.dropped[0]) == (b"next\n", 1)


def test_an_unwritable_stream_loses_lines_and_reports_it_once() -> None:
    passing = Passing()
    passing.reader.error = BrokenPipeError(32, "Broken pipe")
    passing.outlet.start()
    for data in (b"one\n", b"two\n"):
        passing.print(data)
        wait_until(settled(passing), "it is tried")
    passing.reader.error = None
    passing.print(b"three\n")
    wait_until(lambda: len(passing.reports) == 2, "it is reported")
    assert (passing.reader.taken, passing.dropped[0]) == (b"three\n", 2)
    assert passing.reports == [
        "standard output cannot be written, its lines are lost: Broken pipe",
        "standard output can be written again",
    ]


def test_the_end_does_not_wait_for_a_stalled_reader() -> None:
    stalled, errors = Passing(), Passing()
    stalled.reader.goes_on.clear()
    stalled.outlet = Outlet(stalled.outlet.stream, stalled.dropped, lambda text: errors.outlet.offer(text.encode()))
    control, end = os.pipe()
    os.write(stalled.write, b"x" * 99 + b"\n")
    os.write(stalled.write, b"dropped\n" * 20)
    os.close(end)
    run_pump([stalled.outlet, errors.outlet], control)
    assert stalled.reader.taken == b""
    assert stalled.dropped[0] > 0
    assert errors.reader.taken.endswith(b"dropped: nothing read it")
    stalled.reader.goes_on.set()

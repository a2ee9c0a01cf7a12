"""The output process: empties the pipes to which the server writes, and writes to the real streams as they allow.

The pipes are always emptied, so that no writer waits for a reader of the server's output. What a stalled reader does
not read is buffered up to a limit; further lines are dropped whole and counted, and one line reports them once the
stream can be written again.
"""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

READ_BYTES = 1024 * 1024
"""A pipe's own size, if the system allows it."""

WRITE_BYTES = 64 * 1024
"""Most bytes written at once."""

ENDING_S = 0.5
"""Time for processes of the server that still write when the server ends."""

STALLED_S = 0.5
"""A reader that reads nothing for this long is not waited for at the end."""

FINISH_S = 3.0
"""The longest wait at the end, however slowly a reader reads."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream that passes through the output process.

    Args:
        name: for messages, `standard output`.
        pipe: the source of the lines.
        write: writes bytes to the real stream, waiting if necessary; raises OSError if that fails.
        most_bytes: most bytes that may wait for the real stream.
    """

    name: str
    pipe: int
    write: Callable[[bytes], None]
    most_bytes: int


class Outlet:
    """A stream's queue, and the thread that writes it.

    Args:
        stream: source and destination.
        dropped: its first word counts the dropped lines.
        report: accepts a message for standard error.
    """

    def __init__(self, stream: Stream, dropped: memoryview, report: Callable[[str], None]) -> None:
        self.stream = stream
        self.written = 0
        self._dropped = dropped
        self._report = report
        self._begun = bytearray()  # the start of a line whose end has not arrived
        self._is_cut = False  # the start of the line was too long and is dropped
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._dropped_now = 0
        self._failure = ""
        self._changed = threading.Condition()

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name=self.stream.name, daemon=True).start()

    def read(self) -> bool:
        """Read what is in the pipe; return False at its end."""
        data = os.read(self.stream.pipe, READ_BYTES)
        end = data.rfind(b"\n") + 1
        if not end:
            self._begin(data)
            return bool(data)
        if self._is_cut:
            self._is_cut = False
            first = data.find(b"\n") + 1
            self._drop(1)
        else:
            first = 0
        lines, self._begun = bytes(self._begun) + data[first:end], bytearray(data[end:])
        if lines:
            self.offer(lines)
        return True

    def offer(self, lines: bytes) -> None:
        """Queue whole lines for writing, or drop them if too much is waiting."""
        with self._changed:
            if self._queued_bytes + len(lines) > self.stream.most_bytes:
                self._drop(lines.count(b"\n"))
                return
            self._queue.append(lines)
            self._queued_bytes += len(lines)
            self._changed.notify_all()

    def finish(self) -> None:
        """Handle the end of the output."""
        if self._begun:
            self.offer(bytes(self._begun))
            self._begun.clear()

    def report_dropped(self) -> None:
        """Report the lines that were dropped since the last report, at the end."""
        if self._dropped_now:
            self._report(f"{self.stream.name}: {_lines(self._dropped_now)} dropped: nothing read it")

    @property
    def is_empty(self) -> bool:
        """Whether everything is written."""
        return not self._queued_bytes

    def _begin(self, data: bytes) -> None:
        if not self._is_cut:
            self._begun += data
            if len(self._begun) > self.stream.most_bytes:
                self._begun.clear()
                self._is_cut = True

    def _drop(self, lines: int) -> None:
        with self._changed:
            self._dropped[0] += lines
            self._dropped_now += lines

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue)
                lines = self._queue.popleft()
            self._write(lines)
            with self._changed:
                self._queued_bytes -= len(lines)
                resumed = self._dropped_now if self._queued_bytes <= self.stream.most_bytes // 2 else 0
                if resumed:
                    self._dropped_now = 0
            if resumed and not self._failure:
                name = self.stream.name
                self._report(f"{name}: {_lines(resumed)} dropped while nothing read it; it can be written again")

    def _write(self, lines: bytes) -> None:
        try:
            self.stream.write(lines)
        except OSError as error:
            with self._changed:
                self._dropped[0] += lines.count(b"\n")
            if not self._failure:
                self._failure = error.strerror or str(error)
                self._report(f"{self.stream.name} cannot be written, its lines are lost: {self._failure}")
        else:
            if self._failure:
                self._report(f"{self.stream.name} can be written again")
            self._failure = ""
        self.written += 1


def _lines(number: int) -> str:
    return "1 line was" if number == 1 else f"{number:,} lines were"


def write_all(file: int) -> Callable[[bytes], None]:
    """Write to a descriptor and wait for space, even if it was made non-blocking."""

    def write(lines: bytes) -> None:
        data = memoryview(lines)
        while data:
            try:
                data = data[os.write(file, data[:WRITE_BYTES]) :]
            except BlockingIOError:
                select.select([], [file], [])

    return write


def run_pump(outlets: Sequence[Outlet], control: int, clock: Callable[[], float] = time.monotonic) -> None:
    """Pass lines on until the pipes end, or the control pipe is closed; then do not wait for stalled readers.

    Args:
        outlets: the last one gets the reports.
        control: read until its end.
        clock: monotonic seconds.
    """
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    open_pipes = {outlet.stream.pipe: outlet for outlet in outlets}
    for outlet in outlets:
        outlet.start()
        selector.register(outlet.stream.pipe, selectors.EVENT_READ)
    ends_at: float | None = None
    while open_pipes and (ends_at is None or clock() < ends_at):
        wait_s = None if ends_at is None else max(0.0, ends_at - clock())
        for key, _ in selector.select(wait_s):
            if key.fd == control:
                selector.unregister(control)
                ends_at = clock() + ENDING_S
            elif not open_pipes[key.fd].read():
                selector.unregister(key.fd)
                del open_pipes[key.fd]
    _finish(outlets, clock)


def _finish(outlets: Sequence[Outlet], clock: Callable[[], float]) -> None:
    for outlet in outlets:
        outlet.finish()
    began = moved = clock()
    seen = [outlet.written for outlet in outlets]
    while not all(outlet.is_empty for outlet in outlets):
        now = clock()
        if now - moved > STALLED_S or now - began > FINISH_S:
            break
        time.sleep(0.005)
        written = [outlet.written for outlet in outlets]
        if written != seen:
            seen, moved = written, now
    for outlet in outlets:
        outlet.report_dropped()
    with contextlib.suppress(IndexError):
        errors = outlets[-1]
        until = clock() + STALLED_S
        while not errors.is_empty and clock() < until:
            time.sleep(0.005)

r"""Turns the output of an environment's process into bounded lines of the gateway's log.

The pipe is always emptied, so that a print never waits; excess output is dropped unread.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

LINE_BYTES = 4_096
"""Most bytes of a line; the rest is dropped."""

LINES_PER_S = 200
BYTES_PER_S = 256 * 1024
"""Limit of one environment; further output is counted and dropped."""

READ_BYTES = 65_536
"""A pipe's own size."""

_END = re.compile(rb"[\r\n]+")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")
_INDENT = "\u00a0"
"""Awslambdaric indents a traceback with no-break spaces and ends its lines with a carriage return."""


def escape_line(line: bytes) -> str:
    r"""Return a line as printable ASCII: everything else as `\xNN`, `\uNNNN` or `\UNNNNNNNN`, a backslash as two."""
    text = line.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
    if text.isascii() and text.isprintable():
        return text
    return _UNPRINTABLE.sub(lambda match: _escape(match[0]), text)


def _escape(character: str) -> str:
    if character == _INDENT:
        return " "
    number = ord(character)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


class Lines:
    """Splits output into lines, and drops the excess.

    Args:
        notify: called with each line.
        clock: seconds.
    """

    def __init__(self, notify: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._notify = notify
        self._clock = clock
        self._begun = b""
        self._cut_bytes = 0  # bytes cut from the line that is being read
        self._second = clock()
        self._lines = 0
        self._bytes = 0
        self._dropped_bytes = 0

    @property
    def is_flooded(self) -> bool:
        """Whether further output would be dropped."""
        if self._clock() - self._second >= 1.0:
            self._begin_second()
        return self._lines >= LINES_PER_S or self._bytes >= BYTES_PER_S

    def drop(self, count: int) -> None:
        """Count dropped bytes, and end their line."""
        self._dropped_bytes += count
        if self._begun:
            self._end_line()

    def feed(self, data: bytes) -> None:
        """Handle further output."""
        *whole, rest = _END.split(data)
        for piece in whole:
            self._add(piece)
            if self._begun:
                self._end_line()
        self._add(rest)

    def close(self) -> None:
        """Handle the end of the output."""
        if self._begun:
            self._end_line()
        self._begin_second()

    def _add(self, piece: bytes) -> None:
        room = LINE_BYTES - len(self._begun)
        self._begun += piece[:room]
        self._cut_bytes += max(0, len(piece) - room)

    def _end_line(self) -> None:
        line, cut = self._begun, self._cut_bytes
        self._begun, self._cut_bytes = b"", 0
        if self.is_flooded:
            self._dropped_bytes += len(line) + cut + 1
            return
        self._lines += 1
        self._bytes += len(line)
        self._notify(f"{escape_line(line)} ... {cut:,} more bytes" if cut else escape_line(line))

    def _begin_second(self) -> None:
        dropped, self._dropped_bytes = self._dropped_bytes, 0
        self._second = self._clock()
        self._lines = self._bytes = 0
        if dropped:
            self._notify(f"printed too much: {dropped:,} bytes were dropped")


class Drain:
    """Empties a pipe whenever the event loop reports data.

    Args:
        pipe: to read from, not blocking; the owner closes it.
        lines: takes the output.
        nowhere: `/dev/null`, open for writing.
    """

    def __init__(self, pipe: int, lines: Lines, nowhere: int) -> None:
        self._pipe = pipe
        self._lines = lines
        self._nowhere = nowhere

    def read(self) -> bool:
        """Read once; return False at the end, when no process can print any more."""
        try:
            if self._lines.is_flooded:
                # The kernel moves the pages without copying them into this process.
                count = os.splice(self._pipe, self._nowhere, 1 << 20)
                self._lines.drop(count)
                return count > 0
            data = os.read(self._pipe, READ_BYTES)
        except BlockingIOError:
            return True
        self._lines.feed(data)
        return bool(data)

    def finish(self) -> None:
        """Read the rest, at most the pipe's size, because a grandchild may continue to print."""
        for _ in range(4):
            try:
                data = os.read(self._pipe, READ_BYTES)
            except BlockingIOError:
                break
            self._lines.feed(data)
            if not data:
                break
        self._lines.close()

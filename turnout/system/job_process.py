"""A process that reports its work as lines on standard output: reads its lines, and ends it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from typing import IO


class LineReader:
    """Reads a pipe line by line, each line with a deadline.

    Args:
        pipe: the pipe, either unbuffered or without other readers.
    """

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe.fileno()
        self._unread = b""

    def read_line(self, deadline: float) -> bytes | None:
        """Return the next line without its end, or None after the last one.

        Args:
            deadline: of `time.monotonic`.

        Raises:
            TimeoutError: the line did not arrive in time.
        """
        while b"\n" not in self._unread:
            if not select.select([self._pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError
            data = os.read(self._pipe, 1 << 16)
            if not data:
                return None
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line


def exit_text(code: int) -> str:
    """Return `SIGABRT` or `exit code 1`."""
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def close_pipes(process: subprocess.Popen[bytes]) -> None:
    """Close standard input and output of an ended process, whatever is left in them."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()

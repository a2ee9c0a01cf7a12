"""Writes lines to a stream in batches: for the access log and captures."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

log = logging.getLogger(__name__)


class LineStream(Protocol):
    """A stream that lines can be written to."""

    def write(self, text: str, /) -> int:
        """Write the text; raise OSError or ValueError if that is impossible."""
        ...

    def flush(self) -> None:
        """Write buffered text."""
        ...


class LineWriter:
    """Writes buffered lines `delay_s` after the first of them.

    Args:
        stream: the destination. While it accepts nothing (its reader is gone, its disk is full), lines are dropped and
            the server continues; warnings say when that started and ended.
        lock: held while lines are written, for processes that share the stream.
        delay_s: how long a line may wait.
        name: the name of the lines in warnings.
    """

    def __init__(
        self,
        stream: LineStream,
        lock: Callable[[], AbstractContextManager[None]] = nullcontext,
        delay_s: float = 0.05,
        name: str = "the access log",
    ) -> None:
        self._stream = stream
        self._lock = lock
        self._delay_s = delay_s
        self._name = name
        self._lines: list[str] = []
        self._is_failing = False

    def write(self, line: str) -> None:
        """Write one line soon. Must be called on the event loop."""
        if not self._lines:
            asyncio.get_running_loop().call_later(self._delay_s, self.flush)
        self._lines.append(line)

    def flush(self) -> None:
        """Write buffered lines now; must be called once more at the end."""
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        try:
            with self._lock():
                self._stream.write("\n".join(lines) + "\n")
                self._stream.flush()
        except (OSError, ValueError) as error:
            if not self._is_failing:
                log.warning("%s cannot be written, its lines are lost: %s", self._name, error)
            self._is_failing = True
        else:
            if self._is_failing:
                log.warning("%s can be written again", self._name)
            self._is_failing = False

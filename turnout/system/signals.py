"""How commands handle Ctrl-C, SIGTERM and SIGHUP: unwind, finish the cleanup, or ignore them after a lasting change."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDINGS = (signal.SIGTERM, signal.SIGHUP)
"""Signals that end a process immediately unless it handles them for cleanup."""


@contextmanager
def endings_as_exceptions() -> Iterator[None]:
    """For the duration of the block, SIGTERM and SIGHUP raise SystemExit, as Ctrl-C raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in ENDINGS}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is leave:  # else `ignore_endings` was called
                signal.signal(number, handler)


@contextmanager
def ignored_endings() -> Iterator[None]:
    """Ignore Ctrl-C, SIGTERM and SIGHUP during the block, so that the cleanup is completed."""
    with restored_endings():
        ignore_endings()
        yield


@contextmanager
def restored_endings() -> Iterator[None]:
    """Restore the handlers of Ctrl-C, SIGTERM and SIGHUP after the block, for callers that go on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (*ENDINGS, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_endings() -> None:
    """Ignore Ctrl-C, SIGTERM and SIGHUP until the process ends.

    A command calls it right before its lasting change, so that the change, its report and its exit code agree.
    """
    if threading.current_thread() is threading.main_thread():
        for number in (*ENDINGS, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)

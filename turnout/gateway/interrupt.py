"""Ctrl-C and SIGTERM while a command works or the server starts.

Python drops an exception that is raised in a callback, and every import runs one, so the server would start anyway.
Here the signal is remembered, and raised again where no callback runs. The processes that the command has started end
immediately; a second signal ends the command immediately, too.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from turnout.system.processes import allow_children, end_children

TERMINATED = 143
"""The exit code that shells use for SIGTERM."""


@contextmanager
def remembered_interrupt() -> Iterator[Callable[[], None]]:
    """Raise KeyboardInterrupt at SIGINT and SystemExit at SIGTERM; only for the main thread.

    Yields:
        A function that raises the exception again if it was dropped.
    """
    came = 0

    def remember(number: int, _frame: FrameType | None) -> None:
        nonlocal came
        came = number
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        end_children()
        check()

    def check() -> None:
        if came == signal.SIGINT:
            raise KeyboardInterrupt
        if came:
            raise SystemExit(TERMINATED)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, remember)
    try:
        yield check
    except Exception:
        check()  # an error caused by the ended processes is not a failure
        raise
    finally:
        allow_children()
        for number, handler in before.items():
            signal.signal(number, handler)

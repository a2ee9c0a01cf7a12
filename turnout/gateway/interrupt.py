"""Ctrl-C while the server starts.

Python drops a KeyboardInterrupt that falls into a callback, and every import has one: the server would start all the
same. Here it is remembered, and raised again where no callback runs. Called by the command line and by
`turnout.gateway.serve`.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def remembered_interrupt() -> Iterator[Callable[[], None]]:
    """What is yielded raises KeyboardInterrupt if a SIGINT has come; only the main thread may use it."""
    came = False

    def remember(_number: int, _frame: FrameType | None) -> None:
        nonlocal came
        came = True
        raise KeyboardInterrupt

    def check() -> None:
        if came:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)

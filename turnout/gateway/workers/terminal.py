"""Whether the terminal in which the server was started has been closed.

The kernel or the shell then sends SIGHUP, the same signal that reloads. A server that went on would hold its port
without anyone seeing its output.
"""

from __future__ import annotations

import contextlib
import os
import signal

TERMINAL = "/dev/tty"


class Terminal:
    """The terminal that this process was started in, in the foreground.

    There is none in the background, as a service or with `nohup`: those outlive their terminal on purpose.
    """

    def __init__(self) -> None:
        self._was_open = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and _is_in_foreground()

    @property
    def is_closed(self) -> bool:
        """Whether the terminal was open at the start and is closed now."""
        return self._was_open and not _is_open()


def _is_open() -> bool:
    try:
        os.close(os.open(TERMINAL, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def _is_in_foreground() -> bool:
    with contextlib.suppress(OSError):
        terminal = os.open(TERMINAL, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            return os.tcgetpgrp(terminal) == os.getpgrp()
        finally:
            os.close(terminal)
    return False

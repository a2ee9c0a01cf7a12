"""The limit of open files: how many connections it allows, and the answer to those beyond it.

A process without free descriptors loses the connections that it is given, so it must never be given too many.
"""

from __future__ import annotations

import contextlib
import errno
import resource
import socket
from pathlib import Path

OTHERS = 16
"""Descriptors that a worker opens for itself: its event loop, its channel, a capture."""

SHARE_OF_OTHERS = 4
"""One descriptor in this number is reserved for sessions and the processes of isolated functions, 1,024 at most."""

MOST_OTHERS = 1024

LEAST_CONNECTIONS = 8

NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS})
"""Errors that say nothing about the other end: this process, its user or the system currently lacks resources."""

_BODY = b'{"message":"Service Unavailable"}'
_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(_BODY), _BODY)
)


def count_open() -> int:
    """Return the number of open descriptors of this process."""
    try:
        return sum(1 for _ in Path("/proc/self/fd").iterdir()) - 1
    except OSError:  # not on Linux
        return 32


def soft_limit() -> int:
    """Return the number of descriptors that this process may have."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft


def connections_allowed(wanted: int, limit: int, open_now: int) -> int:
    """Return the most connections of one worker under a limit of open files.

    Args:
        wanted: the number without a limit.
        limit: the highest allowed number of descriptors.
        open_now: number of descriptors with which a worker starts.
    """
    others = OTHERS + min(MOST_OTHERS, limit // SHARE_OF_OTHERS)
    return min(wanted, max(0, limit - open_now - others))


def refuse_connection(connection: socket.socket) -> None:
    """Answer with 503 and close, without waiting for the request."""
    with contextlib.suppress(OSError):
        connection.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            connection.recv(65_536)  # closing a connection with unread bytes would reset it
        connection.send(_REFUSAL)
        connection.shutdown(socket.SHUT_WR)
    connection.close()

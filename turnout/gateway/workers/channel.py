"""Messages between the supervisor and one worker, optionally with open files."""

from __future__ import annotations

import fcntl
import pickle
import resource
import socket
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MOST_FILES = 64
"""Most files in one message; the kernel allows 253."""

HIGHEST_DESCRIPTOR = 8192
"""Highest descriptor to use, because a process's table of descriptors takes 8 bytes for each up to the highest."""

_MESSAGE_BYTES = 65_536
_TEXT_CHARACTERS = 10_000


@dataclass(frozen=True, slots=True)
class Message:
    """A received message.

    Args:
        kind: the kind of message.
        values: values that belong to the kind.
        files: descriptors, which the receiver must close.
    """

    kind: str
    values: tuple[Any, ...]
    files: tuple[int, ...]


class Channel:
    """One end. Neither end ever waits: what does not fit into the kernel's buffer is sent by a later `flush`."""

    def __init__(self, end: socket.socket) -> None:
        end.settimeout(0)
        self._socket = end
        self._unsent: deque[tuple[bytes, tuple[int, ...]]] = deque()

    @staticmethod
    def pair() -> tuple[Channel, Channel]:
        """Return two ends."""
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return Channel(one), Channel(other)

    def fileno(self) -> int:
        """The descriptor to wait on for messages."""
        return self._socket.fileno()

    def move_up(self) -> None:
        """Move to the highest allowed file descriptor, up to a limit.

        Linux closes a killed process's descriptors from the highest down, so its peer learns of its end before its
        clients do: none of them can reconnect and be given to it again.
        """
        number = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], HIGHEST_DESCRIPTOR) - 1
        moved = socket.socket(fileno=fcntl.fcntl(self._socket.fileno(), fcntl.F_DUPFD_CLOEXEC, number))
        moved.settimeout(0)
        self._socket.close()
        self._socket = moved

    @property
    def is_waiting(self) -> bool:
        """Whether something has not been sent yet."""
        return bool(self._unsent)

    def try_send(self, kind: str, *values: Any, files: Sequence[int] = ()) -> bool:
        """Send immediately; return False if there is no space. Raises OSError if the other end is closed."""
        return not self._unsent and self._send(_packed(kind, values), tuple(files))

    def send(self, kind: str, *values: Any, files: Sequence[int] = ()) -> None:
        """Send as soon as there is space.

        Files still belong to the sender, which must keep them open until `is_waiting` is false.
        """
        self._unsent.append((_packed(kind, values), tuple(files)))
        self.flush()

    def flush(self) -> None:
        """Send as much as there is space for. Data for a closed peer is dropped."""
        try:
            while self._unsent and self._send(*self._unsent[0]):
                self._unsent.popleft()
        except OSError:
            self._unsent.clear()

    def receive(self) -> Message | None:
        """Return the next message, or None if there is none now.

        Raises:
            EOFError: the other end is closed and everything was read.
        """
        try:
            data, files, _, _ = socket.recv_fds(self._socket, _MESSAGE_BYTES, MOST_FILES, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return None
        except ConnectionError as error:
            raise EOFError from error
        if not data:
            raise EOFError
        kind, values = pickle.loads(data)  # noqa: S301 - from a process forked with this one
        return Message(kind, values, tuple(files))

    def close(self) -> None:
        """Close this end, in this process."""
        self._socket.close()

    def _send(self, data: bytes, files: tuple[int, ...]) -> bool:
        try:
            socket.send_fds(self._socket, [data], files)
        except BlockingIOError:
            return False
        return True


def _packed(kind: str, values: tuple[Any, ...]) -> bytes:
    shortened = tuple(value[:_TEXT_CHARACTERS] if isinstance(value, str) else value for value in values)
    return pickle.dumps((kind, shortened), pickle.HIGHEST_PROTOCOL)

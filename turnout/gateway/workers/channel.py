"""Messages between the supervisor and one worker, with open files in them where wanted."""

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
"""In one message; the kernel allows 253."""

HIGHEST_DESCRIPTOR = 8192
"""A process's table of descriptors takes 8 bytes for each up to the highest."""

_MESSAGE_BYTES = 65_536
_TEXT_CHARACTERS = 10_000


@dataclass(frozen=True, slots=True)
class Message:
    """A received message.

    Args:
        kind: what it is about.
        values: whatever belongs to that kind.
        files: descriptors, the receiver's own to close.
    """

    kind: str
    values: tuple[Any, ...]
    files: tuple[int, ...]


class Channel:
    """One end. Neither end ever waits: what the kernel has no room for is sent by a later `flush`."""

    def __init__(self, end: socket.socket) -> None:
        end.settimeout(0)
        self._socket = end
        self._unsent: deque[tuple[bytes, tuple[int, ...]]] = deque()

    @staticmethod
    def pair() -> tuple[Channel, Channel]:
        """Two ends."""
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return Channel(one), Channel(other)

    def fileno(self) -> int:
        """The descriptor to wait on for messages."""
        return self._socket.fileno()

    def move_up(self) -> None:
        """Take the highest file descriptor that there may be, below a limit.

        Linux closes a killed process's descriptors from the highest down, so that its peer learns of its end before its
        clients do: none of them can come back and be handed to it again.
        """
        number = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], HIGHEST_DESCRIPTOR) - 1
        moved = socket.socket(fileno=fcntl.fcntl(self._socket.fileno(), fcntl.F_DUPFD_CLOEXEC, number))
        moved.settimeout(0)
        self._socket.close()
        self._socket = moved

    @property
    def is_waiting(self) -> bool:
        """Whether something is still to be sent."""
        return bool(self._unsent)

    def try_send(self, kind: str, *values: Any, files: Sequence[int] = ()) -> bool:
        """Send at once, or say that there is no room. OSError where the other end is gone."""
        return not self._unsent and self._send(_packed(kind, values), tuple(files))

    def send(self, kind: str, *values: Any, files: Sequence[int] = ()) -> None:
        """Send as soon as there is room; files stay the sender's, to be kept open until `is_waiting` is false."""
        self._unsent.append((_packed(kind, values), tuple(files)))
        self.flush()

    def flush(self) -> None:
        """Send what there is room for. What waits for a peer that is gone is dropped."""
        try:
            while self._unsent and self._send(*self._unsent[0]):
                self._unsent.popleft()
        except OSError:
            self._unsent.clear()

    def receive(self) -> Message | None:
        """The next message, or None where there is none at present.

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

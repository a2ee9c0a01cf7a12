"""Assigns numbers to names, the same in every process: the index of a row in shared memory."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping

from turnout.gateway.shared.lock import SharedLock

NAME_BYTES = 254
ROW_BYTES = 2 + NAME_BYTES
HEAD_BYTES = 8


class DirectoryFullError(LookupError):
    """Every row already has a name."""


class Directory:
    """A table of names in shared memory that only grows.

    Args:
        memory: `size_of(capacity)` bytes, initially zero.
        lock: held while a row is added.
        number: the lock's number.
    """

    def __init__(self, memory: memoryview, lock: SharedLock, number: int) -> None:
        self._memory = memory
        self._count = memory[:HEAD_BYTES].cast("Q")
        self._capacity = (len(memory) - HEAD_BYTES) // ROW_BYTES
        self._lock = lock
        self._number = number
        self._rows: dict[str, int] = {}

    @staticmethod
    def size_of(capacity: int) -> int:
        """Return the number of bytes for this number of names, a multiple of eight."""
        return HEAD_BYTES + capacity * ROW_BYTES

    def number_of(self, name: str) -> int:
        """Return the row of a name, which gets one if needed.

        Names too long to store are distinguished by their digest.

        Raises:
            DirectoryFullError: there is no free row.
        """
        stored = _fitting(name)
        row = self._rows.get(stored)
        if row is None:
            with self._lock.hold(self._number):
                self._read()
                row = self._rows.get(stored)
                if row is None:
                    row = self._append(stored)
        return row

    def rows(self) -> Mapping[str, int]:
        """Return every name that any process has requested, and its row."""
        with self._lock.hold(self._number):
            self._read()
        return self._rows

    def _read(self) -> None:
        """Read what other processes have added."""
        for row in range(len(self._rows), self._count[0]):
            at = HEAD_BYTES + row * ROW_BYTES
            (length,) = struct.unpack_from("<H", self._memory, at)
            self._rows[bytes(self._memory[at + 2 : at + 2 + length]).decode()] = row

    def _append(self, name: str) -> int:
        row: int = self._count[0]
        if row == self._capacity:
            raise DirectoryFullError(name)
        data = name.encode()
        struct.pack_into(f"<H{len(data)}s", self._memory, HEAD_BYTES + row * ROW_BYTES, len(data), data)
        self._count[0] = row + 1  # last: a process that is killed before this leaves nothing behind
        self._rows[name] = row
        return row


def _fitting(name: str) -> str:
    data = name.encode()
    if len(data) <= NAME_BYTES:
        return name
    return f"{data[: NAME_BYTES - 33].decode(errors='ignore')}~{hashlib.sha256(data).hexdigest()[:32]}"

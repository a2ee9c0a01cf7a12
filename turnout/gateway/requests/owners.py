"""Which processes run requests: each holds a lock that the kernel releases when it ends, however it ends.

A request whose owner holds no lock any more is taken from it at once, and no clock decides: a process that stands still
for an hour keeps its requests.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path

FILE_NAME = "owners.lock"


class QueueOwner:
    """This process as an owner. Made after a fork, within a transaction, once per process.

    Args:
        connection: of the queue's database.
        folder: the queue's.
    """

    def __init__(self, connection: sqlite3.Connection, folder: Path) -> None:
        # POSIX locks: not inherited by children, and gone when this process closes the file, so it is opened once.
        self._file = os.open(folder / FILE_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        number = connection.execute("INSERT INTO owners DEFAULT VALUES").lastrowid
        assert number is not None
        self.id = number
        fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self.id)

    def is_gone(self, other: int) -> bool:
        """Whether another owner has ended."""
        if other == self.id:
            return False
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, other)
        except BlockingIOError:
            return False
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, other)
        return True

    def close(self) -> None:
        """Give up the lock: what this process still owns is for others to take."""
        os.close(self._file)

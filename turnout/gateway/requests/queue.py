"""The queue of one process: its folder, database, files, secret and clock. It can be created before a fork."""

from __future__ import annotations

import errno
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from turnout.gateway.requests.database import FILE_NAME, Database
from turnout.gateway.requests.files import Files
from turnout.gateway.requests.signing import load_secret
from turnout.protocol.requests.refusals import Refusal

FOLDER = "requests"
"""Name of the queue's folder in `.turnout`."""

LOOK_S = 0.25
"""Interval between two checks for requests that other workers accepted."""

LEAST_FREE_BYTES = 256 * 1024 * 1024
"""Bytes to leave free on the disk."""


class Queue:
    """The state that this package's modules share.

    Args:
        folder: the queue's folder, created with the first request.
        clock: seconds since 1970.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self.clock = clock
        self.database = Database(folder)
        self.files = Files(folder)
        self._kick: Callable[[], None] = lambda: None

    @property
    def is_stored(self) -> bool:
        """Whether its database exists: this server or an earlier one accepted requests."""
        return (self.folder / FILE_NAME).exists()

    @cached_property
    def secret(self) -> str:
        """The project's secret, created when it is first needed. Reads a file."""
        return load_secret(self.folder)

    def on_kick(self, kick: Callable[[], None]) -> None:
        """Set the function to call when there is something new to run."""
        self._kick = kick

    def kick(self) -> None:
        """Signal that there is something new to run."""
        self._kick()

    def check_disk(self, size: int) -> None:
        """Reject a body that would fill the disk.

        Raises:
            Refusal: STORAGE_FULL.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if free - size < LEAST_FREE_BYTES:
            message = f"the server's disk has {free} bytes left, too few for {size} more"
            raise Refusal("STORAGE_FULL", message, free=free)


@contextmanager
def refusing_when_full() -> Iterator[None]:
    """Convert the errors of a full disk to a refusal.

    Raises:
        Refusal: STORAGE_FULL.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise
        raise Refusal("STORAGE_FULL", "the server's disk is full") from error
    except sqlite3.OperationalError as error:
        if "full" not in str(error):
            raise
        raise Refusal("STORAGE_FULL", "the server's disk is full") from error

"""Detects whether files have changed and are complete.

Files are checked one by one: checking 600 of them takes a few milliseconds, and detects what kernel notifications do
not report: network file systems, mounts of a virtual machine, folders that are added later, links that are changed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from turnout.gateway.editions.edition import FileStamp, stamp_of

LOOK_EVERY_S = 0.25
SETTLED_AFTER_S = 0.2
"""No file may have changed for this long: a copy writes more often."""

WRITER_PATIENCE_S = 600.0
"""A file that is open for writing but has not changed for this long is considered complete."""

LARGEST_SHARE = 0.05
"""Most of one processor's time to use for checking."""


class Watch:
    """A set of files and their last known stamps.

    Args:
        files: files and folders, existing or not, with their stamps when they were read; for a folder only its entries
            count.
        clock: monotonic seconds.
        is_written: whether a process has a file open for writing.
    """

    def __init__(
        self,
        files: Mapping[Path, FileStamp],
        *,
        clock: Callable[[], float] = time.monotonic,
        is_written: Callable[[Path], bool] | None = None,
    ) -> None:
        self._clock = clock
        self._is_written = is_written or is_open_for_writing
        self._reported = dict(files)
        self._seen = self._look(files)
        self._moved_s = clock()
        self._due_s = clock() + LOOK_EVERY_S

    def replace_files(self, files: Mapping[Path, FileStamp]) -> None:
        """Watch these files; changes of previously watched files are still reported."""
        self._reported = {file: self._reported.get(file, stamp) for file, stamp in files.items()}
        self._seen = self._look(files)

    def wait_s(self) -> float:
        """Return the seconds until the next check is due."""
        return max(0.0, self._due_s - self._clock())

    def poll(self) -> bool:
        """Check if it is due.

        Return True if something has changed since this last returned True, and is complete now.
        """
        started = self._clock()
        if started < self._due_s:
            return False
        seen = self._look(self._seen)
        if seen != self._seen:
            self._seen = seen
            self._moved_s = started
        changed = [file for file, stamp in seen.items() if stamp != self._reported.get(file)]
        is_whole = started - self._moved_s >= SETTLED_AFTER_S and not self._are_written(changed, started)
        cost_s = self._clock() - started
        self._due_s = started + cost_s + max(SETTLED_AFTER_S / 2 if changed else LOOK_EVERY_S, cost_s / LARGEST_SHARE)
        if not changed or not is_whole:
            return False
        self._reported = seen
        return True

    def _are_written(self, files: Iterable[Path], now: float) -> bool:
        return now - self._moved_s < WRITER_PATIENCE_S and any(self._is_written(file) for file in files)

    def _look(self, files: Iterable[Path]) -> dict[Path, FileStamp]:
        return {file: stamp_of(file) for file in files}


def is_open_for_writing(file: Path) -> bool:
    """Whether a process has the file open for writing; False if that cannot be determined.

    Linux grants a read lease only on a file that no process writes; other systems, some file systems, and files of
    other users grant none.
    """
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    else:
        # A writer that opens the file right now waits; the signal that asks for the lease back is ignored.
        with contextlib.suppress(OSError):
            fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return False
    finally:
        os.close(handle)

"""The server's end of its output process: standard output and error are redirected to it while the server runs.

Everything that the server's processes print passes through it: the access log, warnings, tracebacks, the output of
transforms, what libraries write to descriptor 2. The process is not a child of the server: it is started by a process
that ends immediately, so that the server's children are its workers.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import mmap
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import NoReturn

from turnout.gateway.observers.capture import CaptureFile
from turnout.gateway.output.pump import FINISH_S, READ_BYTES, Outlet, Stream, run_pump, write_all
from turnout.system.processes import SIGNALS, kill_process

log = logging.getLogger("turnout.output")

PRINTED_BYTES = 4 * 1024 * 1024
CAPTURED_BYTES = 64 * 1024 * 1024
"""Most bytes of lines that wait for the reader of a stream."""

RETRY_S = 1.0
"""Seconds between two attempts to start an output process that has died."""

STREAMS = ("stdout", "capture", "stderr")
"""Standard error is last, as `run_pump` requires."""

TITLES = {"stdout": "standard output", "stderr": "standard error", "capture": "the capture"}

_DESCRIPTORS = {"stdout": 1, "stderr": 2}
_NUMBER_BYTES = 8
_WRITTEN = b"."


class OutputError(Exception):
    """The streams cannot be redirected; the message says why."""


class CaptureStream:
    """The pipe to the output process, for `LineWriter`."""

    def __init__(self, pipe: int) -> None:
        self._write = write_all(pipe)

    def write(self, text: str) -> int:
        """Pass lines on; raise OSError if the output process is gone."""
        self._write(text.encode())
        return len(text)

    def flush(self) -> None:
        """Do nothing: there is no buffer."""


class Output:
    """The redirected streams of one server.

    Args:
        format_report: formats a message of the output process as a line of the log, without its line ending.
        capture: the file of the capture; None if nothing is captured.

    Raises:
        OSError: the system has no more descriptors.
    """

    def __init__(self, format_report: Callable[[str], str], capture: CaptureFile | None = None) -> None:
        self._format_report = format_report
        self._capture = capture
        self._dropped = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")
        self._names = [name for name in STREAMS if name != "capture" or capture is not None]
        self._real: dict[str, int] = {}
        self._readers: dict[str, int] = {}
        self._control = self._done = -1
        self._pid = 0
        self._retry_at = 0.0
        self._is_redirected = False
        self._pipes: dict[str, int] = {}
        for descriptor in _DESCRIPTORS.values():
            _ensure_open(descriptor)
        for name in self._names:
            self._readers[name], self._pipes[name] = os.pipe()
            with contextlib.suppress(OSError):
                fcntl.fcntl(self._readers[name], fcntl.F_SETPIPE_SZ, READ_BYTES)
        for name, descriptor in _DESCRIPTORS.items():
            self._real[name] = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)

    def redirect(self) -> None:
        """Start the output process and print to it afterwards; does nothing if that is already done.

        Raises:
            OutputError: the system cannot start another process.
        """
        if self._is_redirected:
            return
        try:
            self._start()
        except OSError as error:
            raise OutputError(f"the output process cannot be started: {error.strerror}") from error
        self._is_redirected = True
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for name, descriptor in _DESCRIPTORS.items():
            os.dup2(self._pipes[name], descriptor)
            os.close(self._pipes.pop(name))

    @property
    def capture(self) -> CaptureStream:
        """The destination of captured lines."""
        return CaptureStream(self._pipes["capture"])

    def dropped(self) -> Mapping[str, int]:
        """Return stream -> number of lines dropped since the start, in all processes."""
        return {name: self._dropped[STREAMS.index(name)] for name in self._names}

    def look(self) -> None:
        """Restart the output process if it has died; the process that made this calls it from time to time."""
        now = time.monotonic()
        if self._done >= 0 and select.select([self._done], [], [], 0)[0]:
            self._forget_process()
        if self._done < 0 and now >= self._retry_at:
            self._retry_at = now + RETRY_S
            try:
                self._start()
            except OSError as error:
                log.warning("the output process cannot be started: %s", error.strerror)

    def close_inherited(self) -> None:
        """Close what belongs only to the server, in a process that was just forked."""
        self._forget_process()
        for file in (*self._readers.values(), *self._real.values()):
            os.close(file)

    def close(self) -> None:
        """Finish writing the output without waiting for a stalled reader, and print to the real streams again."""
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        has_ended = self._end_process()
        for name, descriptor in _DESCRIPTORS.items() if self._is_redirected else ():
            if has_ended or _is_writable(self._real[name]):
                os.dup2(self._real[name], descriptor)
            else:  # what is still to be written must not wait for the reader
                with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
                    os.dup2(nowhere.fileno(), descriptor)
        for file in (*self._readers.values(), *self._pipes.values(), *self._real.values()):
            os.close(file)

    def _end_process(self) -> bool:
        """End the output process; return whether everything was written."""
        if self._done < 0:
            return False
        # A pipe ends when its last writer closes it, and this process holds writers, too.
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            for descriptor in _DESCRIPTORS.values():
                os.dup2(nowhere.fileno(), descriptor)
        os.close(self._control)
        self._control = -1
        if not select.select([self._done], [], [], FINISH_S + 2.0)[0]:
            kill_process(self._pid)
        has_written = os.read(self._done, 1) == _WRITTEN
        self._forget_process()
        return has_written

    def _forget_process(self) -> None:
        for file in (self._control, self._done):
            if file >= 0:
                os.close(file)
        self._control = self._done = -1
        self._pid = 0

    def _start(self) -> None:
        """Start the process through another one that ends immediately."""
        heard, self._control = os.pipe()
        self._done, status = os.pipe()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                self._live(heard, status)
        except OSError:
            self._forget_process()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            os.close(heard)
            os.close(status)
        os.waitpid(pid, 0)
        number = os.read(self._done, _NUMBER_BYTES)
        if len(number) < _NUMBER_BYTES:
            self._forget_process()
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self._pid = int.from_bytes(number, "little")

    def _live(self, control: int, status: int) -> NoReturn:
        code = 1
        try:
            if os.fork() == 0:
                signal.set_wakeup_fd(-1)
                for number in (*SIGNALS, signal.SIGQUIT):
                    signal.signal(number, signal.SIG_IGN)  # the server ends this process
                os.write(status, os.getpid().to_bytes(_NUMBER_BYTES, "little"))
                self._pump(control, status)
                code = 0
        finally:
            os._exit(code)

    def _pump(self, control: int, status: int) -> None:
        for name, descriptor in _DESCRIPTORS.items():
            os.dup2(self._real[name], descriptor)
        captured = () if self._capture is None else (self._capture.file,)
        kept = sorted({0, 1, 2, control, status, *self._readers.values(), *captured})
        for before, after in pairwise([*kept, _descriptors()]):
            os.closerange(before + 1, after)
        outlets: list[Outlet] = []

        def report(message: str) -> None:
            outlets[-1].offer(f"{self._format_report(message)}\n".encode())

        for name in self._names:
            word = STREAMS.index(name)
            if name == "capture" and self._capture is not None:
                stream = Stream(TITLES[name], self._readers[name], self._capture.write_bytes, CAPTURED_BYTES)
            else:
                stream = Stream(TITLES[name], self._readers[name], write_all(_DESCRIPTORS[name]), PRINTED_BYTES)
            outlets.append(Outlet(stream, self._dropped[word : word + 1], report))
        run_pump(outlets, control)
        if all(outlet.is_empty for outlet in outlets):
            os.write(status, _WRITTEN)


def _ensure_open(descriptor: int) -> None:
    """Open something at a descriptor that was closed when the server started."""
    try:
        os.fstat(descriptor)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        if nowhere != descriptor:
            os.dup2(nowhere, descriptor)
            os.close(nowhere)


def _is_writable(file: int) -> bool:
    return bool(select.select([], [file], [], 0)[1])


def _descriptors() -> int:
    """Return a number above the highest descriptor of this process."""
    return max(map(int, os.listdir("/proc/self/fd"))) + 1  # noqa: PTH208

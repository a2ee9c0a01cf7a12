"""The parent's side of the process in which versions are tried."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from turnout.protocol.telemetry import TELEMETRY_OFF
from turnout.protocol.tensors.fatal_requests import NO_END
from turnout.system.job_process import LineReader, close_pipes, exit_text

MODULE = "turnout.trials.child"


class TrialEndedError(Exception):
    """The process ended during a job; `ending` is `SIGABRT` or `exit code 1`."""

    def __init__(self, ending: str) -> None:
        super().__init__(ending)
        self.ending = ending


class TrialTimeoutError(Exception):
    """The process reported nothing for too long, and was killed."""

    ending = NO_END


class TrialProcess:
    """A process that does one job after the other; it starts with the first, and again after it has ended."""

    def __init__(self) -> None:
        self._popen: subprocess.Popen[bytes] | None = None
        self._lines: LineReader | None = None

    def do(self, job: Mapping[str, Any], open_s: float, run_s: float) -> Iterator[dict[str, Any]]:
        """Yield the process's reports on one job, up to the last one.

        Args:
            job: see `turnout.trials.child`.
            open_s: time limit for opening the model.
            run_s: time limit for each later report.

        Raises:
            TrialEndedError: the process ended before the last report.
            TrialTimeoutError: a report took longer.
        """
        self._send(json.dumps(job).encode() + b"\n")
        patience_s = open_s
        while True:
            report = json.loads(self._line(time.monotonic() + patience_s))
            patience_s = open_s if "opening" in report else run_s
            yield report
            if "done" in report or "failed" in report:
                return

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """End the process, whatever it is doing."""
        popen, self._popen = self._popen, None
        if popen is not None:
            popen.kill()
            popen.wait()
            close_pipes(popen)

    def _send(self, line: bytes) -> None:
        """Send a job to the existing process or, if it has ended idle, to a new one."""
        if self._popen is not None and self._popen.poll() is None:
            with contextlib.suppress(OSError):
                self._write(line)
                return
        self.close()
        self._popen = subprocess.Popen(
            [sys.executable, "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={**os.environ, **TELEMETRY_OFF},
            start_new_session=True,  # Ctrl-C in a terminal is for the parent only
        )
        assert self._popen.stdout is not None
        self._lines = LineReader(self._popen.stdout)
        self._write(line)

    def _write(self, line: bytes) -> None:
        assert self._popen is not None
        assert self._popen.stdin is not None
        self._popen.stdin.write(line)

    def _line(self, deadline: float) -> bytes:
        popen, lines = self._popen, self._lines
        assert popen is not None
        assert lines is not None
        try:
            line = lines.read_line(deadline)
        except TimeoutError:
            self.close()
            raise TrialTimeoutError from None
        if line is None:
            code = popen.wait()
            self.close()
            raise TrialEndedError(exit_text(code))
        return line

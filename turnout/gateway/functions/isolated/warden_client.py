"""The gateway's end of the warden: sends the keepers to watch, receives which ones were killed.

If the warden has ended, the next call starts another one.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

WARDEN = Path(__file__).with_name("warden.py")
PATIENCE_S = 5.0


class ProcessGuard:
    """One warden process, started when it is first needed."""

    def __init__(self) -> None:
        self._limits_kb: dict[int, int] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._reports = b""

    def add(self, group: int, limit_mb: int) -> None:
        """Start watching an environment, named by its keeper."""
        self._limits_kb[group] = limit_mb * 1024
        self._send(b"watch %d %d\n" % (group, limit_mb * 1024))

    def remove(self, group: int) -> None:
        """Stop watching an environment.

        This must be called before its keeper is waited for, because its id may be reused then.
        """
        if self._limits_kb.pop(group, None) is not None:
            self._send(b"forget %d\n" % group)

    def used_mb(self, group: int) -> int:
        """Return the memory of a dead environment when the warden killed it; 0 if it did not."""
        process = self._process
        if process is not None and process.stdout is not None:
            with contextlib.suppress(BlockingIOError):
                # The warden writes before it kills: if it killed this group, the line is already there.
                self._reports += os.read(process.stdout.fileno(), 65_536)
        *lines, rest = self._reports.split(b"\n")
        most_mb = 0
        others = []
        for line in lines:
            pid, used_kb = map(int, line.split())
            if pid == group:
                most_mb = -(-used_kb // 1024)
            elif pid in self._limits_kb:
                others.append(line)
        self._reports = b"\n".join([*others, rest])
        return most_mb

    def close(self) -> None:
        """End the warden, and with it every watched environment."""
        process, self._process = self._process, None
        self._limits_kb.clear()
        if process is not None:
            _end(process)

    def keep(self) -> None:
        """Restart a warden that has ended; must be called from time to time."""
        if self._process is not None and self._process.poll() is not None:
            self._replace()

    def _send(self, line: bytes) -> None:
        if self._process is None:
            if self._limits_kb:
                self._start()
            return
        try:
            self._write(line)
        except (BrokenPipeError, BlockingIOError):
            # The warden was killed, or hangs.
            self._replace()

    def _replace(self) -> None:
        process, self._process = self._process, None
        assert process is not None
        process.kill()
        _end(process)
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", str(WARDEN)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            bufsize=0,
            env={"PATH": os.defpath},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdin.fileno(), False)
        os.set_blocking(self._process.stdout.fileno(), False)
        for group, limit_kb in self._limits_kb.items():
            self._write(b"watch %d %d\n" % (group, limit_kb))

    def _write(self, line: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        os.write(self._process.stdin.fileno(), line)


def _end(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

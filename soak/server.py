"""`turnout serve` in separate processes: its address, its processes, their memory, its output."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PATIENCE_S = 60.0
"""Time for a start, a stop or an answer on a busy machine before the soak reports a hang."""

RUN_VARIABLE = "TURNOUT_SOAK_RUN"
"""The environment variable that identifies all processes of one server, including those that left its session."""

HOST = "127.0.0.1"
ESTABLISHED = "01"
ALARMS = re.compile(r"Traceback|failed inside the gateway|killed by SIG|exited with|broke the server|Segmentation")
"""Text that a healthy server never prints."""


class SoakError(Exception):
    """The soak itself cannot continue: a server did not start, or a condition of a run was never met."""


def until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait until a condition is true; raise SoakError if it never is."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            raise SoakError(f"not within {patience_s:.0f} s: {what}")
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether a process runs; zombies do not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    process: subprocess.Popen[bytes]
    port: int
    project: Path
    run_id: str

    def workers(self) -> list[int]:
        """Return the processes that answer requests."""
        try:
            text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        except OSError:
            return []
        return [int(child) for child in text.split() if is_alive(int(child))]

    def processes(self) -> list[int]:
        """Return every process that belongs to this server, with any parent."""
        wanted = f"{RUN_VARIABLE}={self.run_id}".encode()
        pids = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and wanted in (entry / "environ").read_bytes() and is_alive(int(entry.name)):
                    pids.append(int(entry.name))
        return pids

    def memory_mb(self) -> float:
        """Return the memory of all of its processes; shared pages are counted once (PSS)."""
        return sum(pss_mb(pid) for pid in self.processes())

    def connections_of(self, pid: int) -> int:
        """Return the number of established connections of a worker."""
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        sockets = {
            f"socket:[{each[9]}]"
            for each in rows
            if each[3] == ESTABLISHED and int(each[1].rpartition(":")[2], 16) == self.port
        }
        held = set()
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                held.add(str(entry.readlink()))
        return len(held & sockets)

    def printed(self) -> str:
        """Return standard error so far."""
        return (self.project / "stderr").read_text(errors="replace")

    def access_log(self) -> str:
        """Return standard output so far."""
        return (self.project / "stdout").read_text(errors="replace")

    def alarms(self) -> list[str]:
        """Return the lines that only a fault of the server explains."""
        return [line for line in self.printed().splitlines() if ALARMS.search(line)]

    def is_port_free(self) -> bool:
        """Whether another server could listen at its address."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, self.port))
            except OSError:
                return False
        return True

    def stop(self) -> int:
        """Stop the server with SIGTERM; return the exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE_S)


def pss_mb(pid: int) -> float:
    """Return one process's share of memory; 0 if it has ended."""
    try:
        match = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return 0.0
    return int(match[1]) / 1024 if match else 0.0


@contextlib.contextmanager
def serving(command: Sequence[str], project: Path, *options: str) -> Iterator[Server]:
    """Serve a project on a free port. At the end all of its processes are stopped in any case."""
    run_id = uuid.uuid4().hex
    environment = {**os.environ, RUN_VARIABLE: run_id, "NO_COLOR": "1"}
    with (project / "stdout").open("wb") as out, (project / "stderr").open("wb") as err:
        process = subprocess.Popen(
            [*command, "serve", "--manifest", str(project / "models.yaml"), "--port", "0", *options],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=environment,
            start_new_session=True,
        )
    server = Server(process, 0, project, run_id)
    try:
        yield Server(process, _await_port(server), project, run_id)
    finally:
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE_S)
        for pid in server.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def _await_port(server: Server) -> int:
    """Return the port from the line that the server prints once it listens."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and server.process.poll() is None:
        if match := re.search(r"http://127\.0\.0\.1:(\d+)", server.printed()):
            return int(match[1])
        time.sleep(0.02)
    raise SoakError(f"the server did not start:\n{server.printed()[-2000:]}")

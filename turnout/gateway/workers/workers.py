"""The worker processes as the supervisor sees them: started, given connections, started again when they end."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NoReturn

from turnout.gateway.shared.gauges import Event
from turnout.gateway.shared.state import SharedState
from turnout.gateway.workers.channel import Channel
from turnout.gateway.workers.descriptors import NO_ROOM, refuse_connection
from turnout.gateway.workers.restarts import FIRST_DELAY_S, Restarts
from turnout.system.processes import SIGNALS

log = logging.getLogger("turnout.workers")

LONGEST_FORK_DELAY_S = 5.0
"""Between two tries to start a worker where the system has no room for another process."""

ACKNOWLEDGED = frozenset({"prepare", "stop"})
"""Messages that a worker acknowledges as soon as its event loop reads them: one that does not, hangs."""

FULL_S = 0.05
"""How long to wait at most for a worker to take what it was sent when none takes any more."""

NO_ROOM_S = 0.001
MOST_TRIES = 50
"""Between tries to hand out a connection while too many descriptors are on their way, and how many tries there are."""


class Given(Enum):
    """The outcome of handing out a connection."""

    TAKEN = "a worker has it"
    LATER = "a worker will take it, or be started"
    FULL = "every worker has as many as it may have"
    NO_ROOM = "no descriptor can be sent at the moment"


@dataclass(eq=False)
class WorkerProcess:
    """One worker, alive or about to be.

    Args:
        number: from 0; it keeps it when it is started again.
        restarts: its ends so far.
        failed_starts: the starts in a row for which the system had no room.
        pid: 0 where it is not alive.
        channel: to it.
        started_s: when it was started, of the monotonic clock; where it is not alive, when it is to be.
        is_ready: whether it takes connections.
        asked_s: when the oldest message that it has not acknowledged was sent; None where there is none.
    """

    number: int
    restarts: Restarts = field(default_factory=Restarts)
    failed_starts: Restarts = field(default_factory=Restarts)
    pid: int = 0
    channel: Channel | None = None
    started_s: float = 0.0
    is_ready: bool = False
    asked_s: float | None = None


def fork(child: Callable[[], int]) -> int:
    """Run `child` in a process of its own, which ends with its exit code; the process's id.

    Raises:
        OSError: the system has no room for another process; nothing has changed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            _live(child, blocked)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return pid


def _live(child: Callable[[], int], blocked: set[signal.Signals] | set[int]) -> NoReturn:
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (*SIGNALS, signal.SIGIO):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        code = child()
    except BaseException:
        log.exception("process %d failed", os.getpid())
    finally:
        # Do not end through the interpreter: its exit handlers belong to the parent.
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


class Workers:
    """All of them.

    Args:
        state: shared with them; it says how many they are.
        run: what each one does, in its own process: its number and its end of the channel, to an exit code.
        close_inherited: closes in a new process what belongs to the supervisor.
        clock: monotonic seconds.
        capacity: connections that one worker may be handed; where all have so many, more are answered with 503 here.
    """

    def __init__(
        self,
        state: SharedState,
        run: Callable[[int, Channel], int],
        close_inherited: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        capacity: int = sys.maxsize,
    ) -> None:
        self._state = state
        self._run = run
        self._close_inherited = close_inherited
        self._clock = clock
        self._capacity = capacity
        self._given = 0
        self._homeless: deque[socket.socket] = deque()
        self.rows = tuple(WorkerProcess(number) for number in range(state.workers))

    def alive(self) -> Iterator[WorkerProcess]:
        """Those that have a process."""
        return (worker for worker in self.rows if worker.pid)

    def start(self, worker: WorkerProcess) -> None:
        """Start one that is not alive.

        Raises:
            OSError: the system has no room for another process, or no descriptors; the worker is due again later.
        """
        try:
            self._start(worker)
        except OSError:
            delay_s = worker.failed_starts.delay_s(0.0) or FIRST_DELAY_S
            worker.started_s = self._clock() + min(delay_s, LONGEST_FORK_DELAY_S)
            raise
        worker.failed_starts = Restarts()

    def _start(self, worker: WorkerProcess) -> None:
        ours, its = Channel.pair()

        def child() -> int:
            ours.close()
            self._close_inherited()
            return self._run(worker.number, its)

        self._state.forget(worker.number)
        try:
            worker.pid = fork(child)
        except OSError:
            ours.close()
            raise
        finally:
            its.close()
        worker.channel = ours
        worker.started_s = self._clock()
        worker.is_ready = False
        worker.asked_s = None

    def due(self) -> list[WorkerProcess]:
        """Those that are not alive and whose time to start has come."""
        now = self._clock()
        return [worker for worker in self.rows if not worker.pid and worker.started_s <= now]

    def reap(self) -> list[tuple[WorkerProcess, int]]:
        """Those that have ended since, with their exit codes, negative for signals; each is due to start again."""
        ended = []
        for worker in tuple(self.alive()):
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                now = self._clock()
                lived_s = now - worker.started_s
                worker.pid = 0
                worker.is_ready = False
                worker.asked_s = None
                worker.started_s = now + worker.restarts.delay_s(lived_s)
                self._state.gauges.count(Event.RESTART)
                ended.append((worker, os.waitstatus_to_exitcode(status)))
        return ended

    def give(self, connections: Sequence[socket.socket] = ()) -> None:
        """Hand connections out, each to the worker with the fewest open ones, and those that waited for a worker.

        They are closed here once they are handed out. One that no worker has room for is answered with 503.
        """
        self._homeless.extend(connections)
        tries = 0
        while self._homeless:
            outcome = self._give(self._homeless[0])
            if outcome is Given.NO_ROOM and tries < MOST_TRIES:
                # Too many descriptors are in flight: workers take them in a moment.
                tries += 1
                time.sleep(NO_ROOM_S)
                continue
            if outcome is Given.TAKEN:
                self._homeless.popleft().close()
            elif outcome in {Given.FULL, Given.NO_ROOM}:
                refuse_connection(self._homeless.popleft())
            else:
                waiting = [worker.channel for worker in self.alive() if worker.is_ready and worker.channel]
                if not waiting:
                    return
                select.select([], waiting, [], FULL_S)

    def _give(self, connection: socket.socket) -> Given:
        """Whether one of them took it. Equal ones take turns."""
        self._given += 1
        count = len(self.rows)
        ready = [worker for worker in self.alive() if worker.is_ready]
        outcome = Given.FULL if ready else Given.LATER
        for worker in sorted(
            ready,
            key=lambda candidate: (
                self._state.open_connections(candidate.number),
                (candidate.number + self._given) % count,
            ),
        ):
            if self._state.open_connections(worker.number) >= self._capacity:
                break  # the other workers have as many
            assert worker.channel is not None
            outcome = Given.LATER
            self._state.add_connections(worker.number, 1)
            try:
                if worker.channel.try_send("connections", 1, files=(connection.fileno(),)):
                    return Given.TAKEN
            except OSError as error:
                if error.errno in NO_ROOM:
                    self._state.add_connections(worker.number, -1)
                    return Given.NO_ROOM
                worker.is_ready = False  # its end is about to be noticed
            self._state.add_connections(worker.number, -1)
        return outcome

    def broadcast(self, kind: str, *values: Any, files: Sequence[int] = ()) -> list[WorkerProcess]:
        """Send a message to every worker that is ready; return these workers."""
        receivers = [worker for worker in self.alive() if worker.is_ready]
        for worker in receivers:
            self.send(worker, kind, *values, files=files)
        return receivers

    def send(self, worker: WorkerProcess, kind: str, *values: Any, files: Sequence[int] = ()) -> None:
        """Send a message to one worker."""
        assert worker.channel is not None
        if kind in ACKNOWLEDGED and worker.asked_s is None:
            worker.asked_s = self._clock()
        worker.channel.send(kind, *values, files=files)

    def hung(self, since_s: float) -> list[WorkerProcess]:
        """Those that have not acknowledged a message that was sent before then."""
        return [worker for worker in self.alive() if worker.asked_s is not None and worker.asked_s <= since_s]

    def close_channels(self) -> None:
        """Close this process's ends, and connections: in a new process, which must not keep them open."""
        for connection in self._homeless:
            connection.close()
        for worker in self.rows:
            if worker.channel is not None:
                worker.channel.close()

    def kill(self, *, starting_only: bool = False) -> None:
        """End all of them at once, or those that serve no client yet."""
        for worker in self.alive():
            if not (starting_only and worker.is_ready):
                # may run in a signal handler while the worker's end is being handled
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGKILL)

    def bury(self) -> None:
        """Wait until those that were killed are gone."""
        for worker in self.alive():
            with contextlib.suppress(ChildProcessError):
                os.waitpid(worker.pid, 0)
            worker.pid = 0

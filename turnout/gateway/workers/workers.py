"""The worker processes from the supervisor's view: started, given connections, restarted when they end."""

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
"""Longest time between two attempts to start a worker if the system cannot start another process."""

ACKNOWLEDGED = frozenset({"prepare", "stop"})
"""Messages that a worker acknowledges as soon as its event loop reads them; one that does not, hangs."""

FULL_S = 0.05
"""Longest wait for a worker to read its messages when none accepts more."""

NO_ROOM_S = 0.001
MOST_TRIES = 50
"""Pause between attempts to give a connection while too many descriptors are in flight, and the number of attempts."""


class Given(Enum):
    """The result of giving a connection to a worker."""

    TAKEN = "a worker has it"
    LATER = "a worker will take it, or be started"
    FULL = "every worker has as many as it may have"
    NO_ROOM = "no descriptor can be sent at the moment"


@dataclass(eq=False)
class WorkerProcess:
    """One worker, alive or about to be started.

    Args:
        number: from 0; it is kept when the worker is restarted.
        restarts: its previous ends.
        failed_starts: consecutive starts that failed for lack of resources.
        pid: 0 if it is not alive.
        channel: the channel to it.
        started_s: when it was started, on the monotonic clock; if it is not alive, when it is due to start.
        is_ready: whether it accepts connections.
        asked_s: when the oldest unacknowledged message was sent; None if there is none.
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
    """Run `child` in a new process, which ends with its exit code; return the process id.

    Raises:
        OSError: the system cannot start another process; nothing has changed.
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
    """All workers.

    Args:
        state: state shared with them; it contains their number.
        run: runs a worker in its own process, given its number and its end of the channel; returns an exit code.
        close_inherited: closes in a new process what belongs to the supervisor.
        clock: monotonic seconds.
        capacity: most connections that one worker may be given; if all have this number, more are answered with 503
            here.
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
        """Return those that have a process."""
        return (worker for worker in self.rows if worker.pid)

    def start(self, worker: WorkerProcess) -> None:
        """Start one that is not alive.

        Raises:
            OSError: the system lacks processes or descriptors; the worker is due again later.
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
        """Return those that are not alive and due to start."""
        now = self._clock()
        return [worker for worker in self.rows if not worker.pid and worker.started_s <= now]

    def reap(self) -> list[tuple[WorkerProcess, int]]:
        """Return those that have ended since, with their exit codes, negative for signals; each is due to restart."""
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
        """Give connections to workers, each to the one with the fewest open ones, and those that waited for a worker.

        They are closed here once they are given. A connection that no worker has space for is answered with 503.
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
        """Give a connection to a worker; return whether one accepted it. Equally loaded workers take turns."""
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
        """Return those that have not acknowledged a message sent before this time."""
        return [worker for worker in self.alive() if worker.asked_s is not None and worker.asked_s <= since_s]

    def close_channels(self) -> None:
        """Close this process's ends, and connections, in a new process, which must not keep them open."""
        for connection in self._homeless:
            connection.close()
        for worker in self.rows:
            if worker.channel is not None:
                worker.channel.close()

    def kill(self, *, starting_only: bool = False) -> None:
        """Kill all of them immediately, or those that serve no client yet."""
        for worker in self.alive():
            if not (starting_only and worker.is_ready):
                # may run in a signal handler while the worker's end is being handled
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGKILL)

    def bury(self) -> None:
        """Wait until the killed ones are gone."""
        for worker in self.alive():
            with contextlib.suppress(ChildProcessError):
                os.waitpid(worker.pid, 0)
            worker.pid = 0

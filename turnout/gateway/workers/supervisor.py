"""The process that owns the port: starts the workers, gives them connections, keeps them alive, reloads and stops.

It has neither threads nor an event loop nor a session, so that it can fork at any time. SIGTERM and SIGINT stop it once
the requests in flight are answered; a second signal stops it immediately; SIGHUP reloads, or stops it if its terminal
was closed.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Sequence
from types import FrameType

from turnout.gateway.output.process import Output
from turnout.gateway.workers.channel import Channel
from turnout.gateway.workers.deaths import Deaths
from turnout.gateway.workers.heartbeats import LOOK_S, Heartbeats
from turnout.gateway.workers.reload import Reload
from turnout.gateway.workers.terminal import Terminal
from turnout.gateway.workers.watch import Watch
from turnout.gateway.workers.workers import WorkerProcess, Workers
from turnout.http_server.server import BACKLOG
from turnout.system.processes import reap_orphans

log = logging.getLogger("turnout.workers")

AT_ONCE = 32
"""Most connections accepted before other work is checked."""

NO_FILES_PAUSE_S = 0.1
"""Pause in accepting connections after the system ran out of file descriptors."""

STOP_MARGIN_S = 10.0
"""Time beyond that for requests in flight before a worker is killed."""

OUTPUT_LOOK_S = 1.0
"""Seconds between two checks of the output process."""

HUNG_S = 5.0
"""A worker that does not acknowledge a message for this long hangs: its event loop is blocked."""


class StartError(Exception):
    """A worker ended before the gateway served anything; the log contains the reason."""


class StopError(Exception):
    """Workers had to be killed to stop the gateway; the message says how many and why."""


class Supervisor:
    """One gateway's parent process.

    Args:
        listeners: bound, but not yet listening.
        workers: not started yet.
        reload: handles reloads.
        heartbeats: detect blocked workers.
        deaths: counts which functions end workers.
        watch: watches the files, or None.
        on_ready: called once, when every worker is ready.
        output: the redirected streams, checked once a second; None if they are not redirected.
        shutdown_s: time that workers give to requests in flight.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        workers: Workers,
        reload: Reload,
        *,
        heartbeats: Heartbeats,
        deaths: Deaths,
        watch: Watch | None,
        on_ready: Callable[[], None],
        output: Output | None = None,
        shutdown_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._listeners = list(listeners)
        self._workers = workers
        self._heartbeats = heartbeats
        self._deaths = deaths
        self._stood_still: set[int] = set()
        self._reload = reload
        self._watch = watch
        self._on_ready = on_ready
        self._output = output
        self._shutdown_s = shutdown_s
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._wakeup = socket.socketpair()
        self._is_serving = False
        self._is_stopping = False
        self._stop_signals = 0
        self._reload_wanted = False
        self._terminal = Terminal()
        self._children_ended = False
        self._kill_at: float | None = None
        self._killed = 0
        self._accept_at = 0.0

    def close_inherited(self) -> None:
        """Close what belongs only to the supervisor, in a process that was just forked."""
        self._selector.close()
        for end in (*self._wakeup, *self._listeners):
            end.close()
        self._workers.close_channels()

    def run(self) -> None:
        """Serve until a signal arrives and everything is answered.

        Raises:
            StartError: a worker cannot start.
            StopError: a worker did not stop and was killed.
            OSError: the server cannot listen on the sockets.
        """
        for end in self._wakeup:
            end.settimeout(0)
        before = {number: signal.getsignal(number) for number in (*_STOPS, signal.SIGHUP, signal.SIGCHLD)}
        wakeup_before = signal.set_wakeup_fd(self._wakeup[1].fileno(), warn_on_full_buffer=False)
        try:
            for number in _STOPS:
                signal.signal(number, self._count_stop)
            signal.signal(signal.SIGHUP, self._want_reload)
            signal.signal(signal.SIGCHLD, self._note_end)
            signal.signal(signal.SIGIO, signal.SIG_IGN)  # see `is_open_for_writing`
            self._selector.register(self._wakeup[0], selectors.EVENT_READ, self._drain_wakeup)
            self._start_due()
            while self._go_on():
                for key, _ in self._selector.select(self._timeout_s()):
                    key.data()
                self._look_around()
        finally:
            self._workers.kill()
            self._workers.bury()
            self._reload.stop()
            signal.set_wakeup_fd(wakeup_before)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._selector.close()
            for end in self._wakeup:
                end.close()
        if self._killed:
            killed = "1 worker" if self._killed == 1 else f"{self._killed} workers"
            raise StopError(f"{killed} did not stop in time and had to be killed; requests in flight there are lost")

    # Signals.

    def _count_stop(self, number: int, _frame: FrameType | None) -> None:
        self._stop_signals += 1
        if self._stop_signals > 1:
            self._workers.kill()
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _want_reload(self, _number: int, _frame: FrameType | None) -> None:
        if self._terminal.is_closed:
            self._stop_signals = max(self._stop_signals, 1)  # the kernel and the shell may both send the signal
        else:
            self._reload_wanted = True

    def _note_end(self, _number: int, _frame: FrameType | None) -> None:
        self._children_ended = True

    def _drain_wakeup(self) -> None:
        try:
            while self._wakeup[0].recv(4096):
                pass
        except BlockingIOError:
            pass

    # One iteration.

    def _go_on(self) -> bool:
        return not self._is_stopping or any(self._workers.alive())

    def _timeout_s(self) -> float | None:
        now = self._clock()
        waits = [worker.started_s - now for worker in self._workers.rows if not worker.pid and not self._is_stopping]
        if any(worker.channel is not None and worker.channel.is_waiting for worker in self._workers.rows):
            waits.append(0.01)
        waits += [worker.asked_s + HUNG_S - now for worker in self._workers.alive() if worker.asked_s is not None]
        if self._watch is not None and not self._is_stopping:
            waits.append(self._watch.wait_s())
        if not self._is_stopping:
            waits += self._reload.waits_s()
        if self._output is not None:
            waits.append(OUTPUT_LOOK_S)
        if self._kill_at is not None:
            waits.append(self._kill_at - now)
        elif self._is_serving:
            waits.append(LOOK_S)
        if self._accept_at:
            waits.append(self._accept_at - now)
        return max(0.0, min(waits)) if waits else None

    def _look_around(self) -> None:
        """Do everything that is due."""
        for worker in self._workers.rows:
            if worker.channel is not None:
                worker.channel.flush()
        if self._children_ended:
            self._children_ended = False
            self._reap()
        if self._stop_signals and not self._is_stopping:
            self._stop()
        self._kill_hung()
        if self._output is not None:
            self._output.look()
        if self._is_stopping:
            self._kill_late()
        else:
            self._go_on_serving()

    def _go_on_serving(self) -> None:
        self._reload.look()
        self._start_due()
        self._kill_stalled()
        if self._accept_at and self._clock() >= self._accept_at:
            self._accept_at = 0.0
            self._listen()
        if self._watch is not None and self._is_serving and self._watch.poll():
            self._reload.request()
        if self._reload_wanted and self._is_serving:
            self._reload_wanted = False
            self._reload.request(repeat=True)

    def _kill_late(self) -> None:
        if self._kill_at is None or self._clock() < self._kill_at:
            return
        self._kill_at = None
        for worker in self._workers.alive():
            self._kill(worker, f"did not end within {self._shutdown_s + STOP_MARGIN_S:g} s")

    def _kill_hung(self) -> None:
        for worker in self._workers.hung(self._clock() - HUNG_S):
            self._kill(worker, f"has not answered for {HUNG_S:g} s")

    def _kill(self, worker: WorkerProcess, reason: str) -> None:
        """Kill a worker that does not end by itself; this also works for a stopped one (SIGSTOP)."""
        log.warning("worker %d %s and is killed", worker.number, reason)
        worker.asked_s = None
        if self._is_stopping:
            self._killed += 1
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGKILL)

    def _start_due(self) -> None:
        for worker in self._workers.due():
            try:
                self._workers.start(worker)
            except OSError as error:
                reason = f"worker {worker.number} cannot be started: {error.strerror or error}"
                if not self._is_serving:
                    raise StartError(reason) from error
                wait_s = max(0.0, worker.started_s - self._clock())
                log.warning("%s; the next try is in %.2g s", reason, wait_s)
                continue
            assert worker.channel is not None
            self._selector.register(worker.channel, selectors.EVENT_READ, _Hearing(self, worker))
            self._reload.worker_started(worker)

    def _reap(self) -> None:
        self._reload.reap()
        for worker, code in self._workers.reap():
            if not self._is_serving and not self._is_stopping:
                raise StartError(f"worker {worker.number} ended before it served: {describe_exit(code)}")
            if not self._is_stopping:
                wait_s = max(0.0, worker.started_s - self._clock())
                soon = "at once" if wait_s == 0 else f"in {wait_s:.2g} s"
                log.warning("worker %d ended: %s; it is started again %s", worker.number, describe_exit(code), soon)
                stood_still = worker.number in self._stood_still
                for sentence in self._deaths.note(worker.number, code, stood_still=stood_still):
                    log.warning("%s", sentence)
            self._stood_still.discard(worker.number)
            self._forget_channel(worker)
            self._reload.worker_gone(worker)
        reap_orphans({self._reload.pid, *(worker.pid for worker in self._workers.alive())})

    # Workers.

    def hear(self, worker: WorkerProcess, channel: Channel) -> None:
        """Handle a worker's messages."""
        try:
            while (message := channel.receive()) is not None:
                match message.kind:
                    case "heard":
                        worker.asked_s = None
                    case "ready":
                        self._make_ready(worker)
                    case "leaving":
                        worker.is_ready = False
                    case "opened":
                        self._workers.broadcast("open", *message.values)
                    case "prepared":
                        self._reload.worker_prepared(worker, *message.values)
        except EOFError:
            worker.is_ready = False
            if worker.asked_s is None and worker.channel is channel:
                worker.asked_s = self._clock()  # the worker should end in a moment
            self._selector.unregister(channel)

    def _kill_stalled(self) -> None:
        """Kill workers with blocked event loops; they are restarted like others that ended."""
        if not self._is_serving:
            return
        ready = [worker.number for worker in self._workers.alive() if worker.is_ready]
        for number in self._heartbeats.find_stalled(ready, self._clock()):
            log.warning(
                "the event loop of worker %d has been blocked for %g s: killed", number, self._heartbeats.patience_s
            )
            self._stood_still.add(number)
            os.kill(self._workers.rows[number].pid, signal.SIGKILL)

    def _forget_channel(self, worker: WorkerProcess) -> None:
        channel = worker.channel
        assert channel is not None
        with contextlib.suppress(KeyError):  # its end may have been noticed already
            self._selector.unregister(channel)
        channel.close()
        worker.channel = None

    def _make_ready(self, worker: WorkerProcess) -> None:
        worker.is_ready = True
        self._workers.give()
        if self._is_stopping:
            self._workers.send(worker, "stop")
            return
        self._reload.worker_ready(worker)
        if not self._is_serving and all(slot.is_ready for slot in self._workers.rows):
            self._is_serving = True
            for listener in self._listeners:
                listener.listen(BACKLOG)
            self._listen()
            self._on_ready()

    # Connections.

    def _listen(self) -> None:
        for listener in self._listeners:
            self._selector.register(listener, selectors.EVENT_READ, _Accepting(self, listener))

    def accept(self, listener: socket.socket) -> None:
        """Accept waiting connections and give them to workers."""
        if not any(worker.is_ready for worker in self._workers.alive()):
            self._pause()  # the kernel queues connections until a worker is back
            return
        taken = []
        try:
            for _ in range(AT_ONCE):
                taken.append(listener.accept()[0])  # noqa: PERF401 - connections accepted before an error are kept
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                log.warning("no connection can be accepted: %s", error.strerror)
                self._pause()
        self._workers.give(taken)

    def _pause(self) -> None:
        if self._accept_at:
            return  # two listeners were ready at once
        self._accept_at = self._clock() + NO_FILES_PAUSE_S
        for listener in self._listeners:
            self._selector.unregister(listener)

    def _stop(self) -> None:
        self._is_stopping = True
        self._kill_at = self._clock() + self._shutdown_s + STOP_MARGIN_S
        if self._is_serving and not self._accept_at:
            for listener in self._listeners:
                self._selector.unregister(listener)
        self._accept_at = 0.0
        for listener in self._listeners:
            listener.close()
        self._reload.stop()
        self._workers.kill(starting_only=True)
        self._workers.broadcast("stop")


_STOPS = (signal.SIGTERM, signal.SIGINT)


class _Hearing:
    """Called when a worker has sent a message; it contains the channel, because a restarted worker has another one."""

    def __init__(self, supervisor: Supervisor, worker: WorkerProcess) -> None:
        assert worker.channel is not None
        self._supervisor, self._worker, self._channel = supervisor, worker, worker.channel

    def __call__(self) -> None:
        self._supervisor.hear(self._worker, self._channel)


class _Accepting:
    """Called when connections wait."""

    def __init__(self, supervisor: Supervisor, listener: socket.socket) -> None:
        self._supervisor, self._listener = supervisor, listener

    def __call__(self) -> None:
        self._supervisor.accept(self._listener)


def describe_exit(code: int) -> str:
    """Return `killed by SIGKILL`, `exit code 1`."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

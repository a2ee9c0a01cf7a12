"""Reloads the project's files: a separate process reads them, all workers prepare them, then all switch.

The supervisor calls it step by step, and nothing here waits. Every phase has a deadline: neither a file that hangs the
reading process, nor a hanging worker, ends reloading for good. What failed because the system lacked processes, memory
or descriptors is tried again.

    idle ── request ──> building ── rebuilt ──> preparing ── all workers are ready ──> idle, switched
                           └── problems, nothing new ──> idle <── one worker cannot ──┘
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from turnout.gateway.editions.changes import carry_over, describe_changes
from turnout.gateway.editions.edition import Edition, FileStamp
from turnout.gateway.editions.rebuild import Rebuilt, is_shortage, read_rebuilt, write_rebuilt
from turnout.gateway.shared.gauges import Event
from turnout.gateway.shared.state import ControlState, SharedState
from turnout.gateway.workers.workers import WorkerProcess, Workers, fork
from turnout.system.processes import die_with_parent

log = logging.getLogger("turnout.reload")

READ_S = 600.0
"""Time limit for reading the files, after which the process is killed. Opening one version has its own deadline,
`OPEN_S`.
"""

RESTART_SHARE = 1 / 60
"""A reading that has used this share of its time is abandoned for a newer change, which may fix what hangs."""

PREPARE_S = 120.0
"""Time limit for workers to prepare an edition; those that have not are killed and restarted."""

FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 30.0


class ReloadPhase(Enum):
    """The phases of a reload."""

    IDLE = "nothing"
    BUILDING = "the process that reads the files"
    PREPARING = "workers that have not yet opened what is new"


@dataclass(frozen=True, slots=True)
class Numbered:
    """An edition and its number, which increases."""

    number: int
    edition: Edition


class Reload:
    """At most one reload at a time; later requests are handled afterwards.

    Args:
        current: the served edition.
        workers: the workers that serve it.
        state: state shared with them.
        build: reads the files, given the served edition; runs in a separate process.
        close_inherited: closes in a new process what belongs to the supervisor.
        notify: prints a message for the user.
        read_s: see `READ_S`.
        clock: monotonic seconds.

    Attributes:
        current: the served edition; workers that are started get this.
        on_files: called with the files that the last reading depended on.
        pid: id of the reading process; 0 if there is none.
    """

    def __init__(
        self,
        current: Numbered,
        workers: Workers,
        state: SharedState,
        *,
        build: Callable[[Edition], Rebuilt],
        close_inherited: Callable[[], None],
        notify: Callable[[str], None],
        on_files: Callable[[Mapping[Path, FileStamp]], None],
        read_s: float = READ_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.current = current
        self.phase = ReloadPhase.IDLE
        self._workers = workers
        self._state = state
        self._build = build
        self._close_inherited = close_inherited
        self._notify = notify
        self._on_files = on_files
        self._is_wanted = False
        self._reported = ""
        self.pid = 0
        self._file = -1
        self._next = current
        self._last_number = current.number
        self._awaited: set[WorkerProcess] = set()
        self._read_s = read_s
        self._clock = clock
        self._phase_began_s = 0.0
        self._retry_at: float | None = None
        self._retry_s = FIRST_RETRY_S

    def waits_s(self) -> list[float]:
        """The seconds until `look` has something to do."""
        now = self._clock()
        waits = [] if self._retry_at is None else [self._retry_at - now]
        if self.phase is ReloadPhase.BUILDING:
            waits.append(self._phase_began_s + self._read_s - now)
            if self._is_wanted:
                waits.append(self._phase_began_s + self._read_s * RESTART_SHARE - now)
        elif self.phase is ReloadPhase.PREPARING:
            waits.append(self._phase_began_s + PREPARE_S - now)
        return waits

    def look(self) -> None:
        """End what takes too long, and retry what is due."""
        now = self._clock()
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_at = None
            self.request()
        elif self.phase is ReloadPhase.BUILDING:
            taken_s = now - self._phase_began_s
            if taken_s >= self._read_s:
                self._kill_reading()
                self._fail(f"reading the files took longer than {self._read_s:g} s")
            elif self._is_wanted and taken_s >= self._read_s * RESTART_SHARE:
                self._kill_reading()
                self._end()
        elif self.phase is ReloadPhase.PREPARING and now - self._phase_began_s >= PREPARE_S:
            self._give_up_on_awaited()

    def request(self, *, repeat: bool = False) -> None:
        """Read the files now, or again after the current reading.

        Args:
            repeat: report problems again that were already reported.
        """
        if repeat:
            self._reported = ""
        if self.phase is not ReloadPhase.IDLE:
            self._is_wanted = True
            return
        self._is_wanted = False
        self._retry_at = None
        self.phase = ReloadPhase.BUILDING
        self._phase_began_s = self._clock()
        edition = self.current.edition
        supervisor = os.getpid()

        def child() -> int:
            die_with_parent(supervisor)
            os.setpgid(0, 0)  # the supervisor can then end this process together with all that it has started
            self._close_inherited()
            # Ctrl-C in the terminal is ignored; the supervisor ends this process
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            write_rebuilt(self._build(edition), self._file)
            return 0

        try:
            self._file = os.memfd_create("turnout-edition")
            self.pid = fork(child)
        except OSError as error:
            self._fail(f"the files cannot be read: {error.strerror or error}", is_temporary=True)

    def reap(self) -> None:
        """Check whether the reading has ended."""
        if not self.pid:
            return
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            return
        self.pid = 0
        code = os.waitstatus_to_exitcode(status)
        if code:
            reason = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            self._fail(f"reading the files ended with {reason}")
            return
        rebuilt = read_rebuilt(self._file)
        self._on_files(rebuilt.files)
        if rebuilt.edition is None:
            self._fail(rebuilt.problems, is_temporary=is_shortage(rebuilt.problems))
        elif rebuilt.edition == self.current.edition:
            self._reported = ""
            self._end()
        else:
            self._last_number += 1
            self._next = Numbered(self._last_number, rebuilt.edition)
            self.phase = ReloadPhase.PREPARING
            self._phase_began_s = self._clock()
            self._awaited = set(self._workers.broadcast("prepare", self._next.number, files=(self._file,)))
            # A worker that is starting was forked with the current edition and needs the message once it is ready.
            self._awaited |= set(self._workers.alive())
            self._commit_if_ready()

    def worker_ready(self, worker: WorkerProcess) -> None:
        """Include a worker that has started."""
        if self.phase is ReloadPhase.PREPARING and worker.channel is not None:
            self._awaited.add(worker)
            self._workers.send(worker, "prepare", self._next.number, files=(self._file,))

    def worker_started(self, worker: WorkerProcess) -> None:
        """A worker was forked with the served edition."""
        if self.phase is ReloadPhase.PREPARING:
            self._awaited.add(worker)

    def worker_gone(self, worker: WorkerProcess) -> None:
        """Do not wait for a worker that has ended."""
        if self.phase is ReloadPhase.PREPARING:
            self._awaited.discard(worker)
            self._commit_if_ready()

    def worker_prepared(self, worker: WorkerProcess, number: int, reason: str) -> None:
        """A worker is ready to switch to an edition, or reports why it cannot."""
        if self.phase is not ReloadPhase.PREPARING or number != self._next.number:
            return
        if reason:
            self._workers.broadcast("discard", number)
            self._fail(f"worker {worker.number} cannot serve it: {reason}", is_temporary=is_shortage(reason))
            return
        self._awaited.discard(worker)
        self._commit_if_ready()

    def stop(self) -> None:
        """Stop the reading, because the gateway stops."""
        self._kill_reading()
        self._retry_at = None
        if self.phase is not ReloadPhase.IDLE:
            self._is_wanted = False
            self._end()

    def _kill_reading(self) -> None:
        """End the reading process, with everything that it has started."""
        if not self.pid:
            return
        # a new process is not yet the leader of its group
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.pid = 0

    def _give_up_on_awaited(self) -> None:
        """Kill the workers that have not prepared; switch without them if others have."""
        awaited = tuple(self._awaited)
        names = ", ".join(str(worker.number) for worker in awaited)
        problem = f"worker {names} did not prepare it within {PREPARE_S:g} s"
        for worker in awaited:
            log.warning("worker %d did not prepare the new files within %g s and is killed", worker.number, PREPARE_S)
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)
        if all(worker in self._awaited for worker in self._workers.alive()):
            self._workers.broadcast("discard", self._next.number)
            self._fail(problem)
            return
        self._awaited = set()
        self._commit_if_ready()

    def _commit_if_ready(self) -> None:
        if self._awaited or not any(worker.is_ready for worker in self._workers.alive()):
            return
        before, after = self.current, self._next

        def change(state: ControlState | None) -> ControlState:
            assert state is not None
            return replace(carry_over(state, before.edition, after.edition), edition=after.number)

        self._state.update(change)
        self._state.gauges.count(Event.RELOAD)
        self.current = after
        self._reported = ""
        self._retry_s = FIRST_RETRY_S
        self._workers.broadcast("look")
        changes = describe_changes(before.edition, after.edition)
        if changes:
            self._notify(f"reloaded {after.edition.project.manifest.source}: {changes}")
        self._end()

    def _fail(self, problems: str, *, is_temporary: bool = False) -> None:
        if is_temporary:
            self._retry_at = self._clock() + self._retry_s
            self._retry_s = min(2 * self._retry_s, LONGEST_RETRY_S)
        else:
            self._retry_s = FIRST_RETRY_S
        self._state.gauges.count(Event.FAILED_RELOAD)
        if problems != self._reported:
            again = " Turnout tries again." if is_temporary else ""
            self._notify(f"{problems}\nNot reloaded: the server still serves the previous files.{again}")
        self._reported = problems
        self._end()

    def _end(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1
        self.phase = ReloadPhase.IDLE
        self._awaited = set()
        if self._is_wanted:
            self.request()

"""Going over to what the project's files say now: read in a process of its own, prepared by all workers, then switched.

Comes in: the wish to reload, what workers tell. Goes out: messages to workers, one change of the control state, what
there is to tell the user. Called by the supervisor, step by step; nothing here waits.

    idle ── request ──> building ── rebuilt ──> preparing ── all workers are ready ──> idle, switched
                           └── problems, nothing new ──> idle <── one worker cannot ──┘
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from turnout.gateway.reload.edition import Edition, FileStamp
from turnout.gateway.reload.edition_changes import carry_over, describe_changes
from turnout.gateway.reload.rebuild import Rebuilt, read_rebuilt, write_rebuilt
from turnout.gateway.shared.state import ControlState, SharedState
from turnout.gateway.workers.workers import WorkerProcess, Workers, fork


class Phase(Enum):
    """What a reload waits for."""

    IDLE = "nothing"
    BUILDING = "the process that reads the files"
    PREPARING = "workers that have not yet opened what is new"


@dataclass(frozen=True, slots=True)
class Numbered:
    """An edition and its number, which grows."""

    number: int
    edition: Edition


class Reload:
    """At most one reload at a time; what is asked for meanwhile comes after it.

    Args:
        current: what is served.
        workers: who serve it.
        state: shared with them.
        build: reads the files, given what is served; runs in a process of its own.
        close_inherited: closes in a new process what belongs to the supervisor.
        tell: says something to the user.

    Attributes:
        current: what is served; workers that are started get this.
        on_files: told which files the last reading depended on.
    """

    def __init__(
        self,
        current: Numbered,
        workers: Workers,
        state: SharedState,
        *,
        build: Callable[[Edition], Rebuilt],
        close_inherited: Callable[[], None],
        tell: Callable[[str], None],
        on_files: Callable[[Mapping[Path, FileStamp]], None],
    ) -> None:
        self.current = current
        self.phase = Phase.IDLE
        self._workers = workers
        self._state = state
        self._build = build
        self._close_inherited = close_inherited
        self._tell = tell
        self._on_files = on_files
        self._is_wanted = False
        self._told = ""
        self._pid = 0
        self._file = -1
        self._next = current
        self._last_number = current.number
        self._awaited: set[WorkerProcess] = set()

    def request(self, *, repeat: bool = False) -> None:
        """Read the files now, or again after the reading that goes on.

        Args:
            repeat: tell problems again that were told already.
        """
        if repeat:
            self._told = ""
        if self.phase is not Phase.IDLE:
            self._is_wanted = True
            return
        self._is_wanted = False
        self.phase = Phase.BUILDING
        file = self._file = os.memfd_create("turnout-edition")
        edition = self.current.edition

        def child() -> int:
            self._close_inherited()
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's; the supervisor ends this process
            write_rebuilt(self._build(edition), file)
            return 0

        self._pid = fork(child)

    def reap(self) -> None:
        """See whether the reading has ended."""
        if not self._pid:
            return
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        if not pid:
            return
        self._pid = 0
        code = os.waitstatus_to_exitcode(status)
        if code:
            reason = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            self._fail(f"reading the files ended with {reason}")
            return
        rebuilt = read_rebuilt(self._file)
        self._on_files(rebuilt.files)
        if rebuilt.edition is None:
            self._fail(rebuilt.problems)
        elif rebuilt.edition == self.current.edition:
            self._told = ""
            self._end()
        else:
            self._last_number += 1
            self._next = Numbered(self._last_number, rebuilt.edition)
            self.phase = Phase.PREPARING
            self._awaited = set(self._workers.tell("prepare", self._next.number, files=(self._file,)))
            # One that is starting was forked with what is served now, and has to be told once it is ready.
            self._awaited |= set(self._workers.alive())
            self._commit_if_ready()

    def worker_ready(self, worker: WorkerProcess) -> None:
        """A worker that has started takes part, too."""
        if self.phase is Phase.PREPARING and worker.channel is not None:
            self._awaited.add(worker)
            worker.channel.send("prepare", self._next.number, files=(self._file,))

    def worker_started(self, worker: WorkerProcess) -> None:
        """A worker was forked, with what is served now."""
        if self.phase is Phase.PREPARING:
            self._awaited.add(worker)

    def worker_gone(self, worker: WorkerProcess) -> None:
        """A worker that has ended is not waited for."""
        if self.phase is Phase.PREPARING:
            self._awaited.discard(worker)
            self._commit_if_ready()

    def worker_prepared(self, worker: WorkerProcess, number: int, reason: str) -> None:
        """A worker can go over to an edition, or says why it cannot."""
        if self.phase is not Phase.PREPARING or number != self._next.number:
            return
        if reason:
            self._workers.tell("discard", number)
            self._fail(f"worker {worker.number} cannot serve it: {reason}")
            return
        self._awaited.discard(worker)
        self._commit_if_ready()

    def stop(self) -> None:
        """The gateway ends: so does the reading."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0
        if self.phase is not Phase.IDLE:
            self._is_wanted = False
            self._end()

    def _commit_if_ready(self) -> None:
        if self._awaited or not any(worker.is_ready for worker in self._workers.alive()):
            return
        before, after = self.current, self._next

        def change(state: ControlState | None) -> ControlState:
            assert state is not None
            return replace(carry_over(state, before.edition, after.edition), edition=after.number)

        self._state.update(change)
        self.current = after
        self._told = ""
        self._workers.tell("look")
        told = describe_changes(before.edition, after.edition)
        if told:
            self._tell(f"reloaded {after.edition.project.manifest.source}: {told}")
        self._end()

    def _fail(self, problems: str) -> None:
        if problems != self._told:
            self._tell(f"{problems}\nnot reloaded: what was served before still is.")
        self._told = problems
        self._end()

    def _end(self) -> None:
        os.close(self._file)
        self._file = -1
        self.phase = Phase.IDLE
        self._awaited = set()
        if self._is_wanted:
            self.request()

"""The queue compared with a model of it: several processes, each of which may be killed within any statement."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.builders.queued_requests import new_request
from turnout.gateway.requests import store
from turnout.gateway.requests.database import connect, transaction
from turnout.gateway.requests.files import Content
from turnout.gateway.requests.rows import Claim, StoredAnswer
from turnout.protocol.requests import states
from turnout.protocol.requests.refusals import Refusal
from turnout.protocol.requests.states import StepError

T = TypeVar("T")

TIME_TO_LIVE_S = 60.0
MOST_RUNNING = 2
IDS = tuple("abcde")
SURVIVES = 1000
"""More statements than any job has."""


class KilledError(BaseException):
    """The process was killed."""


class MortalConnection:
    """A connection whose process is killed before its nth statement."""

    def __init__(self, connection: sqlite3.Connection, statements: int) -> None:
        self._connection, self._left = connection, statements

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        if self._left == 0:
            raise KilledError
        self._left -= 1
        return self._connection.execute(*arguments)


class QueueMachine(RuleBasedStateMachine):
    """Two working processes. A step that the queue confirmed is kept, even if a process is killed."""

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.connection = connect(Path(self.folder.name))
        self.now = 1000.0
        self.owner = 2  # the newer of the two live processes
        self.claims: dict[int, list[Claim]] = {1: [], 2: []}
        self.lost: list[Claim] = []  # of killed processes that do not know it yet
        self.answers: dict[str, bytes] = {}  # of requests that are done
        self.accepted: set[str] = set()

    def teardown(self) -> None:
        self.connection.close()
        self.folder.cleanup()

    def do(self, job: Callable[[Any], T], killed_at: int = SURVIVES) -> T | None:
        """Run a job as a process does; return None if it is killed, in which case nothing has happened."""
        before = self.dump()
        mortal = MortalConnection(self.connection, killed_at)
        try:
            with transaction(self.connection):
                return job(mortal)
        except KilledError:
            assert self.dump() == before
            return None

    def dump(self) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.connection.execute("SELECT * FROM requests ORDER BY seq")]

    def state_of(self, identifier: str) -> str:
        stored = store.find(self.connection, "dev", identifier)
        return "" if stored is None else str(stored.progress.state)

    @rule(identifier=st.sampled_from(IDS), body=st.binary(max_size=3), attempts=st.integers(1, 3), at=st.integers(0, 9))
    def accept(self, identifier: str, body: bytes, attempts: int, at: int) -> None:
        new = new_request(
            identifier,
            fingerprint=f"call:{body.hex()}:",
            progress=states.accept(self.now, TIME_TO_LIVE_S, attempts),
            body=Content(body, "", len(body)),
            max_answer_bytes=1000,
        )
        was_there = bool(self.state_of(identifier))
        try:
            self.do(lambda database: store.accept(database, new, 1_000_000), at)
        except Refusal as refusal:
            assert (refusal.code, was_there) == ("IDENTIFIER_TAKEN", True)  # noqa: PT017 - others may pass
            return
        if self.state_of(identifier) and not was_there:
            self.accepted.add(identifier)

    @rule(which=st.integers(0, 1), at=st.sampled_from((SURVIVES, SURVIVES, 1, 3, 4, 5)))
    def claim(self, which: int, at: int) -> None:
        owner = sorted(self.claims)[which]
        limits = {"most": 2, "most_running": MOST_RUNNING, "max_stored_bytes": {"dev": 1_000_000}}
        claimed = self.do(lambda database: store.claim(database, owner, self.now, **limits), at)
        if claimed is None:
            self.kill(which)
            return
        for claim in claimed:
            assert self.state_of(claim.id) == "running"
            assert claim.id not in self.answers
        self.claims[owner] += claimed

    @precondition(lambda self: any(self.claims.values()))
    @rule(how=st.sampled_from(("done", "again", "final", "no room")), at=st.sampled_from((SURVIVES, SURVIVES, 0, 1)))
    def finish(self, how: str, at: int) -> None:
        owner = next(owner for owner, claims in self.claims.items() if claims)
        claim = self.claims[owner].pop(0)
        is_kept = self.do(lambda database: self.end(database, claim, how), at)
        if is_kept is None:
            self.claims[owner].insert(0, claim)
            self.kill(sorted(self.claims).index(owner))
            return
        assert is_kept
        if how == "done":
            assert claim.id not in self.answers, "answered twice"
            self.answers[claim.id] = b"%d/%d" % (claim.seq, claim.attempt)

    @precondition(lambda self: self.lost)
    @rule(how=st.sampled_from(("done", "again")))
    def finish_too_late(self, how: str) -> None:
        """A process that is considered dead, but was only suspended, ends its run."""
        claim = self.lost[0]
        row = store.find(self.connection, "dev", claim.id)
        if (
            row is not None
            and row.progress.state is states.RequestState.RUNNING
            and row.progress.attempts == claim.attempt
        ):
            return  # no other process has taken it over yet, so it is still in time
        self.lost.pop(0)
        before = self.dump()
        assert self.do(lambda database: self.end(database, claim, how)) is False
        assert self.dump() == before

    def end(self, database: Any, claim: Claim, how: str) -> bool:
        data = b"%d/%d" % (claim.seq, claim.attempt)
        answer = StoredAnswer(200, (), Content(data, "", len(data)))
        step = {
            "done": lambda progress: states.succeed(progress, self.now),
            "again": lambda progress: states.fail(progress, self.now),
            "final": lambda progress: states.fail(progress, self.now, is_final=True),
            "no room": lambda progress: states.give_back(progress, self.now, 1.0),
        }[how]
        return store.finish(database, claim, step, answer, self.now)

    @rule(which=st.integers(0, 1))
    def kill(self, which: int) -> None:
        owner = sorted(self.claims)[which]
        self.lost += self.claims.pop(owner)
        self.owner += 1
        self.claims[self.owner] = []

    @rule(at=st.sampled_from((SURVIVES, SURVIVES, 2, 3)))
    def take_over(self, at: int) -> None:
        self.do(lambda database: store.take_from_gone(database, lambda owner: owner not in self.claims, self.now), at)

    @rule(identifier=st.sampled_from(IDS))
    def cancel(self, identifier: str) -> None:
        before = self.state_of(identifier)
        try:
            self.do(lambda database: store.cancel(database, "dev", identifier, self.now))
        except StepError:
            assert before not in {"queued", "canceled"}

    @rule(identifier=st.sampled_from(IDS))
    def redrive(self, identifier: str) -> None:
        before = self.state_of(identifier)
        try:
            self.do(lambda database: store.redrive(database, "dev", identifier, self.now))
        except StepError:
            assert before not in {"failed", "expired", "canceled"}

    @rule(wait_s=st.sampled_from((0.5, 3.0, 70.0)), at=st.sampled_from((SURVIVES, SURVIVES, 1, 2)))
    def wait(self, wait_s: float, at: int) -> None:
        self.now += wait_s
        self.do(lambda database: store.expire(database, self.now), at)
        for identifier in list(self.accepted):
            if not self.state_of(identifier):
                self.accepted.discard(identifier)
                self.answers.pop(identifier, None)

    @invariant()
    def keeps_what_it_accepted(self) -> None:
        assert {identifier for identifier in IDS if self.state_of(identifier)} == self.accepted

    @invariant()
    def never_changes_an_answer(self) -> None:
        for identifier in IDS:
            stored = store.find(self.connection, "dev", identifier)
            is_done = stored is not None and stored.progress.state is states.RequestState.DONE
            assert is_done == (identifier in self.answers)
            if stored is not None and is_done:
                assert stored.answer.content.data == self.answers[identifier]

    @invariant()
    def counts_right(self) -> None:
        rows = self.connection.execute("SELECT state, size, attempts, max_attempts FROM requests").fetchall()
        assert sum(row["state"] == "running" for row in rows) <= MOST_RUNNING
        assert all(row["attempts"] <= row["max_attempts"] for row in rows)
        usage = self.connection.execute("SELECT bytes, waiting FROM usage WHERE stage = 'dev'").fetchone()
        counted = (sum(row["size"] for row in rows), sum(row["state"] == "queued" for row in rows))
        assert (usage is None and not rows) or tuple(usage) == counted


QueueMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
TestQueue = QueueMachine.TestCase

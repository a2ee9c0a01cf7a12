"""Which loaded versions are unloaded when memory is short."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from turnout.gateway.shared.session_budget import TRIM_BYTES, SessionBudget
from turnout.gateway.shared.sessions import SessionUse, SharedSessions

MB = 1024 * 1024
LIMIT = 100


@dataclass(eq=False)
class FakeSession:
    name: int
    used_s: float = 0.0
    is_busy: bool = False
    is_loaded: bool = False
    unloaded: list[int] = field(default_factory=list)

    @property
    def is_idle(self) -> bool:
        return self.is_loaded and not self.is_busy

    def evict(self) -> str:
        assert self.is_idle
        self.is_loaded = False
        self.unloaded.append(self.name)
        return f"session {self.name}"


def shared_by(workers: int) -> SharedSessions:
    return SharedSessions(memoryview(bytearray(SharedSessions.size_of(workers))), workers=workers)


def budget_of(limit: int = LIMIT, shared: SharedSessions | None = None, *, worker: int = 0) -> SessionBudget:
    shared = shared or shared_by(1)
    shared.worker = worker
    return SessionBudget(limit, shared, lambda: None)


def load(budget: SessionBudget, session: FakeSession, size: int, at_s: float) -> list[str]:
    evicted = budget.begin(session, size)
    session.is_loaded, session.used_s = True, at_s
    return evicted


def test_least_recently_used_versions_are_unloaded() -> None:
    budget, sessions = budget_of(), [FakeSession(number) for number in range(5)]
    for number in range(4):
        load(budget, sessions[number], 25, at_s=number)
    sessions[0].used_s = 10
    assert load(budget, sessions[4], 30, at_s=11) == ["session 1", "session 2"]
    assert [session.is_loaded for session in sessions] == [True, False, False, True, True]
    assert budget.used_bytes == 80


def test_a_running_version_is_never_unloaded() -> None:
    budget = budget_of()
    running, idle, large = FakeSession(1, is_busy=True), FakeSession(2), FakeSession(3)
    load(budget, running, 50, at_s=1)
    load(budget, idle, 50, at_s=2)
    assert load(budget, large, 500, at_s=3) == ["session 2"]
    assert running.is_loaded
    assert budget.used_bytes == 550
    running.is_busy = False
    assert budget.shed() == ["session 1", "session 3"]


def test_real_memory_corrects_the_estimate_in_both_directions() -> None:
    budget = budget_of(1000)
    budget.start(own_bytes=100, resident_bytes=70)  # a worker and its supervisor: 800 are left
    load(budget, FakeSession(1), 400, at_s=1)
    load(budget, FakeSession(2), 400, at_s=2)
    assert not budget.has_room(1)
    assert budget.look(70 + 500) == []
    assert budget.used_bytes == 500
    assert budget.has_room(300)
    assert budget.look(70 + 900) == ["session 1"]


def test_sessions_in_other_processes_are_not_compared_with_the_memory_of_this_one() -> None:
    shared = shared_by(1)
    shared.worker = 0
    budget = SessionBudget(1000, shared, lambda: None, in_process=False)
    budget.start(own_bytes=100, resident_bytes=70)
    load(budget, session := FakeSession(1), 400, at_s=1)
    assert budget.look(70) == []
    assert budget.used_bytes == 400
    budget.resize(session, 700)
    assert shared.read() == [SessionUse(400, 1, 0)]
    budget.look(70)
    assert shared.read() == [SessionUse(700, 1, 0)]
    budget.end(session)
    budget.end(session)
    assert budget.used_bytes == 0


def test_worker_frees_what_exceeds_its_share() -> None:
    shared = shared_by(2)
    first, second = budget_of(shared=shared, worker=0), budget_of(shared=shared, worker=1)
    shared.worker = 0
    for number in range(10):
        load(first, FakeSession(number), 10, at_s=number)
    assert first.used_bytes == LIMIT  # it may use what the other worker does not use
    shared.worker = 1
    assert load(second, FakeSession(20), 30, at_s=1) == []
    shared.worker = 0
    assert first.shed() == ["session 0", "session 1", "session 2"]
    shared.worker = 1
    assert second.shed() == []
    assert shared.others_bytes() == 70


def test_a_process_that_serves_nothing_does_not_count() -> None:
    shared = shared_by(1)
    budget = SessionBudget(LIMIT, shared, lambda: None)
    load(budget, FakeSession(1), 50, at_s=1)
    assert shared.read() == [SessionUse()]


def test_memory_is_trimmed_after_enough_was_freed() -> None:
    trims: list[int] = []
    budget = SessionBudget(2 * TRIM_BYTES, shared_by(1), lambda: trims.append(1))
    load(budget, FakeSession(1), TRIM_BYTES // 2, at_s=1)
    load(budget, FakeSession(2), TRIM_BYTES, at_s=2)
    evicted = load(budget, FakeSession(3), TRIM_BYTES, at_s=3)
    budget.drop(evicted)
    assert (evicted, trims) == ([], [])
    budget.drop(load(budget, FakeSession(4), TRIM_BYTES, at_s=4))
    assert trims == [1]
    budget.drop([])
    assert trims == [1]


@given(
    st.lists(
        st.tuples(st.sampled_from(["call", "run", "end", "retire"]), st.integers(0, 7), st.integers(1, 60)), max_size=60
    )
)
def test_memory_stays_within_the_limit_unless_running_versions_exceed_it(steps: list[tuple[str, int, int]]) -> None:
    shared = shared_by(1)
    budget = budget_of(shared=shared)
    sessions = [FakeSession(number) for number in range(8)]
    sizes: dict[int, int] = {}
    loads = evictions = 0
    for now, (step, number, size) in enumerate(steps):
        session = sessions[number]
        if step in {"call", "run"}:
            if not session.is_loaded:
                idle = sorted((s.used_s, s.name) for s in sessions if s.is_idle)
                before = len(load(budget, session, size, at_s=now))
                assert not any(sessions[name].is_loaded for _, name in idle[:before])
                assert all(sessions[name].is_loaded for _, name in idle[before:])
                others_idle = any(s.is_idle for s in sessions if s is not session)
                assert budget.used_bytes <= LIMIT or not others_idle
                sizes[number] = size
                loads, evictions = loads + 1, evictions + before
            session.used_s, session.is_busy = now, session.is_busy or step == "run"
        elif step == "end":
            session.is_busy = False
        elif session.is_idle:
            session.is_loaded = False
            budget.end(session)
        kept = [s for s in sessions if s.is_loaded]
        assert budget.used_bytes == sum(sizes[s.name] for s in kept)
        assert shared.read() == [SessionUse(budget.used_bytes, loads, evictions)]
    budget.shed()
    assert budget.used_bytes <= LIMIT or not any(s.is_idle for s in sessions)

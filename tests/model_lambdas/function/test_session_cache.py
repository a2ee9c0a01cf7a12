"""The cache of a pool: it stays within its limit, keeps running versions, and loads each once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_lambdas.function.session_cache import NOTHING, SessionCache, Size

LIMIT = Size(100, 50)
SIZES = {"a": Size(10, 5), "b": Size(40, 5), "c": Size(60, 5), "d": Size(100, 10), "e": Size(10, 45), "huge": Size(170)}

WAIT_S = 60.0


class Recorder:
    """Records which entries are loaded, and how often each was."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.loads: list[str] = []
        self.unloads: list[str] = []
        self._lock = threading.Lock()

    def load(self, key: str) -> str:
        with self._lock:
            self.loads.append(key)
            self.loaded.append(key)
        return key.upper()

    def unload(self, key: str) -> None:
        with self._lock:
            self.unloads.append(key)
            self.loaded.remove(key)

    @property
    def size(self) -> Size:
        total = NOTHING
        for key in self.loaded:
            total += SIZES[key]
        return total


def make_cache() -> tuple[SessionCache[str, str], Recorder]:
    recorder = Recorder()
    return SessionCache(LIMIT, SIZES.__getitem__, recorder.load, recorder.unload), recorder


def use(cache: SessionCache[str, str], key: str) -> None:
    with cache.use(key) as value:
        assert value == key.upper()


@given(st.lists(st.sampled_from([*SIZES]), max_size=40))
def test_loaded_entries_fit_unless_there_is_only_one(keys: list[str]) -> None:
    cache, recorder = make_cache()
    for key in keys:
        use(cache, key)
        assert key in cache
        assert recorder.size == cache.used
        assert recorder.size.fits(LIMIT) or recorder.loaded == [key]


@given(st.lists(st.sampled_from(["a", "b", "c", "e"]), max_size=40))
def test_least_recently_used_entry_is_unloaded_first(keys: list[str]) -> None:
    cache, recorder = make_cache()
    expected: list[str] = []
    for key in keys:
        if key in expected:
            expected.remove(key)
        while not sum((SIZES[name] for name in expected), SIZES[key]).fits(LIMIT):
            del expected[0]
        expected.append(key)
        use(cache, key)
        assert sorted(recorder.loaded) == sorted(expected)


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.booleans()), max_size=30))
def test_running_entry_is_never_unloaded(steps: list[tuple[str, bool]]) -> None:
    """Each step is a call that continues, or one that ends at once, of versions that fit beside all running ones."""
    cache, recorder = make_cache()
    with ExitStack() as running:
        kept: set[str] = set()
        for key, goes_on in steps:
            beside = sum((SIZES[name] for name in kept - {key}), SIZES[key])
            if not beside.fits(LIMIT):
                continue
            if goes_on:
                running.enter_context(cache.use(key))
                kept.add(key)
            else:
                use(cache, key)
            assert kept <= set(recorder.loaded)
            assert recorder.size.fits(LIMIT)


def test_simultaneous_calls_load_a_version_once() -> None:
    entered = threading.Barrier(9)
    loads = []

    def load(key: str) -> str:
        loads.append(key)
        entered.wait(WAIT_S)  # every other call is waiting by then, or about to
        return key

    cache = SessionCache(LIMIT, SIZES.__getitem__, load)

    def call(number: int) -> str:
        if number:
            entered.wait(WAIT_S)
        with cache.use("a") as value:
            return value

    with ThreadPoolExecutor(9) as threads:
        assert set(threads.map(call, range(9))) == {"a"}
    assert loads == ["a"]


def test_other_versions_run_while_one_is_loaded() -> None:
    loading, may_end = threading.Event(), threading.Event()

    def load(key: str) -> str:
        if key == "b":
            loading.set()
            assert may_end.wait(WAIT_S)
        return key

    cache = SessionCache(LIMIT, SIZES.__getitem__, load)
    with cache.use("a"):
        pass
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(lambda: cache.use("b").__enter__())
        assert loading.wait(WAIT_S)
        with cache.use("a") as value:
            assert value == "a"
        assert "b" not in cache
        may_end.set()
        assert slow.result(WAIT_S) == "b"


def test_load_waits_until_running_entries_leave_room() -> None:
    cache, recorder = make_cache()
    with ThreadPoolExecutor(1) as threads:
        with cache.use("c"):
            waiting = threads.submit(use, cache, "d")
            with pytest.raises(TimeoutError):
                waiting.result(0.2)
            assert recorder.loaded == ["c"]
        waiting.result(WAIT_S)
    assert recorder.loaded == ["d"]


def test_oversized_version_is_loaded_when_nothing_else_is() -> None:
    cache, recorder = make_cache()
    use(cache, "a")
    use(cache, "huge")
    assert recorder.loaded == ["huge"]
    use(cache, "a")
    assert recorder.loaded == ["a"]


def test_failed_load_leaves_nothing_and_is_retried() -> None:
    attempts = []

    def load(key: str) -> str:
        attempts.append(key)
        if len(attempts) == 1:
            raise ValueError("no such file")
        return key

    cache = SessionCache(LIMIT, SIZES.__getitem__, load)
    with pytest.raises(ValueError, match="no such file"):
        use_lower(cache, "d")
    assert cache.used == NOTHING
    use_lower(cache, "d")
    assert attempts == ["d", "d"]


def use_lower(cache: SessionCache[str, str], key: str) -> None:
    with cache.use(key) as value:
        assert value == key


@given(st.lists(st.lists(st.sampled_from([*SIZES]), max_size=12), min_size=2, max_size=4))
def test_threads_stay_within_the_limit(threads: list[list[str]]) -> None:
    cache, recorder = make_cache()
    broken: list[list[str]] = []

    def run(keys: list[str]) -> None:
        for key in keys:
            with cache.use(key):
                loaded = list(recorder.loaded)
                if key not in loaded or (len(loaded) > 1 and "huge" in loaded):
                    broken.append(loaded)

    with ThreadPoolExecutor(len(threads)) as pool:
        for done in [pool.submit(run, keys) for keys in threads]:
            done.result(WAIT_S)
    assert broken == []
    assert recorder.size == cache.used
    assert recorder.size.fits(LIMIT) or len(recorder.loaded) == 1

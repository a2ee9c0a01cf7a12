"""Samples shared by all workers."""

from __future__ import annotations

import os

from turnout.gateway.shared.lock import SharedLock
from turnout.gateway.shared.samples import CAPACITY_BYTES, LARGEST_BYTES, OLDEST_S, SharedSamples


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def make(clock: Clock | None = None) -> SharedSamples:
    return SharedSamples(SharedLock(), 0, clock or Clock())


def test_lines_are_returned_once_oldest_first() -> None:
    samples = make()
    for number in range(3):
        samples.add("prod", b"line %d" % number)
    assert samples.take("prod", 2) == [b"line 0", b"line 1"]
    assert samples.take("prod", 2) == [b"line 2"]
    assert samples.take("prod", 2) == []


def test_stages_are_kept_separate() -> None:
    samples = make()
    samples.add("prod", b"p")
    samples.add("dev", b"d")
    assert samples.take("prod", 10) == [b"p"]
    assert samples.take("dev", 10) == [b"d"]


def test_samples_added_by_another_process_are_returned() -> None:
    samples = make()
    child = os.fork()
    if child == 0:
        samples.add("prod", b"from the child")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert samples.take("prod", 10) == [b"from the child"]


def test_old_samples_are_dropped() -> None:
    clock = Clock()
    samples = make(clock)
    samples.add("prod", b"old")
    clock.now += OLDEST_S / 2
    samples.add("prod", b"new")
    clock.now += OLDEST_S / 2 + 1
    assert samples.take("prod", 10) == [b"new"]


def test_a_sample_that_is_too_large_is_dropped() -> None:
    samples = make()
    samples.add("prod", bytes(LARGEST_BYTES + 1))
    assert samples.take("prod", 10) == []


def test_when_full_the_newest_samples_are_kept() -> None:
    samples = make()
    line = bytes(LARGEST_BYTES - 100)
    for _ in range(CAPACITY_BYTES // LARGEST_BYTES):
        samples.add("prod", line)
    samples.add("prod", b"small")
    assert len(samples.take("prod", 100)) == CAPACITY_BYTES // LARGEST_BYTES + 1
    for _ in range(CAPACITY_BYTES // LARGEST_BYTES):
        samples.add("prod", line)
    samples.add("prod", line)
    assert samples.take("prod", 100) == [line]


def test_recent_lines_are_returned_again_newest_first() -> None:
    clock = Clock()
    samples = make(clock)
    samples.add("dev", b"other")
    for number in range(4):
        samples.add("prod", b"line %d" % number)
    assert samples.take("prod", 2) == [b"line 0", b"line 1"]
    assert samples.recent("prod", 3) == [b"line 3", b"line 2", b"line 1"]
    assert samples.recent("prod", 0) == []
    assert samples.take("prod", 10) == [b"line 2", b"line 3"], "looking takes nothing"
    clock.now += OLDEST_S + 1
    assert samples.recent("prod", 10) == []


def test_when_full_samples_already_returned_are_dropped_first() -> None:
    samples = make()
    line = bytes(LARGEST_BYTES - 100)
    for _ in range(CAPACITY_BYTES // LARGEST_BYTES - 1):
        samples.add("prod", line)
    samples.add("dev", b"still wanted")
    assert samples.take("prod", 100) == [line] * (CAPACITY_BYTES // LARGEST_BYTES - 1)
    samples.add("prod", line)
    samples.add("prod", line)
    assert samples.take("dev", 10) == [b"still wanted"]
    assert samples.recent("prod", 100) == [line] * 2

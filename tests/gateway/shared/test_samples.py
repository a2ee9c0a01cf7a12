"""Samples that all workers share."""

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


def test_lines_are_taken_once_the_oldest_first() -> None:
    samples = make()
    for number in range(3):
        samples.add("prod", b"line %d" % number)
    assert samples.take("prod", 2) == [b"line 0", b"line 1"]
    assert samples.take("prod", 2) == [b"line 2"]
    assert samples.take("prod", 2) == []


def test_stages_are_kept_apart() -> None:
    samples = make()
    samples.add("prod", b"p")
    samples.add("dev", b"d")
    assert samples.take("prod", 10) == [b"p"]
    assert samples.take("dev", 10) == [b"d"]


def test_what_another_process_added_is_taken_here() -> None:
    samples = make()
    child = os.fork()
    if child == 0:
        samples.add("prod", b"from the child")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert samples.take("prod", 10) == [b"from the child"]


def test_what_is_old_is_gone() -> None:
    clock = Clock()
    samples = make(clock)
    samples.add("prod", b"old")
    clock.now += OLDEST_S / 2
    samples.add("prod", b"new")
    clock.now += OLDEST_S / 2 + 1
    assert samples.take("prod", 10) == [b"new"]


def test_a_sample_that_is_too_large_is_not_kept() -> None:
    samples = make()
    samples.add("prod", bytes(LARGEST_BYTES + 1))
    assert samples.take("prod", 10) == []


def test_where_no_room_is_left_the_newest_have_it() -> None:
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


def test_recent_lines_are_there_again_the_newest_first() -> None:
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


def test_where_no_room_is_left_what_was_taken_goes_first() -> None:
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

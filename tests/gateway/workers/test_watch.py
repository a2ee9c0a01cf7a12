"""When a change of files is reported."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from turnout.gateway.editions.edition import stamps_of
from turnout.gateway.workers.watch import Watch, is_open_for_writing


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Looking:
    """A watch with a fake clock; `turns` polls every tenth of a second."""

    def __init__(self, files: Iterable[Path]) -> None:
        self.clock = Clock()
        self.written: set[Path] = set()
        self.watch = Watch(dict(stamps_of(files)), clock=self.clock, is_written=lambda file: file in self.written)

    def turns(self, number: int) -> list[int]:
        """Return the polls that reported a change."""
        turns = []
        for turn in range(number):
            self.clock.now += 0.1
            if self.watch.poll():
                turns.append(turn)
        return turns


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"one")
    return file


def test_a_change_is_reported_once_when_nothing_changes_any_more(file: Path) -> None:
    looking = Looking([file])
    assert looking.turns(20) == []
    file.write_bytes(b"other")
    assert len(looking.turns(20)) == 1
    assert looking.turns(20) == []


def test_a_growing_file_is_not_reported(file: Path) -> None:
    looking = Looking([file])
    looking.turns(5)
    for size in range(30):
        file.write_bytes(b"x" * (10 + size))
        assert looking.turns(1) == []
    assert len(looking.turns(10)) == 1


def test_a_file_open_for_writing_delays_the_report_for_a_limited_time(file: Path) -> None:
    looking = Looking([file])
    looking.written = {file}
    file.write_bytes(b"half")
    assert looking.turns(100) == []
    looking.written = set()
    assert len(looking.turns(10)) == 1
    looking.written = {file}
    file.write_bytes(b"forgotten")
    looking.turns(3)
    looking.clock.now += 600
    assert len(looking.turns(10)) == 1


def test_a_replaced_a_new_and_a_deleted_file_are_changes(file: Path, tmp_path: Path) -> None:
    missing = tmp_path / "folder" / "later.onnx"
    looking = Looking([file, missing])
    beside = tmp_path / "beside"
    beside.write_bytes(b"one")
    os.utime(beside, ns=(0, file.stat().st_mtime_ns))
    beside.replace(file)  # same size, same time: still another file
    assert len(looking.turns(10)) == 1
    missing.parent.mkdir()
    assert looking.turns(10) == []
    missing.write_bytes(b"new")
    assert len(looking.turns(10)) == 1
    file.unlink()
    assert len(looking.turns(10)) == 1


def test_changes_before_the_start_of_the_watch_are_reported(file: Path) -> None:
    stamps = dict(stamps_of([file]))
    file.write_bytes(b"changed since it was read")
    clock = Clock()
    watch = Watch(stamps, clock=clock, is_written=lambda _: False)
    clock.now += 1
    assert watch.poll()


def test_watching_other_files_loses_no_change(file: Path, tmp_path: Path) -> None:
    looking = Looking([file])
    other = tmp_path / "other"
    stamps = dict(stamps_of([file, other]))
    file.write_bytes(b"changed while it was read")
    looking.watch.replace_files({**stamps, file: stamps[file]})
    assert len(looking.turns(10)) == 1
    other.write_bytes(b"here")
    assert len(looking.turns(10)) == 1
    looking.watch.replace_files(dict(stamps_of([other])))
    file.write_bytes(b"nobody asks")
    assert looking.turns(10) == []


def test_polling_takes_a_small_share_of_the_time(file: Path) -> None:
    looking = Looking([file])
    slow = looking.clock
    slow.now += 1

    def read_clock() -> float:
        slow.now += 0.5
        return slow.now

    looking.watch._clock = read_clock
    looking.watch.poll()
    looking.watch._clock = slow
    assert looking.watch.wait_s() >= 9


def test_linux_reports_files_open_for_writing(file: Path, tmp_path: Path) -> None:
    assert not is_open_for_writing(file)
    with file.open("ab"):
        assert is_open_for_writing(file)
    with file.open("rb"):
        assert not is_open_for_writing(file)
    assert not is_open_for_writing(tmp_path / "missing")
    assert not is_open_for_writing(tmp_path)

"""What tests/conftest.py does for every test."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT, SLOW, UNMEASURED, is_within


def test_every_slow_folder_and_file_exists() -> None:
    assert [name for name in (*SLOW, *UNMEASURED) if not (ROOT / name).exists()] == []


def test_no_slow_entry_contains_another() -> None:
    assert [name for name in SLOW if any(is_within(parent, SLOW) for parent in (ROOT / name).parents)] == []


def test_a_file_is_slow_by_its_folder_and_not_by_a_prefix_of_its_name() -> None:
    assert is_within(ROOT / "tests/e2e/test_stop.py", SLOW)
    assert is_within(ROOT / "tests/e2e", SLOW)
    assert not is_within(ROOT / "tests/e2e_of_others/test_stop.py", SLOW)
    assert not is_within(ROOT / "tests", SLOW)
    assert not is_within(Path("/elsewhere/tests/e2e"), SLOW)


@pytest.mark.parametrize("pid", [0, -1, 1])
def test_no_test_signals_a_whole_group(pid: int) -> None:
    with pytest.raises(AssertionError, match="group"):
        os.kill(pid, signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGALRM])
def test_no_test_ends_its_own_process(number: int) -> None:
    with pytest.raises(AssertionError, match="this test process"):
        os.kill(os.getpid(), number)
    with pytest.raises(AssertionError, match="this test process"):
        os.kill(os.getppid(), number)
    with pytest.raises(AssertionError, match="this test process"):
        os.killpg(0, number)


def test_a_test_may_signal_itself_while_it_handles_the_signal() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]


def test_children_can_still_be_killed() -> None:
    child = subprocess.Popen(["sleep", "600"])
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
